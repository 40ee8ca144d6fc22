// The term over the items that are no targets: what the kept exponentials become once the rows' sums are known.
#include <algorithm>
#include <cmath>

#include "loss/pass.hpp"

namespace mtaw {
namespace {

constexpr int kKinds = 3;                // of a row's sums: p, f and g
constexpr double kMaxWholeGamma = 16.0;  // by multiplications, in place of a logarithm and an exponential an entry

int whole(double gamma) { return gamma <= kMaxWholeGamma && gamma == std::floor(gamma) ? static_cast<int>(gamma) : -1; }

}  // namespace

// Two passes over the exponentials, the second only if a gradient is needed: the sums of the terms and of their
// slopes, then the entries' slopes in place of the exponentials, with the queries' products.
void LossPass::take_negatives(const Chunk& chunk) {
    const auto rows = static_cast<std::size_t>(plan_.chunk_blocks * plan_.block_rows);
    negatives_.inverse_sums.assign(rows, 0.0F);
    negatives_.factors.assign(rows, 0.0F);
    negatives_.sums.assign(rows * static_cast<std::size_t>(kKinds * plan_.parts), 0.0);
    negatives_.dominants.assign(rows, -1);
    negatives_.terms.resize(rows);
    const std::int64_t blocks = blocks_of(chunk);
    for_each_piece(blocks, [&](int, std::int64_t block) { begin_negatives(chunk, block); });
    for_each_part(chunk, [&](auto... piece) { sums_of_part(chunk, piece...); });
    for_each_piece(blocks, [&](int, std::int64_t block) { finish_negatives(chunk, block); });
    if (in_.d_queries == nullptr && in_.d_items == nullptr) return;
    for_each_part(chunk, [&](auto... piece) { slopes_of_part(chunk, piece...); });
}

void LossPass::begin_negatives(const Chunk& chunk, std::int64_t block) {
    const std::int64_t first = block * plan_.block_rows;
    const std::int64_t last = std::min(first + rows_of(chunk, block), chunk.rows);
    for (std::int64_t row = first; row < last; ++row) {
        double total = 0.0;
        log_p(chunk, row, total);
        negatives_.inverse_sums[static_cast<std::size_t>(row)] = static_cast<float>(1.0 / total);
    }
}

NegativeTile LossPass::negative_tile(const Chunk& chunk, std::int64_t block, std::int64_t tile) {
    const auto first = static_cast<std::size_t>(block * plan_.block_rows);
    NegativeTile found{};
    found.kept = kept_of(chunk, block, tile);
    found.padded = padded(tile_items(tile));
    found.block_rows = rows_of(chunk, block);
    found.gamma = static_cast<float>(in_.gamma);
    found.whole_gamma = whole(in_.gamma);
    found.inverse_sums = negatives_.inverse_sums.data() + first;
    found.factors = negatives_.factors.data() + first;
    found.first_item = tile * plan_.tile_items;
    return found;
}

void LossPass::sums_of_part(const Chunk& chunk, std::int64_t begin, std::int64_t end, std::int64_t part,
                            const LossScratch& scratch) {
    const std::int64_t all_rows = plan_.chunk_blocks * plan_.block_rows;
    const std::int64_t first_tile = part * plan_.part_tiles;
    const std::int64_t last_tile = std::min(first_tile + plan_.part_tiles, plan_.n_tiles);
    for (std::int64_t tile = first_tile; tile < last_tile; ++tile) {
        for (std::int64_t block = begin; block < end; ++block) {
            const std::int64_t first = block * plan_.block_rows;
            NegativeTile work = negative_tile(chunk, block, tile);
            work.dominant = negatives_.dominants.data() + first;  // of a row one part alone writes it
            work.sums = scratch.sums;
            kernels_.negative_sums(work);
            for (std::int64_t kind = 0; kind < kKinds; ++kind) {
                double* const sums = negatives_.sums.data() + (part * kKinds + kind) * all_rows + first;
                const float* const found = scratch.sums + kind * work.block_rows;
                for (std::int64_t r = 0; r < work.block_rows; ++r) sums[r] += static_cast<double>(found[r]);
            }
        }
    }
}

void LossPass::finish_negatives(const Chunk& chunk, std::int64_t block) {
    const std::int64_t all_rows = plan_.chunk_blocks * plan_.block_rows, first = block * plan_.block_rows;
    const std::int64_t last = std::min(first + rows_of(chunk, block), chunk.rows);
    for (std::int64_t row = first; row < last; ++row) {
        double sums[kKinds] = {};
        for (std::int64_t part = 0; part < plan_.parts; ++part) {
            for (std::int64_t kind = 0; kind < kKinds; ++kind) {
                sums[kind] += negatives_.sums[static_cast<std::size_t>((part * kKinds + kind) * all_rows + row)];
            }
        }
        const auto index = static_cast<std::size_t>(row);
        double total = 0.0;
        const double log_p_of_row = log_p(chunk, row, total);
        negatives_.terms[index] =
            negative_row_terms(log_p_of_row, in_.gamma, {sums[0], sums[1], sums[2]}, negatives_.dominants[index] >= 0);
        // By 1 / S: as the dominant item's 1 - p nears 0 the factor alone would leave float's range.
        negatives_.factors[index] = static_cast<float>(negatives_.terms[index].factor / total);
    }
}

void LossPass::slopes_of_part(const Chunk& chunk, std::int64_t begin, std::int64_t end, std::int64_t part,
                              const LossScratch& scratch) {
    const std::int64_t first_tile = part * plan_.part_tiles;
    const std::int64_t last_tile = std::min(first_tile + plan_.part_tiles, plan_.n_tiles);
    for (std::int64_t tile = first_tile; tile < last_tile; ++tile) {
        if (in_.d_queries != nullptr) pack_tile(tile, false, scratch);
        for (std::int64_t block = begin; block < end; ++block) {
            NegativeTile work = negative_tile(chunk, block, tile);
            auto* const pairs = kernels_.pair == 1 ? static_cast<std::byte*>(work.kept) : scratch.pairs;
            work.pairs = pairs;
            kernels_.negative_slopes(work);
            accumulate_queries(chunk, block, tile, part, pairs, scratch);
        }
    }
}

}  // namespace mtaw
