// As much of a ranking as its rules need.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "rules/arrange.hpp"

namespace mtaw {

constexpr std::int64_t kDepthGrowth = 4;  // how much more of a ranking is read when rules need more

// Writes the first k items after the rules. rank(depth, ids, scores) writes the first `depth` items of the ranking,
// padded with -1: `depth` of them at first, then more as the rules need them. n_shown: items that can be recommended.
template <typename Rank>
void rank_ruled(const Arrangement& rules, const std::vector<Pin>& pins, std::int64_t k, std::int64_t depth,
                std::int64_t n_shown, const Rank& rank, Arranged& result) {
    std::vector<std::int32_t> ids;
    std::vector<float> scores;
    for (std::int64_t n_read = std::max(depth, std::int64_t{1});; n_read *= kDepthGrowth) {
        n_read = std::min(n_read, std::max(n_shown, std::int64_t{1}));
        ids.resize(static_cast<std::size_t>(n_read));
        scores.resize(ids.size());
        rank(n_read, ids.data(), scores.data());
        const std::int64_t count = std::find(ids.begin(), ids.end(), -1) - ids.begin();
        const bool whole = count < n_read || n_read >= n_shown;
        if (rules.arrange({ids.data(), scores.data(), count, whole}, k, pins, result)) return;
    }
}

}  // namespace mtaw
