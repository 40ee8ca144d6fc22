// What a build for one instruction set offers. Every one gives the same bits: lanes are independent (candidates, sums,
// units), each is one chain of fused multiply-adds in a fixed order.
#pragma once

#include <cstdint>

#include "isa.hpp"
#include "memory/pool.hpp"
#include "memory/row_view.hpp"

namespace mtaw {

constexpr std::int64_t kTile = 48;  // candidates whose features and hidden units together fit a core's first cache
constexpr std::int64_t kPanel = 8;  // units of a layer whose weights lie side by side
constexpr std::int64_t kPadding = 16;  // floats: arrays are read and written in whole vectors

struct QueryFacts;

// A tile of candidates, and where their features go.
struct TileInput {
    const Pool* pool;
    const QueryFacts* facts;
    const std::int32_t* slots;  // [kTile], what is past `count` repeats the first
    std::int64_t count;
    const float* counts;  // [kCountKinds, kTile], of the tables; those that no feature asks for are not there
    float* columns;       // [kCandidateFeatures, kTile] out, in whole vectors
};

struct ColumnRule {
    bool log;     // log(x + shift), else x
    float shift;
};

// Rows that will be wanted soon: asked for bit by bit while there is much else to compute, they cost no time.
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

struct MemoryKernels {
    // A row onto the pool: coefficients float32[kSumLanes], on a cache line; near: its part of kNear.
    void (*add_row)(const RowView& row, const float* coefficients, float near, Pool& pool);
    // What a delta adds to a row of which the base's part was added.
    void (*add_fresh)(const FreshView& row, const float* coefficients, float near, Pool& pool);
    // The lanes kKnn .. kKnnNext of a past session's items, as similar_sessions.hpp has it; n_own: the slots up to here
    // are the own items'. slots: working memory for its clicks; largest float32[kMoreLanes] goes along.
    void (*add_session)(const SessionClicks& session, std::int64_t n_own, float weight, float fresh, Pool& pool,
                        std::int32_t* slots, float* largest);
    // How many of the keys are at least `least`.
    std::int64_t (*count_at_least)(const std::int32_t* keys, std::int64_t count, std::int32_t least);
    // x = exp(x) for x <= 0 and x = log(x) for normal x > 0; may write up to whole vectors.
    void (*exp)(float* x, std::int64_t count);
    void (*log)(float* x, std::int64_t count);
    // x = 1 / sqrt(x + 1) for x >= 0; as above.
    void (*inverse_root)(float* x, std::int64_t count);
    // out += factor * x, `count` a multiple of kPadding.
    void (*add_scaled)(float* out, const float* x, float factor, std::int64_t count);
    // The candidate features before their rules: see TileInput.
    void (*fill)(const TileInput& input);
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
