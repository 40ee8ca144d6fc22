// The clicks since the tables were built: the same sums, updated click by click.
//
// The same calls give the same bits however they are batched. Not locked: the lock is in trends.hpp.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compiler.hpp"
#include "trends/base.hpp"
#include "trends/tables.hpp"

namespace mtaw {

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

}  // namespace mtaw
