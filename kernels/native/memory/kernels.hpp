// The kernels of the session memory, one set for each instruction set. All sets give the same bits: lanes are
// independent (candidates, sums, units), each is one chain of fused multiply-adds in a fixed order.
#pragma once

#include <cstdint>

#include "column_kernels.hpp"
#include "isa.hpp"
#include "memory/pool.hpp"
#include "memory/tables.hpp"

namespace mtaw {

constexpr std::int64_t kPanel = 8;  // units of a layer whose weights are next to each other

struct QueryFacts;

// A tile of candidates, and where their features go.
struct TileInput {
    const Pool* pool;
    const QueryFacts* facts;
    const std::int32_t* slots;  // [kTile], what is past `count` repeats the first
    std::int64_t count;
    const float* counts;  // [kCountKinds, kTile], of the tables; counts that no feature uses are missing
    float* columns;       // [kCandidateFeatures, kTile] out, in whole vectors
};

// Rows that will be read soon. They are prefetched bit by bit during the computation, which costs no time.
struct RowsAhead {
    const float* const* rows;
    std::int64_t count;
    std::int64_t floats;  // of a row
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
    RowsAhead ahead;
};

struct MemoryKernels : ColumnKernels {
    // Adds a row to the pool: coefficients float32[kSumLanes], on a cache line; near: its part of kNear.
    void (*add_row)(const RowView& row, const float* coefficients, float near, Pool& pool);
    // Adds the delta's part of a row whose base part was added.
    void (*add_delta_row)(const DeltaRowView& row, const float* coefficients, float near, Pool& pool);
    // The candidate features before their rules: see TileInput.
    void (*fill)(const TileInput& input);
    void (*forward)(const ForwardPass& pass, std::int64_t count);
};

const MemoryKernels& memory_kernels(Isa isa);

const MemoryKernels& memory_kernels_portable();
#if defined(__x86_64__)
const MemoryKernels& memory_kernels_avx2();
const MemoryKernels& memory_kernels_avx512();
#elif defined(__wasm_simd128__)
const MemoryKernels& memory_kernels_wasm();
#endif

}  // namespace mtaw
