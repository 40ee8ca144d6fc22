// Builds the tables, from scratch or from older ones: first the sizes, then the contents, into the caller's arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory/tables.hpp"

namespace mtaw {

struct ItemClick {
    std::int32_t index;  // in the packed items
    std::int32_t session;
};

struct ClickIndex {
    std::vector<std::int64_t> offsets;   // [N + 1]
    std::vector<ItemClick> clicks;       // [T] item by item, in order of time
    std::vector<std::uint8_t> first;     // [T] whether it is its session's first click on the item
    std::vector<std::int32_t> distinct;  // [S] items of each session
    std::vector<std::int32_t> sessions;  // [N] that hold the item
};

// The offsets run from 0 to T. Throws std::invalid_argument if they descend in between or there are more than
// 2^31 - 1 clicks or sessions, std::out_of_range on an item outside 0..N-1.
ClickIndex index_clicks(const PastSessions& sessions);

// Throws std::invalid_argument on settings out of range.
void check_settings(const MemorySettings& settings);

// Rows of a table made before that still hold: `tables` are of the same items and settings, and without their
// `expired` oldest sessions they are of the first sessions of those to build from.
struct OlderTables {
    TablesView tables;
    std::int64_t expired;
};

// The items whose rows are built; what is of other items is not written.
struct ItemRange {
    std::int64_t begin, end;
};

// Every row is built by one thread from the sessions in order, so the number of threads changes no bit. A row is copied
// only if no added or removed session contains its item, so an update gives the same bits too.
class TableBuild {
   public:
    // Keeps references to `sessions` and `older` (null: everything is built). Throws what index_clicks throws,
    // std::invalid_argument on settings out of range, or items outside 0..N.
    TableBuild(const PastSessions& sessions, const MemorySettings& settings, int threads, const OlderTables* older,
               ItemRange items);

    [[nodiscard]] std::int64_t n_pairs() const { return row_offsets_.back(); }
    [[nodiscard]] std::int64_t n_postings() const { return post_offsets_.back(); }

    // Fills every array but the sessions'; their sizes are n_pairs(), n_postings() and N.
    void write(const TablesOut& out) const;

   private:
    template <typename Work>
    void for_each_item(const Work& work) const;
    [[nodiscard]] std::vector<std::uint8_t> find_copied_rows() const;
    void copy_row(std::int64_t item, const TablesOut& out) const;

    const PastSessions sessions_;
    const MemorySettings settings_;
    const int threads_;
    const OlderTables* older_;
    const ItemRange items_;
    ClickIndex index_;
    std::vector<std::uint8_t> is_copied_;    // [N] whether the item's row is copied
    std::vector<std::int64_t> row_offsets_;  // [N + 1]
    std::vector<std::int64_t> post_offsets_;
};

// Makes the tables' rows of one item at a time from the clicks on it; one object a thread.

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

// Tables of past sessions in arrays of their own, made by one thread in one pass: for readers that have the sessions
// alone. TableBuild knows the sizes first, and fills arrays of the caller by many threads.
struct BuiltTables {
    std::vector<std::int64_t> row_offsets, post_offsets;
    std::vector<std::int32_t> neighbors, latest, counts, postings;
    std::vector<std::uint16_t> values;
    std::vector<float> totals;

    // With the sessions that they were built from.
    [[nodiscard]] TablesView view(const PastSessions& sessions) const;
};

// The bits that TableBuild gives. The offsets run from 0 to T; throws what TableBuild throws.
BuiltTables build_tables(const PastSessions& sessions, const MemorySettings& settings);

}  // namespace mtaw
