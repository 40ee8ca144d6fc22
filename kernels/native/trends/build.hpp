// Builds the tables from sessions and the times of their clicks.
#pragma once

#include <cstdint>
#include <vector>

#include "trends/tables.hpp"

namespace mtaw {

struct TimedSessions {
    const std::int32_t* items;               // [T]
    const std::int64_t* offsets;             // [S + 1]
    const std::int64_t* times;               // [T], ms since 1970
    std::int64_t count;                      // S
    std::int64_t n_items;                    // N
    std::int64_t once_from;                  // the first session that counts a pair once
    std::int64_t newest = 0;                 // ms: the clock is of this time, or of the newest click if that is later
    const std::uint16_t* context = nullptr;  // [T, shape.n_columns]
    ContextShape shape{};
    std::int64_t first = 0, last = 0;  // the rows of items [first, last) alone are built
};

struct TrendsOut {
    std::int64_t* row_offsets;
    std::int32_t* neighbors;
    std::uint16_t* values;
    float* totals;
    float* counts;
    std::int64_t* times;
    double* sums;
    std::int64_t* clock;
    std::int64_t* context_offsets = nullptr;  // the rest null without context
    std::uint16_t* context_values = nullptr;
    float* context_sums = nullptr;
    double* context_totals = nullptr;
};

// The same bits for every number of threads and every order of arrival: sums are of float64 terms in the order of their
// times, rounded once.
class TrendsBuild {
   public:
    // Throws std::invalid_argument on settings or offsets out of range, std::out_of_range on an item or time.
    TrendsBuild(const TimedSessions& sessions, const TrendSettings& settings, int threads);

    std::int64_t n_pairs() const { return n_pairs_; }
    std::int64_t n_context_sums() const { return n_context_sums_; }
    // Once; gives its memory back on the way.
    void write(const TrendsOut& out);

   private:
    struct Block {
        std::vector<std::int64_t> lengths;  // of rows
        std::vector<std::int32_t> neighbors;
        std::vector<std::uint16_t> values;
        std::vector<float> totals, counts;
        std::vector<std::int64_t> times;
        std::vector<std::int64_t> context_lengths;
        std::vector<std::uint16_t> context_values;
        std::vector<float> context_sums;
    };
    class RowBuilder;

    void order_sessions();
    void mark_click_uses();
    void index_items();
    void sum_all();

    TimedSessions sessions_;
    TrendSettings settings_;
    std::int64_t clock_[kItemLanes + 1];
    double sums_[kItemSums] = {};
    std::vector<std::int32_t> items_;  // by session and time, where the given order is another
    std::vector<std::int64_t> times_;
    std::vector<std::uint16_t> codes_;
    std::vector<double> context_totals_;
    std::vector<std::int64_t> item_offsets_;    // [N + 1] into item_clicks_
    std::vector<std::int64_t> item_clicks_;     // indices of each item's clicks, ascending
    std::vector<std::int64_t> session_begins_;  // [T] where the session of a click begins
    std::vector<std::uint8_t> click_uses_;      // [T] what a click adds to: kPairs, kClicks alone, or nothing
    std::vector<Block> blocks_;                 // of the items from sessions_.first on
    std::int64_t n_pairs_ = 0, n_context_sums_ = 0;
};

// Throws std::invalid_argument on half-lives that do not rise within 1 .. kMaxHalfLife, or another setting out of
// range.
void check_trend_settings(const TrendSettings& settings);

}  // namespace mtaw
