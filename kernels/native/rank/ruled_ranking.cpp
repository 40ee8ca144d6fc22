#include "rank/ruled_ranking.hpp"

#include <algorithm>
#include <numeric>

namespace mtaw {
namespace {

constexpr std::int64_t kGrowth = 4;          // how much more of a ranking is read when rules need more
constexpr std::int64_t kMaxCells = 1 << 22;  // of the rankings that are in memory at a time
constexpr std::int64_t kMaxSessions = 1024;  // that are ranked at a time

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
    std::int64_t depth = std::max(rules.depth(k, n_shown), std::int64_t{1});
    const bool once = depth <= call.approximate;
    if (once) depth = std::min(call.approximate, n_shown);

    std::vector<Arranged> results(static_cast<std::size_t>(sessions.count));
    std::vector<std::int64_t> remaining(results.size());
    std::iota(remaining.begin(), remaining.end(), 0);
    std::vector<std::int32_t> ids;
    std::vector<float> scores;
    while (!remaining.empty()) {
        std::vector<std::int64_t> unfinished;
        const auto step = static_cast<std::size_t>(std::clamp(kMaxCells / depth, std::int64_t{1}, kMaxSessions));
        for (std::size_t begin = 0; begin < remaining.size(); begin += step) {
            const auto first = remaining.begin() + static_cast<std::ptrdiff_t>(begin);
            const std::vector<std::int64_t> rows(
                first, first + static_cast<std::ptrdiff_t>(std::min(step, remaining.size() - begin)));
            ids.resize(rows.size() * static_cast<std::size_t>(depth));
            scores.resize(ids.size());
            rank(rows, depth, ruled, ids.data(), scores.data());
            for (std::size_t i = 0; i < rows.size(); ++i) {
                const std::int32_t* const row_ids = ids.data() + static_cast<std::int64_t>(i) * depth;
                const float* const row_scores = scores.data() + static_cast<std::int64_t>(i) * depth;
                const std::int64_t count = std::find(row_ids, row_ids + depth, -1) - row_ids;
                const bool whole = once || count < depth || depth >= n_shown;
                const std::int64_t offset = sessions.offsets[rows[i]];
                const std::vector<Pin> pins =
                    rules.shown_pins(conditions, sessions.clicks + offset, sessions.offsets[rows[i] + 1] - offset);
                Arranged& result = results[static_cast<std::size_t>(rows[i])];
                if (!rules.arrangement().arrange({row_ids, row_scores, count, whole}, k, pins, result)) {
                    unfinished.push_back(rows[i]);
                } else {
                    result.ran_out = once && count == depth && static_cast<std::int64_t>(result.ids.size()) < k;
                }
            }
        }
        remaining = std::move(unfinished);
        depth = std::min(depth * kGrowth, n_shown);
    }
    return results;
}

SelectedSessions::SelectedSessions(const PackedSessions& from, const std::vector<std::int64_t>& rows,
                                   std::int64_t n_context)
    : sessions_(from) {
    if (static_cast<std::int64_t>(rows.size()) == from.count) return;  // the rows ascend
    offsets_.push_back(0);
    for (const std::int64_t row : rows) {
        const std::int64_t begin = from.offsets[row], end = from.offsets[row + 1];
        clicks_.insert(clicks_.end(), from.clicks + begin, from.clicks + end);
        offsets_.push_back(static_cast<std::int64_t>(clicks_.size()));
        if (from.times != nullptr) times_.insert(times_.end(), from.times + begin, from.times + end);
        if (from.types != nullptr) types_.insert(types_.end(), from.types + begin, from.types + end);
        if (from.context != nullptr) {
            context_.insert(context_.end(), from.context + begin * n_context, from.context + end * n_context);
        }
    }
    sessions_ = {clicks_.data(), offsets_.data(), static_cast<std::int64_t>(rows.size())};
    if (from.times != nullptr) sessions_.times = times_.data();
    if (from.types != nullptr) sessions_.types = types_.data();
    if (from.context != nullptr) sessions_.context = context_.data();
}

}  // namespace mtaw
