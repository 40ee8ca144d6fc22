// Builds the tables, from scratch or from older ones: first the sizes, then the contents, into the caller's arrays.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/click_index.hpp"
#include "memory/tables.hpp"

namespace mtaw {

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

}  // namespace mtaw
