// Makes the tables' rows of one item at a time from the clicks on it; one object a thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory/click_index.hpp"
#include "memory/tables.hpp"

namespace mtaw {

// The sums of a row's item and one neighbor.
struct PairSums {
    double value[kPairKinds];
    std::int32_t item;
    std::int32_t latest;

    // Adds a click on the neighbor `distance` clicks after one on the item, negative before it. recency_weight: what
    // the session weighs in `rec`.
    void add_near(std::int64_t distance, double recency_weight) {
        const double weight = 1.0 / static_cast<double>(distance > 0 ? distance : -distance);
        value[distance > 0 ? kFwd : kBwd] += weight;
        if (distance == 1) value[kNext] += 1.0;
        value[kRec] += weight * recency_weight;
    }
    void add_same(double share) {
        value[kSes] += 1.0;
        value[kAa] += share;
    }
};

// Orders a row by strength and rounds it.
class RowRanker {
   public:
    // The n_kept strongest pairs; totals of all.
    void write(const std::vector<PairSums>& pairs, std::int64_t n_kept, float* totals, std::int32_t* neighbors,
               std::int32_t* latest, std::uint16_t* values);

   private:
    struct Ranked {
        double strength;
        std::int32_t item;
        std::int32_t pair;  // its index in the pairs
    };

    std::vector<Ranked> ranked_;
};

class RowBuilder {
   public:
    // Keeps references: the arguments must outlive it.
    RowBuilder(const PastSessions& sessions, const MemorySettings& settings, const ClickIndex& index);

    // How many neighbors the item has, before the cut.
    std::int64_t count_neighbors(std::int32_t item);

    // Sums the item's row; how many neighbors it has.
    std::size_t sum_pairs(std::int32_t item);

    // Each writes the item's part of `out`, whose offsets are filled in already.
    void write_row(std::int32_t item, const TablesOut& out);     // and totals
    void write_summed(std::int32_t item, const TablesOut& out);  // the same, of the row that was summed last
    void write_counts(std::int32_t item, const TablesOut& out) const;
    void write_postings(std::int32_t item, const TablesOut& out) const;

   private:
    void prefetch(const ItemClick* click) const;
    template <typename Near, typename Same>
    void visit(std::int32_t item, const ItemClick& click, const Near& near, const Same& same) const;
    PairSums& pair_of(std::int32_t other);
    const ItemClick* clicks_begin(std::int32_t item) const;
    const ItemClick* clicks_end(std::int32_t item) const;
    std::int32_t newest(std::int32_t item) const;

    const PastSessions& sessions_;
    const MemorySettings& settings_;
    const ClickIndex& index_;
    std::vector<std::int32_t> pair_index_;  // [N] 1 + the item's index in pairs_, 0 = none
    std::vector<std::int32_t> counted_;     // distinct neighbors of the item being counted
    std::vector<PairSums> pairs_;           // of the item being summed, in the order in which neighbors are met
    RowRanker ranker_;
};

}  // namespace mtaw
