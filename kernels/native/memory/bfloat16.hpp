// The tables' 16-bit numbers.
#pragma once

#include <bit>
#include <cstdint>

namespace mtaw {

// To the nearest, ties to even; the value is finite and not negative.
inline std::uint16_t to_bfloat16(double value) {
    const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
    return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

inline float from_bfloat16(std::uint16_t value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

}  // namespace mtaw
