// The tables of the trends: time-decayed sums of items and of pairs of items, as arrays.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "trends/decay.hpp"

namespace mtaw {

constexpr int kPairSums = 2 * kPairLanes;  // kPairLanes of fwd, then kPairLanes of bwd
constexpr int kItemSums = 2 * kItemLanes;  // kItemLanes of all clicks, then of those that are not their session's first
constexpr std::int64_t kMaxCounted = 3;    // clicks of a session on one item, where it counts a pair once
constexpr std::int64_t kNever = -1;        // the time of a click that never was

constexpr std::int64_t kMaxContext = 8;          // columns
constexpr std::int64_t kMaxColumnValues = 1001;  // of a column: 1,000 and the bucket of all others
constexpr int kContextLane = 4;                  // the item lane in which clicks within a value are counted

inline std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

struct TrendSettings {
    HalfLives half_lives;
    std::int64_t window;         // clicks apart, at most, of a pair
    std::int64_t max_neighbors;  // of an item, the strongest; 0 = all
};

// The columns of the visits' context. A code 1 .. size of a column is a value, 0 none; values are numbered over all
// columns.
struct ContextShape {
    std::int64_t n_columns = 0;
    std::int64_t begins[kMaxContext + 1] = {};  // the first value of each column, and how many there are

    std::int64_t n_values() const { return begins[n_columns]; }
    // -1 without a value.
    std::int64_t value_of(std::int64_t column, std::uint16_t code) const {
        return code == 0 || code > begins[column + 1] - begins[column] ? -1 : begins[column] + code - 1;
    }
};

// Decayed clicks of items within the values, relative to t0 of kContextLane; an item's values ascend.
struct ContextView {
    ContextShape shape;
    const std::int64_t* offsets = nullptr;  // [N + 1]
    const std::uint16_t* values = nullptr;  // [Q]
    const float* sums = nullptr;            // [Q]
    const double* totals = nullptr;         // [values], of all items
    std::int64_t n_sums = 0;                // Q
};

// A session that counts a pair once adds to pairs at the first click on each item alone, and distances count distinct
// items. To an item's clicks it adds kMaxCounted at most.
// Of the ordered pair (a, b), a != b: fwd, 1/distance for every click on b after one on a, at most `window` clicks
// apart in their session, decayed from the time of the later click; bwd, the same with b before a. A session's clicks
// come in the order of their times. Every sum is one of weights relative to its lane's t0 = epochs[lane] * half-life.
struct TrendsView {
    const std::int64_t* row_offsets;  // [N + 1]
    const std::int32_t* neighbors;    // [P], a row's strongest first
    const std::uint16_t* values;      // bfloat16[P, kPairSums]
    const float* totals;              // [N, kPairSums], of whole rows, those cut off too
    const float* counts;              // [N, kItemSums]
    const std::int64_t* times;        // [N, 2], first and last click, kNever without any
    const double* sums;               // [kItemSums], of all items
    const std::int64_t* clock;        // [kItemLanes + 1], the epochs and the time of the newest click
    std::int64_t n_items;
    std::int64_t n_pairs;
    ContextView context;
};

// How much of its row a pair is, over all lanes: what rows are cut by. to_now: [kPairLanes].
static inline double pair_strength(const double* values, const double* totals, const double* to_now) {
    double strength = 0;
    for (int lane = 0; lane < kPairLanes; ++lane) {
        const double both = std::abs(values[lane]) + std::abs(values[kPairLanes + lane]);
        const double total = std::abs(totals[lane]) + std::abs(totals[kPairLanes + lane]);
        strength += both * to_now[lane] / (total * to_now[lane] + 1.0);
    }
    return strength;
}

}  // namespace mtaw
