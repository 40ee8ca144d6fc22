// One call of the loss, chunk of rows by chunk: its state, and the passes over catalog and rows.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "work_queue.hpp"
#include "loss/block.hpp"
#include "loss/kernels.hpp"
#include "loss/plan.hpp"
#include "loss/row_terms.hpp"

namespace mtaw {

class LossPass {
   public:
    LossPass(const LossArguments& arguments, const LossKernels& kernels, int threads);
    void run();

   private:
    struct Chunk {
        std::int64_t begin;
        std::int64_t rows;
    };

    // A row and an item that its products leave out: of a block, or of a chunk with dL/dcos of the two.
    struct Aim {
        std::int64_t item;
        std::int32_t row;
        float slope = 0.0F;
        bool operator<(const Aim& other) const { return item != other.item ? item < other.item : row < other.row; }
    };

    // What the sums over a row's items count for in its gradient, and what the items left out of them do.
    struct RowScalars {
        double factor;
        double at_target;
        double at_dominant;
    };

    // aw_loss.cpp: the catalog against rows
    void pack_tile(std::int64_t tile, bool keeps_norms, const LossScratch& scratch) const;
    template <typename Part>
    void for_each_part(const Chunk& chunk, const Part& pass_part) const;
    void exponentials_of_part(const Chunk& chunk, std::int64_t begin, std::int64_t end, std::int64_t part,
                              const LossScratch& scratch) const;
    void clear_sums(std::int64_t begin, std::int64_t end, std::int64_t part) const;
    void accumulate_queries(const Chunk& chunk, std::int64_t block, std::int64_t tile, std::int64_t part,
                            const std::byte* pairs, const LossScratch& scratch) const;
    std::vector<Aim> aims_of(const Chunk& chunk, std::int64_t block) const;

    // rows.cpp: rows alone
    void prepare_block(const Chunk& chunk, std::int64_t block) const;
    void normalize(const Chunk& chunk, std::int64_t row, float* unit) const;
    void add_others(std::int64_t first, std::int64_t rows) const;
    double log_p(const Chunk& chunk, std::int64_t row, double& total) const;
    void finish_block(const Chunk& chunk, std::int64_t block) const;
    RowScalars finish_loss(const Chunk& chunk, std::int64_t row) const;
    void write_query_gradient(const Chunk& chunk, std::int64_t row, const RowScalars& scalars, const float* sums,
                              std::int64_t stride, float* gradient) const;
    void pack_weighted(std::int64_t row, float factor, bool is_row) const;

    // items.cpp: the items' gradient
    void accumulate_items(const Chunk& chunk) const;
    void add_aims(const std::vector<Aim>& aims, std::int64_t first, std::int64_t valid, float* tile) const;

    // negatives.cpp: between the exponentials and the rows' end
    void take_negatives(const Chunk& chunk);
    void begin_negatives(const Chunk& chunk, std::int64_t block);
    void sums_of_part(const Chunk& chunk, std::int64_t begin, std::int64_t end, std::int64_t part,
                      const LossScratch& scratch);
    void finish_negatives(const Chunk& chunk, std::int64_t block);
    void slopes_of_part(const Chunk& chunk, std::int64_t begin, std::int64_t end, std::int64_t part,
                        const LossScratch& scratch);
    NegativeTile negative_tile(const Chunk& chunk, std::int64_t block, std::int64_t tile);

    std::int64_t blocks_of(const Chunk& chunk) const { return (chunk.rows + plan_.block_rows - 1) / plan_.block_rows; }
    int rows_of(const Chunk& chunk, std::int64_t block) const { return plan_.rows_of_block(chunk.rows, block); }
    std::int64_t tile_items(std::int64_t tile) const {
        const std::int64_t left = in_.n_items - tile * plan_.tile_items;
        return left < plan_.tile_items ? left : plan_.tile_items;
    }
    std::int64_t padded(std::int64_t items) const {
        return (items + kernels_.item_step - 1) / kernels_.item_step * kernels_.item_step;
    }
    // The exponentials of a block against a tile.
    std::byte* kept_of(const Chunk& chunk, std::int64_t block, std::int64_t tile) const {
        const std::int64_t offset =
            block * plan_.padded_items * plan_.block_rows + tile * plan_.tile_items * rows_of(chunk, block);
        return at_.kept + offset * plan_.element_bytes;
    }
    double* others_of(std::int64_t part) const { return at_.others + part * plan_.chunk_blocks * plan_.block_rows; }
    float* query_sums_of(std::int64_t part) const {
        return at_.query_sums + part * plan_.chunk_blocks * plan_.block_rows * plan_.padded_d;
    }
    LossScratch scratch(int thread) const {
        return {kernels_, plan_, at_.scratch + at_.scratch_bytes * static_cast<std::size_t>(thread)};
    }

    // Pieces 0..count-1 go to whichever thread is free: what comes out does not depend on it, and a thread that lost
    // its processor in the midst of one holds up the others by little.
    template <typename Work>
    void for_each_piece(std::int64_t count, const Work& work) const {
        std::atomic<std::int64_t> next{0};
        share_work(plan_.threads, [&](int thread) {
            while (true) {
                const std::int64_t piece = next.fetch_add(1);
                if (piece >= count) return;
                work(thread, piece);
            }
        });
    }

    const LossArguments& in_;
    const LossKernels& kernels_;
    const LossPlan plan_;
    const Block block_;
    const LossBuffers at_;
    mutable std::atomic<bool> items_are_finite_ = true;

    struct Negatives {
        std::vector<float> inverse_sums;      // [rows of all blocks]: 1 / S
        std::vector<float> factors;           // [rows of all blocks]
        std::vector<double> sums;             // [parts][3][rows of all blocks]
        std::vector<std::int64_t> dominants;  // [rows of all blocks]: the dominant item, or -1
        std::vector<NegativeRowTerms> terms;  // [chunk_rows]
    } negatives_;                             // empty without `negatives`
};

constexpr std::int64_t kGroupRows = 512;  // rows whose sums stay in the L2 cache while the catalog passes by

// A piece is a group of rows against a part of the catalog: several groups each read the whole of it, several parts
// have sums to be added.
template <typename Part>
void LossPass::for_each_part(const Chunk& chunk, const Part& pass_part) const {
    const std::int64_t blocks = blocks_of(chunk);
    const std::int64_t group = kGroupRows / plan_.block_rows, groups = (blocks + group - 1) / group;
    for_each_piece(groups * plan_.parts, [&](int thread, std::int64_t piece) {
        const std::int64_t begin = piece / plan_.parts * group;
        pass_part(begin, begin + group < blocks ? begin + group : blocks, piece % plan_.parts, scratch(thread));
    });
}

double dot(const float* a, const float* b, std::int64_t count);

}  // namespace mtaw
