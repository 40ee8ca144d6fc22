// Rankings under rules: what the rules make of the whole ranked catalog, from as much of the ranking as that takes.
//
// The definition: rank everything that is allowed (Conditions, and the filter of the rules), with the ranker's score
// for each candidate that a boost raises, add the boosts to the scores, sort, take from the top what the limits let
// through, put the pins at their positions, and keep the first k.
//
// A ranking of k items is the beginning of one of n > k items. So its first items are read, and more of them, until no
// item behind them can change the result (rules/README.md).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "rank/applied_rules.hpp"
#include "rank/engine.hpp"

namespace mtaw {

struct RuledCall {
    const AppliedRules* rules = nullptr;
    std::int64_t n_shown = 0;  // items that can be recommended
    // Up to how many items the ranking of a session with clicks is approximate: these are read at once, and what is
    // behind them never. 0: it is exact.
    std::int64_t approximate = 0;
};

// Writes the first `depth` items of the rankings of some sessions, by their positions: ids [rows.size(), depth] and
// scores, padded with -1 / -infinity.
using RankRows = std::function<void(const std::vector<std::int64_t>& rows, std::int64_t depth,
                                    const Conditions& conditions, std::int32_t* ids, float* scores)>;

// The first k items of each session under the same rules. conditions: what else decides which items may be found.
std::vector<Arranged> rank_ruled(const RuledCall& call, const PackedSessions& sessions, std::int64_t k,
                                 const Conditions& conditions, const RankRows& rank);

}  // namespace mtaw
