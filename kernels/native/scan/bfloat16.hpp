// The two halves of an item's word, its step and its residual as bfloat16, rounded up; and what rounding up takes.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace mtaw {

constexpr double kUp = 1 + 0x1p-30;    // covers the roundings of a sum of squares of 2^14 terms, its root, a quotient
constexpr double kRounder = 0x1.8p52;  // adding and subtracting it rounds a small float64 to the nearest integer

// The least bfloat16 >= value, as its 16 bits. value is 0 or in [2^-100, 64].
inline std::uint32_t bfloat16_up(double value) {
    float near = static_cast<float>(value);
    if (static_cast<double>(near) < value) near = std::nextafterf(near, std::numeric_limits<float>::infinity());
    const auto bits = std::bit_cast<std::uint32_t>(near);
    return (bits >> 16) + ((bits & 0xFFFFU) != 0 ? 1 : 0);
}

inline double bfloat16_value(std::uint32_t bits) { return static_cast<double>(std::bit_cast<float>(bits << 16)); }

}  // namespace mtaw
