// The items' gradient, tile by tile.
#include <algorithm>

#include "loss/pass.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kSumBytes = 256;  // of a row of exponentials that accumulate_items takes at once

}  // namespace

// The chunk's part of every item's gradient; a tile stays in cache while all rows pass by.
void LossPass::accumulate_items(const Chunk& chunk) const {
    std::vector<Aim> aims;
    for (std::int64_t row = 0; row < chunk.rows; ++row) {
        const auto of_chunk = static_cast<std::int32_t>(row);
        aims.push_back({in_.targets[chunk.begin + row], of_chunk, at_.target_slopes[row]});
        const std::int64_t dominant = in_.negatives ? negatives_.dominants[static_cast<std::size_t>(row)] : -1;
        if (dominant >= 0) aims.push_back({dominant, of_chunk, at_.dominant_slopes[row]});
    }
    std::sort(aims.begin(), aims.end());
    const std::int64_t rows = plan_.block_rows, bytes = plan_.element_bytes;
    const std::int64_t blocks = blocks_of(chunk);
    const std::int64_t step = std::max<std::int64_t>(kSumBytes / bytes / rows, 1);
    for_each_piece(plan_.n_tiles, [&](int thread, std::int64_t index) {
        const std::int64_t first = index * plan_.tile_items, valid = tile_items(index);
        float* tile = scratch(thread).tile;
        for (std::int64_t block = 0; block < blocks; block += step) {
            const std::int64_t count = std::min(step, blocks - block);
            kernels_.accumulate_items({at_.kept + block * plan_.padded_items * rows * bytes, plan_.padded_items * rows,
                                       count, plan_.block_rows, rows_of(chunk, block + count - 1), first,
                                       at_.weighted + block * rows * plan_.tile_width * bytes, padded(valid),
                                       plan_.tile_width, block == 0, tile});
        }
        add_aims(aims, first, valid, tile);
        kernels_.finish_items({tile, plan_.tile_width, in_.items + first * in_.d, at_.inverse_norms + first, valid,
                               in_.d, chunk.begin == 0, chunk.begin + chunk.rows == in_.n_rows,
                               in_.d_items + first * in_.d});
    });
}

void LossPass::add_aims(const std::vector<Aim>& aims, std::int64_t first, std::int64_t valid, float* tile) const {
    auto aim = std::lower_bound(aims.begin(), aims.end(), Aim{first, 0});
    for (; aim != aims.end() && aim->item < first + valid; ++aim) {
        float* gradient = tile + (aim->item - first) * plan_.tile_width;
        const float* unit = at_.unit + aim->row * in_.d;
        for (std::int64_t k = 0; k < in_.d; ++k) gradient[k] += aim->slope * unit[k];
    }
}

}  // namespace mtaw
