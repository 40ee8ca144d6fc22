#include "trends/features.hpp"

#include <algorithm>

#include "compiler.hpp"
#include "trends/trends.hpp"

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

void Trends::set_side_facts(const TrendsRequest& request, TrendsScratch& scratch) const {
    TrendsScratch::Side& side = scratch.side_;
    const ContextShape& shape = delta_.shape();
    side.content = request.content;
    side.n_features = n_side_features(shape, request.content);
    for (std::int64_t c = 0; c < shape.n_columns; ++c) {
        const std::int64_t value = request.context == nullptr ? -1 : shape.value_of(c, request.context[c]);
        side.value[c] = value;
        float total = 0;
        if (value >= 0) {
            const double base = base_.context.totals[value] * static_cast<double>(scratch.factors_.base[kContextLane]);
            total =
                std::max(to_float(base + delta_.context_totals()[value] * scratch.factors_.delta[kContextLane]), 0.0F);
        }
        side.per_total[c] = 1.0F / (total + kContextPrior);
    }
    if (request.content == nullptr) return;
    side.n_own = request.n_own;
    for (std::int64_t k = 0; k < request.content->n_categories; ++k) {
        std::int64_t known = 0;
        for (std::int64_t u = 0; u < request.n_own; ++u) {
            side.own[k][u] = request.content->category(k, request.own[u]);
            known += side.own[k][u] == kNoCategory ? 0 : 1;
        }
        side.per_known[k] = known == 0 ? 0.0F : 2.0F / static_cast<float>(known);
    }
}

void Trends::prefetch_side(std::int64_t item, const TrendsScratch& scratch) const {
    if (delta_.shape().n_columns > 0 && item < base_.n_items) MTAW_PREFETCH(base_.context.offsets + item);
    const ItemContent* const content = scratch.side_.content;
    if (content == nullptr || item >= content->n_items) return;
    for (std::int64_t k = 0; k < content->n_categories; ++k) MTAW_PREFETCH(content->categories[k] + item);
    if (content->created != nullptr) MTAW_PREFETCH(content->created + item);
}

float Trends::context_sum(std::int64_t item, const ItemDelta* delta, std::int64_t value,
                          const TrendFactors& factors) const {
    float sum = 0;
    const TrendRow base = delta_.base().row(item);
    const std::uint16_t* const end = base.context + base.n_context;
    const std::uint16_t* const found = std::lower_bound(base.context, end, static_cast<std::uint16_t>(value));
    if (found != end && *found == value) sum = base.context_sums[found - base.context] * factors.base[kContextLane];
    if (delta != nullptr) {
        const auto found_in_delta =
            std::find(delta->context.begin(), delta->context.end(), static_cast<std::uint16_t>(value));
        if (found_in_delta != delta->context.end()) {
            const auto index = static_cast<std::size_t>(found_in_delta - delta->context.begin());
            sum += to_float(delta->context_sums[index] * factors.delta[kContextLane]);
        }
    }
    return std::max(sum, 0.0F);
}

void Trends::fill_side(std::int64_t item, const ItemDelta* delta, float popularity, float first, float* column,
                       const TrendsScratch& scratch) const {
    const TrendsScratch::Side& side = scratch.side_;
    for (std::int64_t c = 0; c < delta_.shape().n_columns; ++c) {
        const float sum = side.value[c] < 0 ? 0.0F : context_sum(item, delta, side.value[c], scratch.factors_);
        const float share = (sum + kContextPrior * popularity) * side.per_total[c];
        column[0] = share;
        column[kTile] = share / popularity;
        column += 2 * kTile;
    }
    const ItemContent* const content = side.content;
    if (content == nullptr) return;
    for (std::int64_t k = 0; k < content->n_categories; ++k) {
        const std::int32_t category = content->category(k, item);
        float same = 0, part = 0;
        if (category != kNoCategory) {
            const std::int32_t* const own = side.own[k];
            if (own[0] != kNoCategory) same = own[0] == category ? 1.0F : -1.0F;
            std::int64_t matches = 0;
            for (std::int64_t u = 0; u < side.n_own; ++u) matches += own[u] == category ? 1 : 0;
            if (side.per_known[k] > 0) part = static_cast<float>(matches) * side.per_known[k] - 1.0F;
        }
        column[0] = same;
        column[kTile] = part;
        column += 2 * kTile;
    }
    if (content->created == nullptr) return;
    const std::int64_t created = content->time(item);
    const float age =
        created == kNoTime ? first : static_cast<float>(std::max<std::int64_t>(scratch.now_ - created, 0)) * 1e-3F;
    *column = age / 60.0F;
}

void Trends::transform_side(float* columns, std::int64_t count, const ColumnKernels& kernels,
                            const TrendsScratch& scratch) const {
    const ItemContent* const content = scratch.side_.content;
    const std::int64_t n_context = 2 * delta_.shape().n_columns;
    ColumnRule rules[kMaxSide] = {};
    for (std::int64_t k = 0; k < n_context; ++k) rules[k] = {true, 0.0F};
    if (content != nullptr && content->created != nullptr) rules[scratch.side_.n_features - 1] = {true, 1.0F};
    kernels.transform(columns, rules, scratch.side_.n_features, count);
}

}  // namespace mtaw
