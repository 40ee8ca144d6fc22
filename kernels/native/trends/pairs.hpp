// Pairs as queries read them: which of a row, and what each is worth in the pre-score.
#pragma once

#include <bit>
#include <cstdint>

#include "compiler.hpp"
#include "trends/delta.hpp"

namespace mtaw {

static MTAW_INLINE float widened(std::uint16_t value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

// What a pair lane's fwd is worth in the pre-score; bwd half of it.
constexpr float kPreScoreLanes[kPairLanes] = {0.6F, 1.0F, 0.0F, 0.4F, 0.0F};

// A pair's part of a pre-score: kPreLanes of fwd, then of bwd.
template <typename T>
static MTAW_INLINE T pair_pre_score(const T* value, const T* factors) {
    return (value[0] * factors[0] + value[1] * factors[1] + value[3] * factors[3]) +
           (value[kPairLanes] * factors[kPairLanes] + value[kPairLanes + 1] * factors[kPairLanes + 1] +
            value[kPairLanes + 3] * factors[kPairLanes + 3]);
}

static MTAW_INLINE void widen(const std::uint16_t* value, float* out) {
    for (int k = 0; k < kPairSums; ++k) out[k] = widened(value[k]);
}

// Calls visit(begin, end) for the runs of pairs of a row of the tables that a query reads.
template <typename Visit>
static inline void for_each_run(const TrendRow& base, const ItemDelta* delta, const Visit& visit) {
    if (delta == nullptr || !delta->narrowed) {
        visit(std::int64_t{0}, base.count);
        return;
    }
    for (const auto& [begin, end] : delta->base_runs) visit(std::int64_t{begin}, std::int64_t{end});
}

}  // namespace mtaw
