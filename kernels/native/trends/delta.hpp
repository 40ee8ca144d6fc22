// The clicks since the tables were built: the same sums, updated click by click.
//
// The same calls give the same bits however they are batched. Not locked: the lock is in trends.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compiler.hpp"
#include "trends/tables.hpp"

namespace mtaw {

// The rows of the tables, some of them replaced: those of items whose sessions were forgotten.
struct TrendRow {
    const std::int32_t* neighbors = nullptr;
    const std::uint16_t* values = nullptr;  // bfloat16[count, kPairSums]
    std::int64_t count = 0;
    const float* totals = nullptr;           // [kPairSums]; null if the tables do not know the item, as the next two
    const float* counts = nullptr;           // [kItemSums]
    const std::int64_t* times = nullptr;     // [2]
    const std::uint16_t* context = nullptr;  // [n_context] values of visits' context, ascending
    const float* context_sums = nullptr;     // [n_context]
    std::int64_t n_context = 0;
};

class TrendsBase {
   public:
    explicit TrendsBase(const TrendsView& view) : view_(view) {}

    const TrendsView& view() const { return view_; }
    TrendRow row(std::int64_t item) const { return patches_.empty() ? row_of(view_, item) : replaced(item); }
    // Of an item, its sums and its times alone; null if the tables do not know it.
    std::pair<const float*, const std::int64_t*> counts(std::int64_t item) const {
        if (!patches_.empty()) {
            const TrendRow row = replaced(item);
            return {row.counts, row.times};
        }
        if (item >= view_.n_items) return {nullptr, nullptr};
        return {view_.counts + item * kItemSums, view_.times + item * 2};
    }
    // Keeps a copy of row `from_row` of `from`, whose clock is that of the tables; ids: the items of its rows.
    void replace(std::int32_t item, const TrendsView& from, std::int64_t from_row, const std::int32_t* ids);

   private:
    struct Patch {
        std::vector<std::int32_t> neighbors;
        std::vector<std::uint16_t> values;
        float totals[kPairSums], counts[kItemSums];
        std::int64_t times[2];
        std::vector<std::uint16_t> context;
        std::vector<float> context_sums;
    };

    static TrendRow row_of(const TrendsView& view, std::int64_t item) {
        if (item >= view.n_items) return {};
        const std::int64_t begin = view.row_offsets[item];
        TrendRow row{
            view.neighbors + begin,         view.values + begin * kPairSums, view.row_offsets[item + 1] - begin,
            view.totals + item * kPairSums, view.counts + item * kItemSums,  view.times + item * 2};
        if (const std::int64_t* const offsets = view.context.offsets) {
            row.context = view.context.values + offsets[item];
            row.context_sums = view.context.sums + offsets[item];
            row.n_context = offsets[item + 1] - offsets[item];
        }
        return row;
    }
    TrendRow replaced(std::int64_t item) const {
        const auto found = patches_.find(static_cast<std::int32_t>(item));
        if (found == patches_.end()) return row_of(view_, item);
        const Patch& patch = *found->second;
        return {patch.neighbors.data(),
                patch.values.data(),
                static_cast<std::int64_t>(patch.neighbors.size()),
                patch.totals,
                patch.counts,
                patch.times,
                patch.context.data(),
                patch.context_sums.data(),
                static_cast<std::int64_t>(patch.context.size())};
    }

    TrendsView view_;
    std::unordered_map<std::int32_t, std::unique_ptr<Patch>> patches_;
};

inline void TrendsBase::replace(std::int32_t item, const TrendsView& from, std::int64_t from_row,
                                const std::int32_t* ids) {
    const TrendRow row = row_of(from, from_row);
    auto patch = std::make_unique<Patch>();
    for (std::int64_t p = 0; p < row.count; ++p) patch->neighbors.push_back(ids[row.neighbors[p]]);
    patch->values.assign(row.values, row.values + row.count * kPairSums);
    std::copy_n(row.totals, kPairSums, patch->totals);
    std::copy_n(row.counts, kItemSums, patch->counts);
    std::copy_n(row.times, 2, patch->times);
    patch->context.assign(row.context, row.context + row.n_context);
    patch->context_sums.assign(row.context_sums, row.context_sums + row.n_context);
    patches_[item] = std::move(patch);
}

constexpr std::size_t kMaxContextValues = 1024;  // values of an item; a row that has more is cut to the strongest half
constexpr std::int64_t kLateClicks = 512;        // a late click goes in at most this far before its session's end

struct TrendLimits {
    std::int64_t capacity;       // ids of items that clicks may name: 0 .. capacity - 1
    std::int64_t ahead;          // ms that a click may be later than its arrival
    std::int64_t row_neighbors;  // of an item; a row that has more is cut to the strongest half of them, even
    bool once = false;           // whether new sessions count a pair once (tables.hpp)
};

// The sums of one item's new clicks.
struct ItemDelta {
    std::int32_t item;
    bool active = false;  // in TrendsDelta::active
    std::int64_t first = kNever, last = kNever;
    double counts[kItemSums] = {};
    double totals[kPairSums] = {};
    std::vector<std::int32_t> neighbors;
    std::vector<double> values;          // [neighbors, kPairSums]
    std::vector<std::uint16_t> context;  // values of visits' context
    std::vector<double> context_sums;    // within each
    // A query reads as many pairs of tables and delta together as tables keep, the strongest: the first n_read of these
    // and, if the row is narrowed, of the tables' row the runs of pairs [begin, end) alone.
    std::int64_t n_read = 0;
    bool narrowed = false;
    std::vector<std::pair<std::int32_t, std::int32_t>> base_runs;
    std::vector<std::int32_t> base_indices;  // [neighbors] in the tables' row, -1 = not there; if the row is narrowed
    std::int64_t changes = 0;                // pairs that are read since the row was narrowed
    std::vector<std::int64_t> sessions;      // handles of those with the item; some twice, some gone
    bool is_rebuilt = false;                 // whether its sums are being made again
};

// A session of the tables.
struct TrendsSession {
    const std::int32_t* items;   // [count]
    const std::int64_t* times;   // [count]
    const std::uint16_t* codes;  // [count, columns], its visit's context; null: none is known
    std::int64_t count;
    bool once;  // as the tables count it
};

struct TrendCounters {
    std::int64_t clicks = 0;   // that are counted
    std::int64_t clamped = 0;  // whose time was too far ahead
    std::int64_t late = 0;     // that came after a later one of their session
    std::int64_t cut = 0;      // pairs that no longer fitted their row
    std::int64_t moves = 0;    // of a lane's t0
};

class TrendsDelta {
   public:
    // The clock continues from that of the tables.
    TrendsDelta(const TrendSettings& settings, const TrendLimits& limits, const TrendsView& base);

    // A click of the session `handle`; arrival: when the log took it. The item must be under the capacity. codes: the
    // visit's context, [shape.n_columns]; null: none is known.
    void click(std::int64_t handle, std::int32_t item, std::int64_t time, std::int64_t arrival,
               const std::uint16_t* codes);
    // Removes all clicks of the session: its items are as if it never was. False if there is no such session.
    bool forget(std::int64_t handle);
    // Removes a session of the tables. remaining: tables of all other sessions with its items, over the ascending items
    // ids[remaining.n_items], with the clock of the tables.
    void forget_in_tables(const TrendsSession& session, const TrendsView& remaining, const std::int32_t* ids);

    // Null if the item has no new click.
    const ItemDelta* find(std::int64_t item) const {
        if (item >= static_cast<std::int64_t>(slots_.size())) return nullptr;
        const std::int32_t slot = slots_[static_cast<std::size_t>(item)];
        return slot == 0 ? nullptr : &items_[static_cast<std::size_t>(slot) - 1];
    }
    void prefetch_slot(std::int64_t item) const {
        if (item < static_cast<std::int64_t>(slots_.size())) MTAW_PREFETCH(slots_.data() + item);
    }
    const TrendsBase& base() const { return base_; }
    const double* sums() const { return sums_; }
    const ContextShape& shape() const { return shape_; }
    const double* context_totals() const { return context_totals_.data(); }
    const std::int64_t* epochs() const { return clock_; }
    std::int64_t newest() const { return clock_[kItemLanes]; }
    // The last click of the item that comes `rank`-th by it, from 0; kNever if fewer items have a new click.
    std::int64_t nth_newest(std::size_t rank) const {
        std::vector<std::int64_t> last;
        for (const ItemDelta& item : items_) last.push_back(item.last);
        if (rank >= last.size()) return kNever;
        std::nth_element(last.begin(), last.begin() + static_cast<std::ptrdiff_t>(rank), last.end(), std::greater<>());
        return last[rank];
    }
    const TrendCounters& counters() const { return counters_; }
    const TrendSettings& settings() const { return settings_; }
    const TrendLimits& limits() const { return limits_; }
    std::int64_t n_sessions() const { return static_cast<std::int64_t>(sessions_.size()); }
    std::int64_t n_bytes() const;
    // Items clicked lately, in the order of their first such click. If there are more than max_active, those not
    // clicked since `since` are dropped.
    const std::vector<std::int32_t>& active(std::int64_t since, std::size_t max_active);

    struct Session {
        std::vector<std::int32_t> items;
        std::vector<std::int64_t> times;   // ascending
        std::vector<std::uint16_t> codes;  // [clicks, columns]
        bool once = false;
    };
    const std::unordered_map<std::int64_t, Session>& sessions() const { return sessions_; }

   private:
    // What terms are added to. kTotals: the sums of all items alone; kRebuiltRows: the rows with is_rebuilt alone.
    enum class AddScope { kEverything, kTotals, kRebuiltRows };

    ItemDelta& delta_of(std::int32_t item);
    void add_session(const Session& session, double sign);
    void remove_session(const Session& session);
    void update_times(ItemDelta& row, std::int64_t time);
    void read_pair(ItemDelta& row, std::int64_t pair);
    void narrow(ItemDelta& row);
    void compute_weights(std::int64_t time, double sign, double* weights) const;
    void advance_clock(std::int64_t time);
    void insert(Session& session, std::int64_t position, std::int32_t item, std::int64_t time,
                const std::uint16_t* codes) const;
    void insert_once(Session& session, std::int64_t position, std::int32_t item, std::int64_t time,
                     const std::uint16_t* codes);
    void add_session_once(const Session& session, double sign);
    void count_click(std::int64_t handle, std::int32_t item, std::int64_t time);
    void add_click_once(const Session& session, std::int64_t position, double sign);
    void add_click(std::int32_t item, bool later, const double* weights);
    void add_pair(std::int32_t earlier, std::int32_t later, std::int64_t distance, const double* weights);
    void add_term(std::int32_t item, std::int32_t neighbor, int first_lane, double share, const double* weights);
    void cut_row(ItemDelta& row);
    void add_context(std::int32_t item, const std::uint16_t* codes, double weight);
    void cut_context(ItemDelta& row);

    TrendsBase base_;
    TrendSettings settings_;
    TrendLimits limits_;
    ContextShape shape_;
    std::vector<double> context_totals_;  // by value
    AddScope add_scope_ = AddScope::kEverything;
    std::vector<std::int32_t> base_index_of_item_;  // 1 + index of its pair in a row of the tables; 0 between calls
    std::int64_t clock_[kItemLanes + 1];
    double sums_[kItemSums] = {};
    std::vector<std::int32_t> slots_;  // by item: 1 + index in items_, 0 = none
    std::vector<ItemDelta> items_;
    std::vector<std::int32_t> active_;
    std::unordered_map<std::int64_t, Session> sessions_;
    TrendCounters counters_;
    std::int64_t n_pairs_ = 0, n_context_ = 0;
};

// Calls visit(begin, end) for the runs of pairs of a row of the tables that a query reads.
template <typename Visit>
static inline void for_each_run(const TrendRow& base, const ItemDelta* delta, const Visit& visit) {
    if (delta == nullptr || !delta->narrowed) {
        visit(std::int64_t{0}, base.count);
        return;
    }
    for (const auto& [begin, end] : delta->base_runs) visit(std::int64_t{begin}, std::int64_t{end});
}

}  // namespace mtaw
