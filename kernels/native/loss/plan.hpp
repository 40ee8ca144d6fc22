// Sizes and buffers of one call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "loss/aw_loss.hpp"
#include "loss/kernels.hpp"

namespace mtaw {

// Rows go in chunks, as many as the exponentials kept for the second half of the work allow; a chunk goes in blocks of
// rows, the catalog in tiles of items.
struct LossPlan {
    LossPlan(const LossArguments& arguments, const LossKernels& kernels, int wanted_threads);

    // Rows of block `block` where a chunk has `rows`: the last block of a chunk ends soon after its last row.
    int rows_of_block(std::int64_t rows, std::int64_t block) const;

    int threads;
    int row_step;
    int block_rows;  // of a block of rows, the last one excepted
    std::int64_t element_bytes;
    std::int64_t width;       // d of by_item and of packed queries, padded
    std::int64_t padded_d;    // d of by_dim and of the queries' sums, padded
    std::int64_t tile_width;  // d of a tile of the items' gradient, padded
    std::int64_t tile_items;  // items of a tile, the last one excepted
    std::int64_t n_tiles;
    std::int64_t padded_items;  // of all tiles
    std::int64_t part_tiles;    // tiles of a part of the catalog, the last one excepted
    std::int64_t parts;
    std::int64_t chunk_rows;  // of a chunk, the last one excepted
    std::int64_t chunk_blocks;
    bool keeps;  // the exponentials
};

// Where everything is in one block of memory. Elements are floats or bfloat16: element_bytes.
struct LossBuffers {
    LossBuffers(const LossArguments& arguments, const LossKernels& kernels, const LossPlan& plan, std::byte* base);

    std::size_t bytes = 0;   // of the block; the same with base = nullptr
    float* inverse_norms;    // [N]
    std::byte* kept;         // [chunk_blocks][padded_items, rows of the block] elements; null if none are
                             // kept
    std::byte* queries;      // [chunk_blocks][width / pair, block_rows, pair] elements
    std::byte* weighted;     // [chunk_blocks * block_rows / pair, tile_width, pair] elements
    float* unit;             // [chunk_rows, d]: normalized queries
    float* query_norms;      // [chunk_rows]: 1 / |query|
    float* query_sums;       // [parts][chunk_blocks][padded_d, block_rows]
    float* target_slopes;    // [chunk_rows]: dL/dcos at the target
    float* dominant_slopes;  // [chunk_rows]: the same at the dominant item of `negatives`
    double* others;          // [parts][chunk_blocks * block_rows]: sums of the exponentials but the target's
    std::byte* scratch;      // [threads] of scratch_bytes
    std::size_t scratch_bytes;
};

// A thread's part of the scratch.
struct LossScratch {
    LossScratch(const LossKernels& kernels, const LossPlan& plan, std::byte* base);

    std::size_t bytes = 0;
    std::byte* by_item;    // [tile_items, width] elements
    std::byte* by_dim;     // [tile_items * padded_d] elements
    float* inverse_norms;  // [tile_items], where another piece writes the call's
    std::byte* exps;       // [tile_items, block_rows] elements, where they are not kept
    std::byte* pairs;      // [tile_items / pair, block_rows, pair] elements
    float* tile;           // [tile_items, tile_width]
    float* sums;           // [3, block_rows]
};

}  // namespace mtaw
