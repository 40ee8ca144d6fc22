// The tables of the trends: time-decayed sums of items and of pairs of items, as arrays.
#pragma once

#include <cstdint>

#include "trends/decay.hpp"

namespace mtaw {

constexpr int kPairSums = 2 * kPairLanes;   // kPairLanes of fwd, then kPairLanes of bwd
constexpr int kItemSums = 2 * kItemLanes;   // kItemLanes of all clicks, then of those that are not their session's first
constexpr std::int64_t kNever = -1;         // the time of a click that never was

struct TrendSettings {
    HalfLives half_lives;
    std::int64_t window;          // clicks apart, at most, of a pair
    std::int64_t max_neighbors;  // of an item, the strongest; 0 = all
};

// Of the ordered pair (a, b), a != b: fwd, 1/distance for every click on b after one on a, at most `window` clicks
// apart in their session, decayed from the time of the later click; bwd, the same with b before a. A session's clicks
// come in the order of their times. Every sum is one of weights relative to its lane's t0 = epochs[lane] * half-life.
struct TrendsView {
    const std::int64_t* row_offsets;  // [N + 1]
    const std::int32_t* neighbors;   // [P], a row's strongest first
    const std::uint16_t* values;      // bfloat16[P, kPairSums]
    const float* totals;              // [N, kPairSums], of whole rows, those cut off too
    const float* counts;              // [N, kItemSums]
    const std::int64_t* times;        // [N, 2], first and last click, kNever without any
    const double* sums;               // [kItemSums], of all items
    const std::int64_t* clock;        // [kItemLanes + 1], the epochs and the time of the newest click
    std::int64_t n_items;
    std::int64_t n_pairs;
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
