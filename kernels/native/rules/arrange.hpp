// Applies boosts, limits and pins to the first items of a ranking, and says whether these suffice.
#pragma once

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace mtaw {

// Adds `by` to the scores of the items whose bit is set.
struct Boost {
    const std::uint8_t* bits;
    double by;
    std::int64_t count;  // of set bits, over all items that the ranking may contain, or more
};

// At most `most` items of a list have the same value. One pointer is set, for lists of values two. An item without a
// value, or behind the last row, is not limited; one with several values counts for each of them.
struct Limit {
    const std::int32_t* codes = nullptr;  // of all rows end to end if there are offsets
    const std::int64_t* offsets = nullptr;
    const std::int8_t* flags = nullptr;
    std::int64_t n_rows = 0;
    std::int64_t most = 1;
};

struct Pin {
    std::int64_t position;  // from 1
    std::int32_t item;
};

// The first `count` items of a ranking, best first; equal scores in the order of the ids.
struct RankedPart {
    const std::int32_t* ids;
    const float* scores;
    std::int64_t count;
    bool whole;  // whether nothing comes behind them
};

struct Arranged {
    std::vector<std::int32_t> ids;
    std::vector<float> scores;   // with the boosts; of pinned items see score_pins
    std::vector<double> boosts;  // what was added
    std::vector<std::uint8_t> pinned;
};

class Arrangement {
   public:
    Arrangement(std::int64_t n_items, std::vector<Boost> boosts, std::vector<Limit> limits);

    // Writes the first k items of the arranged ranking and returns true, or returns false if they may depend on items
    // behind `part`. pins: ascending by position, distinct items, all of which may be shown. Throws std::out_of_range
    // on an id outside the items.
    bool arrange(const RankedPart& part, std::int64_t k, const std::vector<Pin>& pins, Arranged& result) const;

    std::int64_t n_items() const { return n_items_; }
    // Bits of the items whose boosts add up to more than 0; null without any. The ranking must give them the ranker's
    // score (Conditions::always_ranked): a boost is in its units.
    const std::uint8_t* raised() const { return raised_.empty() ? nullptr : raised_.data(); }

   private:
    struct Entry {
        float score;
        std::int32_t id;
        double boost;
    };
    using Counts = std::vector<std::unordered_map<std::int32_t, std::int64_t>>;

    // The items with their boosts, in the order of the boosted scores; returns the score that no item behind `part`
    // exceeds.
    float apply_boosts(const RankedPart& part, std::vector<Entry>& entries) const;
    bool take_if_within_limits(std::int32_t item, Counts& value_counts) const;

    std::int64_t n_items_;
    std::vector<Boost> boosts_;
    std::vector<Limit> limits_;
    std::vector<std::uint8_t> raised_;
};

// As much of a ranking as its rules need.
constexpr std::int64_t kDepthGrowth = 4;  // how much more of a ranking is read when rules need more

// Writes the first k items after the rules. rank(depth, ids, scores) writes the first `depth` items of the ranking,
// padded with -1: `depth` of them at first, then more as the rules need them. n_shown: items that can be recommended.
// approximate: above 0, the ranking is approximate up to so many items; then these are read at once, and what is behind
// them never. Returns whether more than these could be needed.
template <typename Rank>
bool rank_ruled(const Arrangement& rules, const std::vector<Pin>& pins, std::int64_t k, std::int64_t depth,
                std::int64_t n_shown, std::int64_t approximate, const Rank& rank, Arranged& result) {
    std::vector<std::int32_t> ids;
    std::vector<float> scores;
    n_shown = std::max(n_shown, std::int64_t{1});
    const bool once = approximate > 0 && depth <= approximate;
    for (std::int64_t n_read = once ? approximate : std::max(depth, std::int64_t{1});; n_read *= kDepthGrowth) {
        n_read = std::min(n_read, n_shown);
        ids.resize(static_cast<std::size_t>(n_read));
        scores.resize(ids.size());
        rank(n_read, ids.data(), scores.data());
        const std::int64_t count = std::find(ids.begin(), ids.end(), -1) - ids.begin();
        const bool whole = once || count < n_read || n_read >= n_shown;
        if (!rules.arrange({ids.data(), scores.data(), count, whole}, k, pins, result)) continue;
        return once && count == n_read && static_cast<std::int64_t>(result.ids.size()) < k;
    }
}

}  // namespace mtaw
