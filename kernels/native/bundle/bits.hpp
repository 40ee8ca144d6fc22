// A bit for each item, the lowest of a byte first.
#pragma once

#include <cstdint>

namespace mtaw {

inline bool has_bit(const std::uint8_t* bits, std::int32_t item) { return (bits[item / 8] >> (item % 8) & 1) != 0; }

inline void set_bit(std::uint8_t* bits, std::int32_t item) {
    bits[item / 8] = static_cast<std::uint8_t>(bits[item / 8] | 1U << (item % 8));
}

inline void clear_bit(std::uint8_t* bits, std::int32_t item) {
    bits[item / 8] = static_cast<std::uint8_t>(bits[item / 8] & ~(1U << (item % 8)));
}

}  // namespace mtaw
