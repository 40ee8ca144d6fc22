// The sessions since the tables were made. They grow click by click, next to the mapped base tables.
//
//     MemoryDelta delta(view, settings, n_items + 65536, 512);
//     delta.click(handles, items, n_events);            // in order; queries of other threads wait meanwhile
//     const SessionMemory memory(view, settings, delta.n_catalog(), isa, &delta);
//
// Its state and every query's bits depend only on the order of the events, not on how they were batched into calls or
// on the instruction set.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

#include "change_lock.hpp"
#include "memory/arrays.hpp"
#include "memory/base_rows.hpp"
#include "memory/delta_row.hpp"
#include "memory/delta_sessions.hpp"
#include "memory/own_items.hpp"

namespace mtaw {

// exp(-k / recency) for whole k, by two tables.
class Aging {
   public:
    explicit Aging(double recency) : recency_(recency), near_(kStep), far_(kStep) {
        for (std::size_t k = 0; k < kStep; ++k) {
            near_[k] = std::exp(-static_cast<double>(k) / recency);
            far_[k] = std::exp(-static_cast<double>(k * kStep) / recency);
        }
    }

    [[nodiscard]] double operator()(std::int64_t sessions) const {
        const auto k = static_cast<std::size_t>(sessions);
        if (sessions < 0 || k >= kStep * kStep) return std::exp(-static_cast<double>(sessions) / recency_);
        return far_[k / kStep] * near_[k % kStep];
    }

   private:
    static constexpr std::size_t kStep = 2048;
    double recency_;
    std::vector<double> near_, far_;
};

// The session being ranked, if the delta contains it: its own clicks never count as evidence for it.
//
// Without this, a session that is learned while it grows would find its own clicks in the tables. The ranker was
// trained without that.
struct CurrentSession {
    std::int32_t slot = -1;                                            // -1 = not in the delta
    std::int32_t stamp = -2;                                           // no session's
    std::int64_t position = std::numeric_limits<std::int64_t>::max();  // in the delta's order
    std::int64_t number = std::numeric_limits<std::int64_t>::max();    // behind the sessions of the tables

    [[nodiscard]] bool found() const { return slot >= 0; }
    // Another session's position or number once this one is taken out.
    [[nodiscard]] std::int64_t position_without(std::int64_t other) const { return other - (other > position ? 1 : 0); }
    [[nodiscard]] std::int64_t number_without(std::int64_t other) const { return other - (other > number ? 1 : 0); }
};

// The current session's part of the row of one of its items.
struct OwnEvidence {
    struct Pair {
        std::int32_t neighbor;
        double sums[kFixedKinds];
    };
    std::vector<Pair> pairs;
    double totals[kFixedKinds] = {};

    // Null if the session adds nothing to the pair.
    [[nodiscard]] const Pair* find(std::int32_t neighbor) const {
        for (const Pair& pair : pairs) {
            if (pair.neighbor == neighbor) return &pair;
        }
        return nullptr;
    }
};

// A row's total of one kind, without the current session's part.
inline float total_without(float total, int kind, const OwnEvidence* own_evidence) {
    return own_evidence == nullptr ? total : std::max(total - static_cast<float>(own_evidence->totals[kind]), 0.0F);
}

// Computes it for every own item u of clicks[n_clicks], into rows[u]. once: whether the session counts a pair once.
void list_own_evidence(const std::int32_t* clicks, std::int64_t n_clicks, const OwnItems& own,
                       const MemorySettings& settings, bool once, std::vector<OwnEvidence>& rows);

// What a query adds of a row of the delta to another row, the base's or the merged one: working memory, grown as it is
// needed.
struct MaterializedRow {
    std::vector<std::int32_t> neighbors;
    std::vector<std::int32_t> latest;  // stamps behind all sessions of the tables (MergedTables::number_of_latest)
    std::vector<float> values;         // [count, 8]: see DeltaRowView
    std::int64_t count = 0;
    float totals[kPairKinds];                                 // of base and delta
    double shares[kPairKinds];                                // 1 / (total + 1)
    float base_aging = 1;                                     // factor on the other row's rec
    double delta_aa, delta_rec;                               // totals of the delta alone
    std::vector<double> aa, rec;                              // [pairs, or those chosen] of the delta alone
    std::vector<std::int32_t> last;                           // likewise, the latest session's stamp, -1 = none
    std::vector<std::pair<std::int32_t, std::int32_t>> runs;  // the pairs [begin, end) of the other row that are read
    std::vector<std::int32_t> chosen;                         // pairs that are not read from the merged row
    std::vector<std::int32_t> chosen_at;                      // [pairs] 1 + index in `chosen`, 0 = not there
    std::vector<std::uint8_t> paired;  // [pairs of the base's row] whether the delta has the pair too

    [[nodiscard]] DeltaRowView view() const { return {neighbors.data(), latest.data(), values.data(), count}; }
    void start(std::int64_t most) {
        count = 0;
        neighbors.resize(static_cast<std::size_t>(most));
        latest.resize(static_cast<std::size_t>(most));
        values.resize(static_cast<std::size_t>(most) * 8);
    }
    // Appends the values of a pair of base and delta, without those that the other row has of it (DeltaRowView); i: its
    // index in aa, rec and last; aging: of the base's rec. Appends nothing where nobody but the current session has
    // clicked both.
    void add(const DeltaPair& pair, std::size_t i, const PairBase& base, const PairBase& other, double aging,
             std::int64_t base_sessions, const OwnEvidence* own_evidence);
    // After a change of totals.
    void set_shares() {
        for (int kind = 0; kind < kPairKinds; ++kind) shares[kind] = 1.0 / (static_cast<double>(totals[kind]) + 1.0);
    }
};

class MemoryDelta {
   public:
    using ReadLock = ChangeLock::Read;

    // Keeps the arrays of `base`. n_catalog: items are in 0..n_catalog-1, those from base.n_items on are the delta's
    // alone. max_clicks: of a session; later ones are ignored. Throws std::invalid_argument on numbers out of range.
    MemoryDelta(const MemoryView& base, const MemorySettings& settings, std::int64_t n_catalog,
                std::int64_t max_clicks);

    // Clicks in their order; a handle that is not known starts a session. Throws std::out_of_range, before anything is
    // changed, on an item outside the catalog.
    void click(const std::int64_t* handles, const std::int32_t* items, std::int64_t n_events);
    // Continues a session of the base under `handle`: its clicks move here, as the newest session. Throws
    // std::invalid_argument where the handle is known, std::out_of_range if there is no such session or it is gone.
    void resume(std::int64_t handle, std::int64_t base_session);
    // Removes a session without a trace; false if there is no such session.
    bool forget(std::int64_t handle);
    bool forget_base(std::int64_t base_session);
    // Cold-start prior: adds to the values of the pair (item, neighbor), without a session. Throws std::out_of_range,
    // std::invalid_argument on values that are negative or no numbers.
    void add_prior(std::int32_t item, std::int32_t neighbor, const double* values);

    struct Ordered {
        std::vector<std::int64_t> handles;
        std::vector<std::int32_t> items;
        std::vector<std::int64_t> offsets;
    };
    [[nodiscard]] Ordered ordered() const;  // by last click
    struct Row {
        std::vector<std::int32_t> neighbors;
        std::vector<double> values;  // [n, kPairKinds], rec as of the item's latest session
    };
    [[nodiscard]] Row row(std::int32_t item) const;
    struct Counts {
        std::int64_t values[kCountKinds];  // newest: its position among the delta's sessions
    };
    [[nodiscard]] Counts counts(std::int32_t item) const;

    struct Sizes {
        std::int64_t sessions, clicks, items, pairs, terms, ignored, dropped, bytes;
    };
    [[nodiscard]] Sizes sizes() const;
    [[nodiscard]] std::int64_t n_catalog() const { return static_cast<std::int64_t>(by_item_.size()); }
    // Whether its sessions count a pair once.
    [[nodiscard]] bool once() const { return base_.settings().once(base_.tables().n_sessions); }

    // Everything below needs this lock.
    [[nodiscard]] ReadLock read() const { return change_lock_.read(); }
    [[nodiscard]] const BaseRows& base() const { return base_; }
    [[nodiscard]] const DeltaSessions& sessions() const { return sessions_; }
    // Null if the delta has no row for the item.
    [[nodiscard]] const DeltaRow* find(std::int64_t item) const {
        return has(item) ? &rows_[static_cast<std::size_t>(by_item_[static_cast<std::size_t>(item)].row_plus_one) - 1]
                         : nullptr;
    }
    [[nodiscard]] const DeltaCounts* find_counts(std::int64_t item) const {
        const std::int32_t row_plus_one = by_item_[static_cast<std::size_t>(item)].row_plus_one;
        return row_plus_one == 0 ? nullptr : &counts_[static_cast<std::size_t>(row_plus_one) - 1];
    }
    // What is read for every candidate, on one cache line.
    struct ItemEntry {
        float ses;                  // total of base and delta
        std::int32_t row_plus_one;  // 1 + index of its row in rows_, 0 = none
    };
    [[nodiscard]] const ItemEntry* by_item() const { return by_item_.data(); }
    [[nodiscard]] bool has(std::int64_t item) const {
        return (touched_[static_cast<std::size_t>(item >> 6)] >> (item & 63) & 1) != 0;
    }
    [[nodiscard]] std::int64_t n_sessions() const { return base_.n_sessions() + sessions_.count(); }
    // The session with exactly these clicks. It is the current one, or one that is equal: neither knows the next click.
    [[nodiscard]] CurrentSession current(const std::int32_t* clicks, std::int64_t n_clicks) const;
    // The number of the latest session with the item, the current one excepted; -1 = none.
    [[nodiscard]] std::int64_t newest(std::int64_t item, const DeltaCounts& counts,
                                      const CurrentSession& current = {}) const;
    // Returns the other row. own_evidence: what is left out, if the current session contains the row's item.
    RowView materialize(const DeltaRow& row, MaterializedRow& out, const CurrentSession& current = {},
                        const OwnEvidence* own_evidence = nullptr) const;
    // Of that only aa, rec, last, totals and base_aging.
    void sum_row(const DeltaRow& row, MaterializedRow& out, const CurrentSession& current = {},
                 const OwnEvidence* own_evidence = nullptr) const;
    // The strongest neighbors by what a rebuilt row would be ordered by, in no order.
    void find_strong(const DeltaRow& row, ShortArray<StrongPair>& out, MaterializedRow& row_sums) const;
    // Upper bounds of what a query can meet.
    [[nodiscard]] std::int64_t longest_row() const { return longest_row_; }

   private:
    DeltaRow& row_at(std::int32_t item);
    void append(std::int32_t slot, std::int32_t item);
    void add_terms(std::int32_t slot, std::int32_t item, bool is_new, std::int64_t t);
    void maintain(DeltaRow& row);
    void remove(std::int32_t slot);
    void remove_session(DeltaRow& row, std::int32_t slot);
    void fold_terms(DeltaRow& row);
    void narrow_row(DeltaRow& row);
    void cut_row(DeltaRow& row);
    void merge_row(DeltaRow& row);
    void mark_followed(DeltaRow& row, std::int32_t slot, bool is_longer) const;
    // False where the merged row is of no use: the current session is by far the latest with the item.
    bool materialize_merged(const DeltaRow& row, MaterializedRow& out, const CurrentSession& current,
                            const OwnEvidence* own_evidence) const;
    [[nodiscard]] std::int64_t newest_of(const DeltaRow& row, const CurrentSession& current) const;
    [[nodiscard]] double base_aging(const DeltaRow& row, std::int64_t newest) const;
    [[nodiscard]] double fold_aging(const DeltaRow& row, std::int64_t newest, const CurrentSession& current) const;
    void set_totals(const DeltaRow& row, double base_aging, const OwnEvidence* own_evidence,
                    MaterializedRow& out) const;
    void rank_rows();
    static void mark_strong(DeltaRow& row);
    [[nodiscard]] double weakest_strength(const DeltaRow& row, const MaterializedRow& row_sums) const;
    void init_row(DeltaRow& row) const;
    void drop_base(const BaseRows::SessionRemoval& dropped);
    void sum_terms(const DeltaRow& row, std::int64_t begin, std::int64_t end, std::int64_t newest, MaterializedRow& out,
                   const CurrentSession& current = {}) const;
    [[nodiscard]] static double strength(const PairBase& base, const double* sums, double rec,
                                         const MaterializedRow& row);
    [[nodiscard]] static double strength_of_base(const RowView& base, std::int64_t base_index,
                                                 const MaterializedRow& row);
    void check_item(std::int32_t item) const;
    void check_base_session(std::int64_t session) const;

    BaseRows base_;
    const Aging aging_;
    const std::int64_t max_clicks_;
    DeltaSessions sessions_;
    std::deque<DeltaRow> rows_;   // stay where they are
    Blocks<DeltaCounts> counts_;  // likewise
    std::vector<ItemEntry> by_item_;
    std::vector<std::uint64_t> touched_;  // a bit an item with a row: few cache lines, which rule out most items
    std::int64_t longest_row_ = 0, ignored_ = 0;
    MaterializedRow row_sums_;            // the writers' working memory
    std::vector<std::int32_t> unranked_;  // items with new terms since their strongest neighbors were found
    std::int64_t n_events_ = 0;
    std::vector<std::int32_t> paired_items_;  // the other items of an event
    ChangeLock change_lock_;
};

}  // namespace mtaw
