// The inner loops over the entries of a lane.
#pragma once

#include <cstdint>

#include "isa.hpp"
#include "scan/kernel.hpp"

namespace mtaw {

// The values that are not -infinity: how many, and their least and largest.
struct FiniteRange {
    std::int64_t count;
    float smallest;
    float largest;
};

struct SelectKernels {
    FiniteRange (*finite_range)(const float* values, std::int64_t count);
    std::int64_t (*count_at_least)(const float* values, std::int64_t count, float smallest);
    // Drops the entries whose upper bound is not over lane.cut; the rest keep their order.
    void (*drop_under_cut)(ScanLane& lane);
};

SelectKernels select_kernels(Isa isa);

#if defined(__x86_64__)
SelectKernels select_kernels_avx512();
#endif

}  // namespace mtaw
