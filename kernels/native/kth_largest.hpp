// The largest of many keys, without sorting them.
#pragma once

#include <cstdint>

#include "column_kernels.hpp"

namespace mtaw {

// The largest value that at least `wanted` of the keys reach. All keys are in low .. high - 1, and count >= wanted >=
// 1.
std::int32_t kth_largest(const ColumnKernels& kernels, const std::int32_t* keys, std::int64_t count, std::int64_t wanted,
                    std::int64_t low, std::int64_t high);

}  // namespace mtaw
