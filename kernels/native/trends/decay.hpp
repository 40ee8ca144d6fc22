// Forward decay: a click at time t weighs 2^((t - t0) / h) in the lane of the half-life h, and what it is worth at
// `now` is that times 2^((t0 - now) / h). t0 is a whole number of half-lives: moving it multiplies by a power of two,
// which is exact.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace mtaw {

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

}  // namespace mtaw
