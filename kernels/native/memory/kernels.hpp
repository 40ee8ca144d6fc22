// What a build for one instruction set offers. Every one gives the same bits: lanes are independent (candidates, sums,
// units), each is one chain of fused multiply-adds in a fixed order.
#pragma once

#include <cstdint>

#include "isa.hpp"
#include "memory/pool.hpp"
#include "memory/view.hpp"

namespace mtaw {

constexpr std::int64_t kTile = 48;  // candidates whose features and hidden units together fit a core's first cache
constexpr std::int64_t kPanel = 8;  // units of a layer whose weights lie side by side
constexpr std::int64_t kPadding = 16;  // floats: arrays are read and written in whole vectors

struct ColumnRule {
    bool log;     // log(x + shift), else x
    float shift;
};

// The ranker over one tile of candidates. Columns and hidden units are kTile floats wide.
struct ForwardPass {
    const float* columns;      // [depth, kTile]
    std::int64_t depth;        // of the columns that count; the others are 0
    std::int64_t all_columns;  // that `panels1` has
    const float* start;        // [n1 + 1] what the first layer's sums, and then the linear part's, start from
    const float* linear;       // [all_columns]
    const float* panels1;      // [n1 / kPanel, all_columns, kPanel]
    const float* panels2;      // [n2 / kPanel, n1, kPanel]
    const float* bias2;        // [n2]
    const float* output;       // [n2]
    std::int64_t n1, n2;       // multiples of kPanel
    float* hidden;             // [n1, kTile] working memory
    float* scores;             // [kTile] out
};

struct MemoryKernels {
    // The row of `item` onto the pool: coefficients float32[kSumLanes], on a cache line; near: SlotHead::near.
    void (*add_row)(const MemoryView& memory, std::int64_t item, const float* coefficients, float near, Pool& pool);
    // How many of the keys are at least `least`.
    std::int64_t (*count_at_least)(const std::int32_t* keys, std::int64_t count, std::int32_t least);
    // x = exp(x) for x <= 0 and x = log(x) for normal x > 0; may write up to whole vectors.
    void (*exp)(float* x, std::int64_t count);
    void (*log)(float* x, std::int64_t count);
    // x = 1 / sqrt(x + 1) for x >= 0; as above.
    void (*inverse_root)(float* x, std::int64_t count);
    // out += factor * x, `count` a multiple of kPadding.
    void (*add_scaled)(float* out, const float* x, float factor, std::int64_t count);
    // columns [n_columns, kTile] by their rules, the first `count` candidates.
    void (*transform)(float* columns, const ColumnRule* rules, std::int64_t n_columns, std::int64_t count);
    void (*forward)(const ForwardPass& pass, std::int64_t count);
};

const MemoryKernels& memory_kernels(Isa isa);

const MemoryKernels& memory_kernels_portable();
#if defined(__x86_64__)
const MemoryKernels& memory_kernels_avx2();
const MemoryKernels& memory_kernels_avx512();
#endif

}  // namespace mtaw
