// The two passes, written once over the floats of an instruction set.
//
// Included by one file an instruction set. Floats bring Vec, kLanes and load, store, set, add, sub, mul, multiply_add,
// divide, square_root.
#pragma once

#include <cstdint>

#include "adam/kernels.hpp"

namespace mtaw {
namespace {

constexpr int kSums = 32;  // in turns, so that the order of the additions is that of every instruction set

// In float64, where the square of a float is exact.
double sum_of_squares(const float* x, std::int64_t count) {
    double sums[kSums] = {};
    std::int64_t k = 0;
    for (; k + kSums <= count; k += kSums) {
        for (int lane = 0; lane < kSums; ++lane) {
            const auto value = static_cast<double>(x[k + lane]);
            sums[lane] += value * value;
        }
    }
    for (int lane = 0; k + lane < count; ++lane) {
        const auto value = static_cast<double>(x[k + lane]);
        sums[lane] += value * value;
    }
    double total = 0.0;
    for (const double sum : sums) total += sum;
    return total;
}

// One vector of weights; the operations and their order are torch.optim.AdamW's (fused=True), for the same bits.
template <typename F>
inline void update_vector(float* weights, const float* gradients, float* first, float* second, const AdamScalars& s) {
    const typename F::Vec gradient = F::mul(F::load(gradients), F::set(s.clip));
    const typename F::Vec old_first = F::load(first);
    const typename F::Vec new_first =
        F::multiply_add(F::set(s.first_rate), F::sub(gradient, old_first), s.starts_from_old ? old_first : gradient);
    const typename F::Vec new_second =
        F::multiply_add(F::mul(F::set(s.second_rate), gradient), gradient, F::mul(F::load(second), F::set(s.beta2)));
    const typename F::Vec root = F::divide(F::square_root(new_second), F::set(s.correction));
    const typename F::Vec change = F::divide(F::mul(F::set(s.step_size), new_first), F::add(root, F::set(s.eps)));
    F::store(weights, F::sub(F::mul(F::load(weights), F::set(s.decay)), change));
    F::store(first, new_first);
    F::store(second, new_second);
}

template <typename F>
void update(const AdamGroup& part, const AdamScalars& scalars) {
    std::int64_t k = 0;
    for (; k + F::kLanes <= part.count; k += F::kLanes) {
        update_vector<F>(part.weights + k, part.gradients + k, part.first_moments + k, part.second_moments + k,
                         scalars);
    }
    const std::int64_t rest = part.count - k;
    if (rest == 0) return;
    float weights[F::kLanes] = {}, gradients[F::kLanes] = {}, first[F::kLanes] = {}, second[F::kLanes] = {};
    for (std::int64_t r = 0; r < rest; ++r) {
        weights[r] = part.weights[k + r];
        gradients[r] = part.gradients[k + r];
        first[r] = part.first_moments[k + r];
        second[r] = part.second_moments[k + r];
    }
    update_vector<F>(weights, gradients, first, second, scalars);
    for (std::int64_t r = 0; r < rest; ++r) {
        part.weights[k + r] = weights[r];
        part.first_moments[k + r] = first[r];
        part.second_moments[k + r] = second[r];
    }
}

}  // namespace
}  // namespace mtaw
