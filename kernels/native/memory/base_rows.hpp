// The base tables without the sessions that were dropped from them.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memory/tables.hpp"

namespace mtaw {

inline RowView row_of(const TablesView& tables, std::int64_t item) {
    if (item >= tables.n_items) return {nullptr, nullptr, nullptr, 0, nullptr};
    const std::int64_t begin = tables.row_offsets[item];
    return {tables.neighbors + begin, tables.latest + begin, tables.values + begin * kPairKinds,
            tables.row_offsets[item + 1] - begin, tables.totals + item * kPairKinds};
}

// The pairs begin .. end - 1.
inline RowView part_of(const RowView& row, std::int64_t begin, std::int64_t end) {
    return {row.neighbors + begin, row.latest + begin, row.values + begin * kPairKinds, end - begin, row.totals};
}

// Tables without the sessions that were dropped. Rows of their items are those of tables made without these sessions.
// In other rows `rec` keeps the ages that it was summed with. Sessions keep their numbers; `number` closes the gaps.
class BaseRows {
   public:
    // Keeps the arrays of `view`.
    BaseRows(const MemoryView& view, const MemorySettings& settings);

    [[nodiscard]] const MemoryView& tables() const { return view_; }
    [[nodiscard]] const MemorySettings& settings() const { return settings_; }
    [[nodiscard]] RowView row(std::int64_t item) const {
        const Patch* const patch = patch_of(item);
        if (patch == nullptr) return row_of(view_, item);
        return {patch->neighbors.data(), patch->latest.data(), patch->values.data(),
                static_cast<std::int64_t>(patch->neighbors.size()), patch->totals};
    }
    // Of an item that the tables know.
    [[nodiscard]] const std::int32_t* counts(std::int64_t item) const {
        const Patch* const patch = patch_of(item);
        return patch == nullptr ? view_.counts + item * kCountKinds : patch->counts;
    }
    [[nodiscard]] std::int64_t n_dropped() const { return n_dropped_; }
    [[nodiscard]] bool is_dropped(std::int64_t session) const {
        return n_dropped_ > 0 && (dropped_[word(session)] >> (session & 63) & 1) != 0;
    }
    // The session's number among those that are left.
    [[nodiscard]] std::int64_t number(std::int64_t session) const {
        if (n_dropped_ == 0 || session < 0) return session;
        const std::uint64_t below = dropped_[word(session)] & ((std::uint64_t{1} << (session & 63)) - 1);
        return session - dropped_before_word_[word(session)] - __builtin_popcountll(below);
    }
    [[nodiscard]] std::int64_t n_sessions() const { return view_.n_sessions - n_dropped_; }

    // The sums of a pair as they were before they were rounded, or cut off, from the sessions with the rarer of the
    // two; rec as of the item's newest. False if these are more than max_sessions, or not all among its postings.
    bool sum_pair(std::int32_t item, std::int32_t other, std::int64_t max_sessions, double* sums) const;
    // Whether neighbors of the item may be missing from its row.
    [[nodiscard]] bool is_cut(const RowView& row) const {
        return settings_.max_neighbors > 0 && row.count >= settings_.max_neighbors;
    }

    struct Patch {
        std::vector<std::int32_t> neighbors, latest;
        std::vector<std::uint16_t> values;
        float totals[kPairKinds];
        std::int32_t counts[kCountKinds];
    };
    // What removing a session changes: the rows of its items without it.
    struct SessionRemoval {
        std::int64_t session = -1;
        std::int64_t n_dropped = 0;  // sessions that were dropped before it
        std::vector<std::pair<std::int32_t, std::shared_ptr<const Patch>>> patches;
    };
    [[nodiscard]] SessionRemoval prepare_removal(std::int64_t session) const;
    // dropped: from prepare_removal, after which no other session was dropped.
    void drop(const SessionRemoval& dropped);
    [[nodiscard]] std::int64_t n_bytes() const;

   private:
    [[nodiscard]] static std::size_t word(std::int64_t session) { return static_cast<std::size_t>(session >> 6); }
    [[nodiscard]] const Patch* patch_of(std::int64_t item) const {
        if (patches_.empty()) return nullptr;
        const auto found = patches_.find(static_cast<std::int32_t>(item));
        return found == patches_.end() ? nullptr : found->second.get();
    }
    // Ascending, of all sessions that are left, `excluded_session` excepted: those with each item.
    [[nodiscard]] std::vector<std::vector<std::int32_t>> sessions_with(const std::vector<std::int32_t>& items,
                                                                       std::int64_t excluded_session) const;
    void sum_row(std::int32_t item, const std::vector<std::int32_t>& sessions, std::int64_t excluded_session,
                 Patch& out) const;

    const MemoryView view_;
    const MemorySettings settings_;
    std::vector<std::uint64_t> dropped_;  // a bit a session; empty until there is one
    std::vector<std::int64_t> dropped_before_word_;
    std::int64_t n_dropped_ = 0;
    std::unordered_map<std::int32_t, std::shared_ptr<const Patch>> patches_;
};

}  // namespace mtaw
