// One AdamW step over groups of weights, clipped by the norm of the whole gradient. The mathematics:
// kernels/adam/README.md.
#pragma once

#include <cstdint>
#include <vector>

#include "isa.hpp"

namespace mtaw {

// Arrays of `count` floats.
struct AdamGroup {
    std::int64_t count;
    float* weights;  // updated in place, as are the moments
    const float* gradients;
    float* first_moments;
    float* second_moments;
};

struct AdamSettings {
    double beta1;
    double beta2;
    double eps;
    double weight_decay;
    double clip_norm;  // 0: does not clip
};

// Takes step number `step` (the first is 1) and returns the norm of the whole gradient before clipping; step 0 changes
// nothing and only returns the norm. The same bits for every number of threads; the norm is that of every instruction
// set.
double adam_step(const std::vector<AdamGroup>& groups, const AdamSettings& settings, std::int64_t step,
                 double learning_rate, Isa isa, int threads);

}  // namespace mtaw
