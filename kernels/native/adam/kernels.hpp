// What an instruction set brings to the AdamW step: its two passes over an array.
#pragma once

#include <cstdint>

#include "adam/adam.hpp"

namespace mtaw {

// What is common to all weights of a step.
struct AdamScalars {
    float clip;            // factor of the gradients
    float decay;           // factor of the weights
    bool starts_from_old;  // the first moments: old + rate (gradient - old), or, where 1 - beta1 is at least 1/2,
    float first_rate;      // gradient + rate (gradient - old): 1 - beta1, or -beta1
    float beta2;
    float second_rate;  // 1 - beta2
    float correction;   // sqrt(1 - beta2^t)
    float eps;
    float step_size;  // learning rate / (1 - beta1^t)
};

struct AdamKernels {
    double (*sum_of_squares)(const float* x, std::int64_t count);
    void (*update)(const AdamGroup& part, const AdamScalars& scalars);
};

extern const AdamKernels kAdamPortable;
extern const AdamKernels kAdamAvx2;
extern const AdamKernels kAdamAvx512;

}  // namespace mtaw
