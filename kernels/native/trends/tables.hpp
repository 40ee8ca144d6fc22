// The tables of the trends: time-decayed sums of items and of pairs of items, as arrays.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "compiler.hpp"

namespace mtaw {

// Forward decay: a click at time t weighs 2^((t - t0) / h) in the lane of the half-life h, and what it is worth at
// `now` is that times 2^((t0 - now) / h). t0 is a whole number of half-lives: moving it multiplies by a power of two,
// which is exact.
constexpr int kItemLanes = 7;  // half-lives, ascending
constexpr int kPairLanes = 5;  // the longest of them: pairs are too few for the short ones
constexpr int kFirstPairLane = kItemLanes - kPairLanes;
constexpr std::int64_t kMaxTime = std::int64_t{1} << 52;  // ms; times are in 0 .. kMaxTime
constexpr std::int64_t kMaxHalfLife = std::int64_t{1} << 42;

struct HalfLives {
    std::int64_t ms[kItemLanes];
};

// 2^x for |x| <= 1/2 by its series; plain products and sums, so the same bits everywhere.
static inline double small_power(double x) {
    constexpr double kPowers[] = {0x1.816193166d0f9p-40, 0x1.c3bd650fc2986p-36,
                                  0x1.e8cac7351bb25p-32, 0x1.e4cf5158b8ecap-28,
                                  0x1.b5253d395e7c4p-24, 0x1.62c0223a5c824p-20,
                                  0x1.ffcbfc588b0c7p-17, 0x1.430912f86c787p-13,
                                  0x1.5d87fe78a6731p-10, 0x1.3b2ab6fba4e77p-7,
                                  0x1.c6b08d704a0c0p-5,  0x1.ebfbdff82c58fp-3,
                                  0x1.62e42fefa39efp-1,  1.0};
    double sum = kPowers[0];
    for (int k = 1; k < 14; ++k) sum = sum * x + kPowers[k];
    return sum;
}

static inline std::int64_t floor_div(std::int64_t a, std::int64_t b) {
    const std::int64_t q = a / b;
    return q - (a % b < 0 ? 1 : 0);
}

// What is less counts as nothing: numbers next to the end of a type's range are slow to compute with, and say nothing.
constexpr int kFarHalfLives = 600;
constexpr double kMinSum = 0x1p-600;
constexpr float kMinFloat = 0x1p-50F;  // of sums in tables, and of what they are multiplied by

static inline float to_float(double sum) { return std::abs(sum) < 0x1p-100 ? 0.0F : static_cast<float>(sum); }

// 2^(ms / half_life), 0 under 2^-600 and at most about 2^600: a sum of 0 stays 0 at a `now` that a forgotten click has
// left far behind its lane's t0.
static inline double decay_power(std::int64_t ms, std::int64_t half_life) {
    std::int64_t whole = floor_div(ms, half_life), rest = ms - whole * half_life;
    if (2 * rest > half_life) {
        ++whole;
        rest -= half_life;
    }
    if (whole < -kFarHalfLives) return 0;
    const double part = small_power(static_cast<double>(rest) / static_cast<double>(half_life));
    return std::ldexp(part, static_cast<int>(std::min<std::int64_t>(whole, kFarHalfLives)));
}

constexpr int kPairSums = 2 * kPairLanes;  // kPairLanes of fwd, then kPairLanes of bwd
constexpr int kItemSums = 2 * kItemLanes;  // kItemLanes of all clicks, then of those that are not their session's first
constexpr std::int64_t kMaxCounted = 3;    // clicks of a session on one item, where it counts a pair once
constexpr std::int64_t kNever = -1;        // the time of a click that never was

// Pairs as queries read them, and what each is worth in the pre-score.
static MTAW_INLINE float widened(std::uint16_t value) { return __builtin_bit_cast(float, std::uint32_t{value} << 16); }

// What a pair lane's fwd is worth in the pre-score; bwd half of it.
constexpr float kPreScoreLanes[kPairLanes] = {0.6F, 1.0F, 0.0F, 0.4F, 0.0F};

// A pair's part of a pre-score: kPreLanes of fwd, then of bwd.
template <typename T>
static MTAW_INLINE T pair_pre_score(const T* value, const T* factors) {
    return (value[0] * factors[0] + value[1] * factors[1] + value[3] * factors[3]) +
           (value[kPairLanes] * factors[kPairLanes] + value[kPairLanes + 1] * factors[kPairLanes + 1] +
            value[kPairLanes + 3] * factors[kPairLanes + 3]);
}

static MTAW_INLINE void widen(const std::uint16_t* value, float* out) {
    for (int k = 0; k < kPairSums; ++k) out[k] = widened(value[k]);
}

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

// Throws std::invalid_argument naming the array and the index unless offsets run from 0 up to the number of pairs,
// neighbors are items, no row is longer than the settings allow, sums are finite and not negative, and times fit each
// other and the clock. Reads every array once.
void check_trends(const TrendsView& tables, const TrendSettings& settings);

// Of columns with these largest codes. Throws std::invalid_argument on sizes out of range.
ContextShape context_shape(const std::int64_t* sizes, std::int64_t count);

}  // namespace mtaw
