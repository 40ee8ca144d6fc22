// Applies boosts, limits and pins to the first items of a ranking, and says whether these suffice.
#pragma once

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

// At most `most` items of a list have the same value, or of any `of` in a row. One pointer is set, for lists of values
// two. An item without a value, or behind the last row, is not limited; one with several values counts for each of
// them.
struct Limit {
    const std::int32_t* codes = nullptr;  // of all rows end to end if there are offsets
    const std::int64_t* offsets = nullptr;
    const std::int8_t* flags = nullptr;
    std::int64_t n_rows = 0;
    std::int64_t most = 1;
    std::int64_t of = 0;  // 0: the whole list
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
    bool ran_out = false;  // whether an approximate ranking had too few items
};

using ValueCounts = std::vector<std::unordered_map<std::int32_t, std::int64_t>>;  // by limit

class Arrangement {
   public:
    // limits: of the whole list. spreads: of items in a row.
    Arrangement(std::int64_t n_items, std::vector<Boost> boosts, std::vector<Limit> limits, std::vector<Limit> spreads);

    // Writes the first k items of the arranged ranking and returns true, or returns false if they may depend on items
    // behind `part`. pins: ascending by position, distinct items, all of which may be shown; spreads do not see them.
    // Throws std::out_of_range on an id outside the items.
    bool arrange(const RankedPart& part, std::int64_t k, const std::vector<Pin>& pins, Arranged& result) const;

    // The first `count` candidates that the limits let into a list next to the items `kept`.
    std::vector<std::int32_t> within_limits(const std::vector<std::int32_t>& kept,
                                            const std::vector<std::int32_t>& candidates, std::size_t count) const;

    std::int64_t n_items() const { return n_items_; }
    // Whether the first k items may be among more than k of the ranking.
    bool reorders() const { return !boosts_.empty() || !limits_.empty() || !spreads_.empty(); }
    // Bits of the items whose boosts add up to more than 0; null without any. The ranking must give them the ranker's
    // score (Conditions::always_ranked): a boost is in its units.
    const std::uint8_t* raised() const { return raised_.empty() ? nullptr : raised_.data(); }

   private:
    struct Entry {
        float score;
        std::int32_t id;
        double boost;
    };

    // The items with their boosts, in the order of the boosted scores; returns the score that no item behind `part`
    // exceeds.
    float apply_boosts(const RankedPart& part, std::vector<Entry>& entries) const;
    bool take_if_within_limits(std::int32_t item, ValueCounts& value_counts) const;

    std::int64_t n_items_;
    std::vector<Boost> boosts_;
    std::vector<Limit> limits_, spreads_;
    std::vector<std::uint8_t> raised_;
};

}  // namespace mtaw
