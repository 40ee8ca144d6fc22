// Checks of arrays that were read from a file. What is wrong is a std::invalid_argument naming array and index.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace mtaw {

[[noreturn]] inline void refuse(const std::string& array, std::int64_t index, const std::string& reason) {
    throw std::invalid_argument(array + "[" + std::to_string(index) + "] " + reason);
}

// count + 1 offsets from 0 to `end`. longest: of a run; 0 = any.
inline void check_offsets(const char* name, const std::int64_t* offsets, std::int64_t count, std::int64_t end,
                          std::int64_t longest) {
    if (offsets[0] != 0) refuse(name, 0, "is " + std::to_string(offsets[0]) + ", not 0");
    for (std::int64_t i = 0; i < count; ++i) {
        if (offsets[i + 1] < offsets[i]) refuse(name, i + 1, "is less than the one before");
        if (longest != 0 && offsets[i + 1] - offsets[i] > longest) {
            refuse(name, i + 1, "ends a run longer than " + std::to_string(longest));
        }
    }
    if (offsets[count] != end) {
        refuse(name, count, "is " + std::to_string(offsets[count]) + ", not " + std::to_string(end));
    }
}

// Values in 0..end-1.
inline void check_range(const char* name, const std::int32_t* values, std::int64_t count, std::int64_t end) {
    // All in one go, so that compilers vectorize it: a negative number is a large unsigned one.
    std::uint32_t largest = 0;
    for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<std::uint32_t>(values[i]));
    if (count == 0 || largest < end) return;
    for (std::int64_t i = 0; i < count; ++i) {
        if (values[i] < 0 || values[i] >= end) {
            refuse(name, i, "is " + std::to_string(values[i]) + ", outside 0.." + std::to_string(end - 1));
        }
    }
}

constexpr const char* kNoSum = "has a value that is negative or not finite";

// Sums [rows, columns] as bfloat16.
inline void check_bfloat16_sums(const char* name, const std::uint16_t* values, std::int64_t rows,
                                std::int64_t columns) {
    constexpr std::uint16_t kInfinityBits = 0x7F80;  // NaNs and negative numbers have larger bits
    std::uint16_t largest = 0;
    for (std::int64_t i = 0; i < rows * columns; ++i) largest = std::max(largest, values[i]);
    if (largest < kInfinityBits) return;
    for (std::int64_t i = 0; i < rows * columns; ++i) {
        if (values[i] >= kInfinityBits) refuse(name, i / columns, kNoSum);
    }
}

template <typename T>
void check_sums(const char* name, const T* values, std::int64_t rows, std::int64_t columns) {
    for (std::int64_t i = 0; i < rows * columns; ++i) {
        if (!(values[i] >= 0 && std::isfinite(values[i]))) refuse(name, i / columns, kNoSum);
    }
}

}  // namespace mtaw
