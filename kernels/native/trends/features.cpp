#include "trends/features.hpp"

#include <algorithm>

namespace mtaw {
namespace {

constexpr bool kLog = true, kPlain = false;

#define MTAW_RULE(name, transform, shift, x) {k##transform, shift},
constexpr ColumnRule kQueryRules[] = {MTAW_TREND_QUERY_FEATURES(MTAW_RULE)};
constexpr ColumnRule kColumnRules[] = {MTAW_TREND_CANDIDATE_FEATURES(MTAW_RULE)};
#undef MTAW_RULE

}  // namespace

#define MTAW_NAME(name, transform, shift, x) #name,
const char* const kTrendFeatureNames[] = {MTAW_TREND_QUERY_FEATURES(MTAW_NAME)
                                              MTAW_TREND_CANDIDATE_FEATURES(MTAW_NAME)};
#undef MTAW_NAME

void trend_query_features(const TrendFacts& query, const ColumnKernels& kernels, float* out) {
    float values[kTrendQueryFeatures + kPadding];
    std::fill(values, values + kTrendQueryFeatures + kPadding, 1.0F);
    std::int64_t k = 0;
#define MTAW_VALUE(name, transform, shift, x)         \
    out[k] = x;                                       \
    values[k] = k##transform ? out[k] + shift : 1.0F; \
    ++k;
    MTAW_TREND_QUERY_FEATURES(MTAW_VALUE)
#undef MTAW_VALUE
    kernels.log(values, kTrendQueryFeatures);
    for (k = 0; k < kTrendQueryFeatures; ++k) {
        if (kQueryRules[k].log) out[k] = values[k];
    }
}

void transform_trends(float* columns, std::int64_t count, const ColumnKernels& kernels) {
    kernels.transform(columns, kColumnRules, kTrendColumns, count);
}

}  // namespace mtaw
