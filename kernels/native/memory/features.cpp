#include "memory/features.hpp"

#include "memory/merged_tables.hpp"

#include <algorithm>
#include <cstddef>

namespace mtaw {
namespace {

constexpr bool kLog = true, kPlain = false;

#define MTAW_RULE(name, transform, shift, x) {k##transform, shift},
constexpr ColumnRule kQueryRules[] = {MTAW_QUERY_FEATURES(MTAW_RULE)};
constexpr ColumnRule kColumnRules[] = {MTAW_CANDIDATE_FEATURES(MTAW_RULE) MTAW_OWN_FEATURES(MTAW_RULE)};
#undef MTAW_RULE

// The odds that a click on the item is followed as the hits were, with 10 clicks and one hit added.
float odds_of(std::int32_t hits, std::int32_t clicks) {
    const float probability = (static_cast<float>(hits) + 1.0F) / (static_cast<float>(clicks) + 10.0F);
    return probability / (1.0F - std::min(probability, 0.999F));
}

void fill_own(const FeatureSource& source, std::int32_t slot, float* column) {
    const QueryFacts& query = source.facts;
    const OwnItem& own = source.own.list[slot];
    const std::int32_t* const counts = source.own.counts[slot];
    const auto rank = static_cast<float>(slot);
#define MTAW_FILL(name, transform, shift, x) \
    *column = x;                             \
    column += kTile;
    MTAW_OWN_FEATURES(MTAW_FILL)
#undef MTAW_FILL
}

void fill_own_neutral(float* column) {
#define MTAW_NEUTRAL(name, transform, shift, x)   \
    *column = k##transform ? 1.0F - shift : 0.0F; \
    column += kTile;
    MTAW_OWN_FEATURES(MTAW_NEUTRAL)
#undef MTAW_NEUTRAL
}

}  // namespace

#define MTAW_NAME(name, transform, shift, x) #name,
const char* const kFeatureNames[] = {MTAW_QUERY_FEATURES(MTAW_NAME) MTAW_CANDIDATE_FEATURES(MTAW_NAME)
                                         MTAW_OWN_FEATURES(MTAW_NAME)};
#undef MTAW_NAME

void query_features(const QueryFacts& query, const MemoryKernels& kernels, float* out) {
    float values[kQueryFeatures + kPadding];
    std::fill(values, values + kQueryFeatures + kPadding, 1.0F);
    std::int64_t k = 0;
#define MTAW_VALUE(name, transform, shift, x)         \
    out[k] = x;                                       \
    values[k] = k##transform ? out[k] + shift : 1.0F; \
    ++k;
    MTAW_QUERY_FEATURES(MTAW_VALUE)
#undef MTAW_VALUE
    kernels.log(values, kQueryFeatures);
    for (k = 0; k < kQueryFeatures; ++k) {
        if (kQueryRules[k].log) out[k] = values[k];
    }
}

std::int64_t fill_tile(const FeatureSource& source, const std::int32_t* slots, std::int64_t count,
                       const MemoryKernels& kernels, float* columns) {
    std::int32_t padded[kTile];
    alignas(64) float counts[kCountKinds * kTile];
    std::int64_t n_own = 0;
    for (std::int64_t i = 0; i < kTile; ++i) {
        padded[i] = slots[i < count ? i : 0];
        std::int32_t item_counts[kCountKinds];
        if (padded[i] < source.own.count) {
            std::copy_n(source.own.counts[padded[i]], kCountKinds, item_counts);
        } else {
            source.memory.counts(source.pool.items[padded[i]], item_counts);
            item_counts[kNewest] = static_cast<std::int32_t>(source.current.number_without(item_counts[kNewest]));
        }
        for (const int kind : {kClicks, kSessions, kNewest}) {
            counts[kind * kTile + i] = static_cast<float>(item_counts[kind]);
        }
        n_own += padded[i] < source.own.count ? 1 : 0;
    }
    kernels.fill({&source.pool, &source.facts, padded, count, counts, columns});
    const std::int64_t depth = n_own > 0 ? kColumns : kCandidateFeatures;
    if (n_own > 0) {
        for (std::int64_t i = 0; i < kTile; ++i) {
            float* const column = columns + kCandidateFeatures * kTile + i;
            if (padded[i] < source.own.count) {
                fill_own(source, padded[i], column);
            } else {
                fill_own_neutral(column);
            }
        }
    }
    kernels.transform(columns, kColumnRules, depth, count);
    return depth;
}

}  // namespace mtaw
