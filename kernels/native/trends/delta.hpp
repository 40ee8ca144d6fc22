// The clicks since the tables were built: the same sums, updated click by click.
//
// Values are float64 and may be negative: a session of the tables can be removed, and the result is the sum of both.
// The same calls give the same bits however they are batched. Not locked: the lock is in trends.hpp.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "compiler.hpp"
#include "trends/tables.hpp"

namespace mtaw {

constexpr std::size_t kContextRow = 1024;  // values of an item; a row that has more is cut to the strongest half
constexpr std::int64_t kLateClicks = 512;  // a late click goes in at most this far before its session's end

struct TrendLimits {
    std::int64_t capacity;        // ids of items that clicks may name: 0 .. capacity - 1
    std::int64_t ahead;           // ms that a click may be later than its arrival
    std::int64_t row_neighbors;  // of an item; a row that has more is cut to the strongest half of them, even
    bool once = false;            // whether new sessions count a pair once (tables.hpp)
};

// The sums of one item's new clicks.
struct ItemDelta {
    std::int32_t item;
    bool active = false;  // in TrendsDelta::active
    std::int64_t first = kNever, last = kNever;
    double counts[kItemSums] = {};
    double totals[kPairSums] = {};
    std::vector<std::int32_t> neighbors;
    std::vector<double> values;  // [neighbors, kPairSums]
    std::vector<std::uint16_t> context;  // values of visits' context
    std::vector<double> context_sums;    // within each
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
    TrendsDelta(const TrendSettings& settings, const TrendLimits& limits, const std::int64_t* clock,
                const ContextShape& shape);

    // A click of the session `handle`; arrival: when the log took it. The item must be under the capacity. codes: the
    // visit's context, [shape.n_columns]; null: none is known.
    void click(std::int64_t handle, std::int32_t item, std::int64_t time, std::int64_t arrival, const std::uint16_t* codes);
    // Registers the first clicks of a session that the tables contain already; once: as they count it. False if the
    // session is known.
    bool resume(std::int64_t handle, const std::int32_t* items, const std::int64_t* times, std::int64_t count,
                bool once, const std::uint16_t* codes);
    // Removes all clicks of the session; the items' first and last click times stay. False if there is no such session.
    bool forget(std::int64_t handle);

    // Null if the item has no new click.
    const ItemDelta* find(std::int64_t item) const {
        if (item >= static_cast<std::int64_t>(slots_.size())) return nullptr;
        const std::int32_t slot = slots_[static_cast<std::size_t>(item)];
        return slot == 0 ? nullptr : &items_[static_cast<std::size_t>(slot) - 1];
    }
    void prefetch_slot(std::int64_t item) const {
        if (item < static_cast<std::int64_t>(slots_.size())) MTAW_PREFETCH(slots_.data() + item);
    }
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
    // Items clicked lately, in the order of their first such click: those older than `since` are dropped where more
    // than `most` are there.
    const std::vector<std::int32_t>& active(std::int64_t since, std::size_t most);

    struct Session {
        std::vector<std::int32_t> items;
        std::vector<std::int64_t> times;  // ascending
        std::vector<std::uint16_t> codes;  // [clicks, columns]
        bool once = false;
    };
    const std::unordered_map<std::int64_t, Session>& sessions() const { return sessions_; }

 private:
    ItemDelta& of(std::int32_t item);
    void weigh(std::int64_t time, double sign, double* weights) const;
    void advance(std::int64_t time);
    void insert(Session& session, std::int64_t place, std::int32_t item, std::int64_t time, const std::uint16_t* codes) const;
    void insert_once(Session& session, std::int64_t place, std::int32_t item, std::int64_t time,
                     const std::uint16_t* codes);
    void add_once(const Session& session, double sign);
    void meet(std::int32_t item, std::int64_t time);
    void add_last_once(const Session& session, std::int64_t place, double sign);
    void add_click(std::int32_t item, bool later, const double* weights);
    void add_pair(std::int32_t earlier, std::int32_t later, std::int64_t distance, const double* weights);
    void add_term(std::int32_t item, std::int32_t neighbor, int first_lane, double share, const double* weights);
    void cut(ItemDelta& row);
    void add_context(std::int32_t item, const std::uint16_t* codes, double weight);
    void cut_context(ItemDelta& row);

    TrendSettings settings_;
    TrendLimits limits_;
    ContextShape shape_;
    std::vector<double> context_totals_;  // by value
    std::int64_t clock_[kItemLanes + 1];
    double sums_[kItemSums] = {};
    std::vector<std::int32_t> slots_;  // by item: 1 + place, 0 = none
    std::vector<ItemDelta> items_;
    std::vector<std::int32_t> active_;
    std::unordered_map<std::int64_t, Session> sessions_;
    TrendCounters counters_;
    std::int64_t n_pairs_ = 0, n_context_ = 0;
};

}  // namespace mtaw
