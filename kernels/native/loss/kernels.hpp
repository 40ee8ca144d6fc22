// What an instruction set brings to the AW loss: the inner loops over one tile, and the layouts they want.
#pragma once

#include <cstdint>

#include "isa.hpp"
#include "loss/aw_loss.hpp"

namespace mtaw {

// An item of the tile that is the target of a row of the block: its exponential is kept out of sums and products.
struct TargetHit {
    std::int32_t item;
    std::int32_t row;
};

// Operands are stored as elements (float or bfloat16) in groups of `pair` that a lane multiplies at once.
// Items of a tile are padded to a multiple of `item_step` with zero vectors.

// Normalizes and converts a tile of items.
struct PackItems {
    const float* items;  // [valid, d]
    std::int64_t d;
    std::int64_t valid;     // items in the tile
    std::int64_t padded;    // `valid` up to a multiple of item_step
    std::int64_t width;     // elements of a row of by_item: d up to a multiple of the depth step
    std::int64_t padded_d;  // elements of the d axis of by_dim, see LossKernels
    float* inverse_norms;   // [valid], out
    void* by_item;          // [padded, width], out: operand of the logits
    void* by_dim;           // [padded * padded_d], out, in the set's own order, or null if not needed:
                            // operand of the queries' gradient
};

// Exponentials of a block of rows against a tile of items, lanes = rows.
struct ExpTile {
    const void* by_item;
    std::int64_t width;
    const void* queries;   // [width / pair, block_rows, pair]
    float factor;          // scale / ln 2: takes a cosine to its logit in base 2
    const float* weights;  // [valid]: factors on the exponentials, or null
    std::int64_t valid;
    std::int64_t padded;
    int block_rows;
    const TargetHit* hits;  // by item, ascending
    std::int64_t n_hits;
    float* sums;  // [block_rows], out: over the valid items that are no targets
    void* kept;   // [padded, block_rows] elements, out, or null: operand of the items' gradient
    void* pairs;  // [padded / pair, block_rows, pair] elements, out, or null: operand of the queries' gradient
};

// sums[dim, row] += sum over the tile's items of exps x item.
struct AccumulateQueries {
    const void* pairs;  // as in ExpTile
    const void* by_dim;
    std::int64_t padded;
    std::int64_t d;
    std::int64_t padded_d;
    int block_rows;
    float* sums;  // [d up to a multiple of dim_step, block_rows]
};

// tile[item, dim] = or += sum over rows of exps x query.
struct AccumulateItems {
    const void* kept;          // [blocks][items, rows of the block]
    std::int64_t kept_stride;  // elements from one block of rows to the next
    std::int64_t blocks;
    int block_rows;           // of every block but the last
    int last_rows;            // of the last
    std::int64_t first_item;  // of the tile, in `kept`
    const void* queries;      // [rows of all blocks / pair, tile_width, pair]
    std::int64_t padded;
    std::int64_t tile_width;  // d up to a multiple of `lanes`
    bool first;               // whether nothing is in the tile yet
    float* tile;              // [padded, tile_width]
};

// Adds the tile to what earlier rows left in `out`, and after the last ones takes it through the norm.
struct FinishItems {
    const float* tile;
    std::int64_t tile_width;
    const float* items;  // [valid, d]
    const float* inverse_norms;
    std::int64_t valid;
    std::int64_t d;
    bool first;
    bool last;
    float* out;  // [valid, d]
};

// p above which an item that is no target is a row's dominant one, of which there is one at most. 1 - p of the others
// keeps its precision as a difference; the dominant one's is a sum, and its part is made by the row.
constexpr float kDominant = 0.75F;

// The work of `negatives` on a block of rows and a tile of items, once the rows' sums are known.
struct NegativeTile {
    void* kept;  // [padded, block_rows] elements: exponentials, 0 for targets and padding
    std::int64_t padded;
    int block_rows;
    float gamma;
    int whole_gamma;            // gamma where it is a small whole number, else -1
    const float* inverse_sums;  // [block_rows]: 1 / S; 0 if there is no row
    std::int64_t first_item;    // of the tile
    std::int64_t* dominant;     // negative_sums: [block_rows], the dominant item where it is in the tile
    float* sums;                // negative_sums: [3, block_rows], out, over the others: p, f and g (negative_tiles.hpp)
    const float* factors;       // negative_slopes: [block_rows]; factor x S p + g takes the place of the exponentials,
    void* pairs;                // and is written here as in ExpTile
};

struct LossKernels {
    int pair;        // elements a lane multiplies at once: 1 in float32, 2 in bfloat16
    int lanes;       // floats of a vector
    int block_rows;  // rows of a block, at most
    int row_step;    // rows of a block are a multiple
    int item_step;
    int depth_step;  // elements: the logits' inner axis, d, is padded to a multiple
    int dim_step;    // d as the outer axis of the queries' gradient is padded to a multiple
    void (*pack_items)(const PackItems&);
    void (*exponentials)(const ExpTile&);
    void (*accumulate_queries)(const AccumulateQueries&);
    void (*accumulate_items)(const AccumulateItems&);
    void (*finish_items)(const FinishItems&);
    void (*negative_sums)(const NegativeTile&);
    void (*negative_slopes)(const NegativeTile&);
};

extern const LossKernels kLossPortable;
extern const LossKernels kLossAvx2;
extern const LossKernels kLossAvx512;
extern const LossKernels kLossBf16;
extern const LossKernels kLossAmx;

// The inner loops for products in `format`. Throws std::invalid_argument if `isa` has none.
const LossKernels& loss_kernels(LossFormat format, Isa isa);

}  // namespace mtaw
