// The AW loss over the whole catalog, forward and backward, over tiles: B x N never whole.
//
// The mathematics, the floor and the choice of tiles: kernels/aw_loss/README.md.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace mtaw {

enum class LossFormat { float32, bfloat16 };

// Axes: rows B, items N, d. All row-major. Vectors are normalized inside.
struct LossArguments {
    std::int64_t n_rows;
    std::int64_t n_items;
    std::int64_t d;
    const float* queries;         // [B, d]
    const float* items;           // [N, d]
    const std::int64_t* targets;  // [B], in 0..N-1
    const float* row_weights;     // [B]: the gradients are those of sum_b row_weights[b] * loss[b]
    const float* item_weights;    // [N]: how often an item counts in the softmax's sum, or null: once; a row's target
                                  // counts once whatever it says. Not with negatives
    double scale;                 // 0 < scale <= 40
    double gamma;                 // >= 0; with negatives at most kMaxGamma
    bool negatives;               // whether to add the term over the items that are no targets
    float* loss;                  // [B], out: unweighted
    float* d_queries;             // [B, d], out, or null if not needed
    float* d_items;               // [N, d], out, or null if not needed
};

constexpr double kMaxGamma = 64.0;  // (2p)^gamma of a p above 1/2 stays a float32

// Computes loss and gradients with matrix products in `format`, accumulated in float32. `isa` must be one the CPU has.
// The same bits for every number of threads and on every run. Throws std::out_of_range on a target outside 0..N-1,
// std::invalid_argument if `isa` has no products in `format`.
void aw_loss(const LossArguments& arguments, LossFormat format, Isa isa, int threads);

}  // namespace mtaw
