#include "rank/ruled_ranking.hpp"

#include <algorithm>
#include <functional>

namespace mtaw {
namespace {

constexpr std::int64_t kGrowth = 4;          // how much more of a ranking is read when rules need more
constexpr std::int64_t kMaxCells = 1 << 22;  // of the rankings that are in memory at a time

// Ranks sessions deeper and deeper, until `arrange` has enough of each.
template <typename Arrange>
void rank_rows(const RuledCall& call, std::int64_t k, std::int64_t n_shown, std::int64_t approximate,
               std::vector<std::int64_t> remaining, const Conditions& conditions, const RankRows& rank,
               const Arrange& arrange, std::vector<Arranged>& results) {
    std::int64_t depth = std::max(call.rules->depth(k, n_shown), std::int64_t{1});
    const bool once = depth <= approximate;
    if (once) depth = std::min(approximate, n_shown);
    std::vector<std::int32_t> ids;
    std::vector<float> scores;
    while (!remaining.empty()) {
        std::vector<std::int64_t> unfinished;
        const std::int64_t step = std::max(kMaxCells / depth, std::int64_t{1});
        for (auto begin = remaining.begin(); begin != remaining.end();) {
            const auto end = begin + std::min<std::ptrdiff_t>(step, remaining.end() - begin);
            const std::vector<std::int64_t> rows(begin, end);
            begin = end;
            ids.resize(rows.size() * static_cast<std::size_t>(depth));
            scores.resize(ids.size());
            rank(rows, depth, conditions, ids.data(), scores.data());
            for (std::size_t i = 0; i < rows.size(); ++i) {
                const std::int32_t* const row_ids = ids.data() + static_cast<std::int64_t>(i) * depth;
                const std::int64_t count = std::find(row_ids, row_ids + depth, -1) - row_ids;
                const bool whole = once || count < depth || depth >= n_shown;
                if (!arrange(rows[i], {row_ids, scores.data() + static_cast<std::int64_t>(i) * depth, count, whole})) {
                    unfinished.push_back(rows[i]);
                    continue;
                }
                Arranged& result = results[static_cast<std::size_t>(rows[i])];
                result.ran_out = once && count == depth && static_cast<std::int64_t>(result.ids.size()) < k;
            }
        }
        remaining = std::move(unfinished);
        depth = std::min(depth * kGrowth, n_shown);
    }
}

}  // namespace

std::vector<Arranged> rank_ruled(const RuledCall& call, const PackedSessions& sessions, std::int64_t k,
                                 const Conditions& conditions, const RankRows& rank) {
    const AppliedRules& rules = *call.rules;
    Conditions ruled = conditions;
    ruled.always_ranked = rules.arrangement().raised();
    std::vector<std::uint8_t> allowed;
    if (rules.filter() != nullptr && conditions.allowed != nullptr) {
        allowed.resize(static_cast<std::size_t>((rules.arrangement().n_items() + 7) / 8));
        std::transform(rules.filter(), rules.filter() + allowed.size(), conditions.allowed, allowed.begin(),
                       std::bit_and<>());
        ruled.allowed = allowed.data();
    } else if (rules.filter() != nullptr) {
        ruled.allowed = rules.filter();
    }
    const std::int64_t n_shown = std::max(call.n_shown, std::int64_t{1});  // an empty ranking too is read to its end
    std::vector<Arranged> results(static_cast<std::size_t>(sessions.count));
    // Whether `part` of a session's ranking is enough.
    const auto arrange = [&](std::int64_t row, const RankedPart& part) {
        const std::int64_t begin = sessions.offsets[row];
        const std::vector<Pin> pins =
            rules.shown_pins(conditions, sessions.clicks + begin, sessions.offsets[row + 1] - begin);
        return rules.arrangement().arrange(part, k, pins, results[static_cast<std::size_t>(row)]);
    };
    for (const bool with_clicks : {true, false}) {
        std::vector<std::int64_t> remaining;
        for (std::int64_t row = 0; row < sessions.count; ++row) {
            if ((sessions.offsets[row] < sessions.offsets[row + 1]) == with_clicks) remaining.push_back(row);
        }
        rank_rows(call, k, n_shown, with_clicks ? call.approximate : 0, remaining, ruled, rank, arrange, results);
    }
    return results;
}

}  // namespace mtaw
