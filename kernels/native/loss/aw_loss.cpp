#include "loss/aw_loss.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "loss/kernels.hpp"
#include "loss/pass.hpp"

namespace mtaw {

LossPass::LossPass(const LossArguments& arguments, const LossKernels& kernels, int threads)
    : in_(arguments),
      kernels_(kernels),
      plan_(arguments, kernels, threads),
      block_(LossBuffers(arguments, kernels, plan_, nullptr).bytes),
      at_(arguments, kernels, plan_, block_.data()) {}

void LossPass::run() {
    for (std::int64_t begin = 0; begin < in_.n_rows; begin += plan_.chunk_rows) {
        const Chunk chunk{begin, std::min(plan_.chunk_rows, in_.n_rows - begin)};
        for_each_piece(blocks_of(chunk), [&](int, std::int64_t block) { prepare_block(chunk, block); });
        for_each_part(chunk, [&](auto... piece) { exponentials_of_part(chunk, piece...); });
        for_each_piece(blocks_of(chunk),
                       [&](int, std::int64_t block) { add_others(block * plan_.block_rows, rows_of(chunk, block)); });
        if (in_.negatives) take_negatives(chunk);
        for_each_piece(blocks_of(chunk), [&](int, std::int64_t block) { finish_block(chunk, block); });
        if (in_.d_items != nullptr) accumulate_items(chunk);
    }
}

// Normalizes and converts a tile of items into the thread's own scratch: repeating it for every group of rows costs
// less than writing and reading a converted catalog. One piece a tile keeps the norms for later.
void LossPass::pack_tile(std::int64_t tile, bool keeps_norms, const LossScratch& scratch) const {
    const std::int64_t first = tile * plan_.tile_items, valid = tile_items(tile);
    const bool wanted = kernels_.pair == 2 && in_.d_queries != nullptr;
    float* const norms = keeps_norms ? at_.inverse_norms + first : scratch.inverse_norms;
    kernels_.pack_items({in_.items + first * in_.d, in_.d, valid, padded(valid), plan_.width, plan_.padded_d, norms,
                         scratch.by_item, wanted ? scratch.by_dim : nullptr});
    for (std::int64_t item = 0; keeps_norms && item < valid; ++item) {
        if (std::isnan(norms[item])) items_are_finite_ = false;
    }
}

// Logits, exponentials, their sums and, unless `negatives` has more to do first, their products with the items, for
// blocks begin..end-1 against the tiles of a part.
void LossPass::exponentials_of_part(const Chunk& chunk, std::int64_t begin, std::int64_t end, std::int64_t part,
                                    const LossScratch& scratch) const {
    const std::int64_t stride = plan_.block_rows;
    const std::int64_t first_tile = part * plan_.part_tiles;
    const std::int64_t last_tile = std::min(first_tile + plan_.part_tiles, plan_.n_tiles);
    double* const others = others_of(part);
    std::fill_n(others + begin * stride, (end - begin) * stride, 0.0);
    clear_sums(begin, end, part);
    std::vector<std::vector<Aim>> aims;
    std::vector<std::size_t> next;
    for (std::int64_t block = begin; block < end; ++block) {
        aims.push_back(aims_of(chunk, block));
        const std::vector<Aim>& own_aims = aims.back();
        const Aim start{first_tile * plan_.tile_items, 0};
        next.push_back(
            static_cast<std::size_t>(std::lower_bound(own_aims.begin(), own_aims.end(), start) - own_aims.begin()));
    }
    std::vector<TargetHit> hits;
    const auto base_2 = static_cast<float>(in_.scale * 1.4426950408889634);
    for (std::int64_t tile = first_tile; tile < last_tile; ++tile) {
        const std::int64_t first = tile * plan_.tile_items, valid = tile_items(tile);
        pack_tile(tile, chunk.begin == 0 && begin == 0, scratch);
        for (std::int64_t block = begin; block < end; ++block) {
            const auto index = static_cast<std::size_t>(block - begin);
            const int rows = rows_of(chunk, block);
            hits.clear();
            for (; next[index] < aims[index].size() && aims[index][next[index]].item < first + valid; ++next[index]) {
                const Aim& aim = aims[index][next[index]];
                hits.push_back({static_cast<std::int32_t>(aim.item - first), aim.row});
            }
            std::byte* kept = plan_.keeps                ? kept_of(chunk, block, tile)
                              : in_.d_queries != nullptr ? scratch.exps
                                                         : nullptr;
            std::byte* pairs = kernels_.pair == 1 ? kept : scratch.pairs;
            const float* const weights = in_.item_weights == nullptr ? nullptr : in_.item_weights + first;
            kernels_.exponentials({scratch.by_item, plan_.width,
                                   at_.queries + block * stride * plan_.width * plan_.element_bytes, base_2, weights,
                                   valid, padded(valid), rows, hits.data(), static_cast<std::int64_t>(hits.size()),
                                   scratch.sums, kept, pairs});
            for (std::int64_t r = 0; r < rows; ++r) others[block * stride + r] += static_cast<double>(scratch.sums[r]);
            if (!in_.negatives) accumulate_queries(chunk, block, tile, part, pairs, scratch);
        }
    }
}

void LossPass::clear_sums(std::int64_t begin, std::int64_t end, std::int64_t part) const {
    if (in_.d_queries == nullptr) return;
    const std::int64_t row_floats = plan_.block_rows * plan_.padded_d;
    std::fill_n(query_sums_of(part) + begin * row_floats, (end - begin) * row_floats, 0.0F);
}

// Adds a block's products with the packed tile to its sums.
void LossPass::accumulate_queries(const Chunk& chunk, std::int64_t block, std::int64_t tile, std::int64_t part,
                                  const std::byte* pairs, const LossScratch& scratch) const {
    if (in_.d_queries == nullptr) return;
    kernels_.accumulate_queries({pairs, scratch.by_dim, padded(tile_items(tile)), in_.d, plan_.padded_d,
                                 rows_of(chunk, block),
                                 query_sums_of(part) + block * plan_.block_rows * plan_.padded_d});
}

std::vector<LossPass::Aim> LossPass::aims_of(const Chunk& chunk, std::int64_t block) const {
    const std::int64_t first = block * plan_.block_rows;
    const std::int64_t rows = std::min<std::int64_t>(plan_.block_rows, chunk.rows - first);
    std::vector<Aim> aims;
    for (std::int64_t r = 0; r < rows; ++r) {
        aims.push_back({in_.targets[chunk.begin + first + r], static_cast<std::int32_t>(r)});
    }
    std::sort(aims.begin(), aims.end());
    return aims;
}

void aw_loss(const LossArguments& arguments, LossFormat format, Isa isa, int threads) {
    const LossKernels& kernels = loss_kernels(format, isa);
    for (std::int64_t b = 0; b < arguments.n_rows; ++b) {
        const std::int64_t target = arguments.targets[b];
        if (target < 0 || target >= arguments.n_items) {
            throw std::out_of_range("target " + std::to_string(target) + " of row " + std::to_string(b) +
                                    " is outside the catalog of " + std::to_string(arguments.n_items) + " items");
        }
    }
    if (arguments.n_rows == 0) {
        if (arguments.d_items != nullptr) std::fill_n(arguments.d_items, arguments.n_items * arguments.d, 0.0F);
        return;
    }
    LossPass(arguments, kernels, threads).run();
}

}  // namespace mtaw
