#include "loss/plan.hpp"

#include <algorithm>

namespace mtaw {
namespace {

// A tile's operands and exponentials stay in a 1 MiB L2 cache next to a group of rows' sums.
constexpr std::int64_t kTileItems = 192;
// Exponentials kept at once. What they cost in memory traffic, an element out and in, is a tenth of the product that
// computing them again would take; fewer rows at once would read the items' gradient and operands more often. Of a
// large catalog at least 512 bytes an item: about what its float32 vector takes.
constexpr std::int64_t kKeepBytes = std::int64_t{128} << 20U;
constexpr std::int64_t kKeepBytesAnItem = 512;
constexpr std::int64_t kRowStep = 128;
constexpr std::int64_t kMaxChunkRows = 2048;
// Of a part of the catalog, which takes 2 ms with a group of rows; of a large one the parts are fewer, since each has
// sums of its own.
constexpr std::int64_t kPartTiles = 16;
constexpr std::int64_t kMaxParts = 16;
constexpr double kFlopsAThread = 4e6;  // starting a thread takes as long as a tenth of this

std::int64_t up_to(std::int64_t count, std::int64_t step) { return (count + step - 1) / step * step; }

// Allocates from `base`, or only counts if that is null.
class Shelf {
   public:
    Shelf(std::byte* base, std::size_t& used) : base_(base), used_(used) {}

    template <typename T>
    void place(T*& pointer, std::int64_t count) {
        constexpr std::size_t kLine = 64;
        pointer = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
        used_ += (static_cast<std::size_t>(count) * sizeof(T) + kLine - 1) / kLine * kLine;
    }

   private:
    std::byte* base_;
    std::size_t& used_;
};

}  // namespace

LossPlan::LossPlan(const LossArguments& arguments, const LossKernels& kernels, int wanted_threads) {
    const std::int64_t n_rows = arguments.n_rows, n_items = arguments.n_items, d = arguments.d;
    const double flops = 2.0 * static_cast<double>(n_rows) * static_cast<double>(n_items) * static_cast<double>(d);
    threads =
        static_cast<int>(std::clamp(flops / kFlopsAThread, 1.0, static_cast<double>(std::max(wanted_threads, 1))));

    element_bytes = kernels.pair == 2 ? 2 : 4;
    width = up_to(d, kernels.depth_step);
    padded_d = up_to(d, kernels.dim_step);
    tile_width = up_to(d, kernels.lanes);
    tile_items = up_to(kTileItems, kernels.item_step);
    n_tiles = (n_items + tile_items - 1) / tile_items;
    padded_items = up_to(n_items, kernels.item_step);
    part_tiles = std::max(kPartTiles, (n_tiles + kMaxParts - 1) / kMaxParts);
    parts = (n_tiles + part_tiles - 1) / part_tiles;

    const std::int64_t kept_bytes = std::max(kKeepBytes, padded_items * kKeepBytesAnItem);
    const std::int64_t fitting = kept_bytes / (padded_items * element_bytes) / kRowStep * kRowStep;
    const std::int64_t chunks = (n_rows + std::min(fitting, kMaxChunkRows) - 1) / std::min(fitting, kMaxChunkRows);
    chunk_rows = std::min(up_to((n_rows + chunks - 1) / chunks, kRowStep), n_rows);
    // Blocks of about equal size: one of a single vector of rows would be bound by its loads.
    row_step = kernels.row_step;
    const std::int64_t steps = (chunk_rows + row_step - 1) / row_step, block_steps = kernels.block_rows / row_step;
    chunk_blocks = (steps + block_steps - 1) / block_steps;
    block_rows = static_cast<int>((steps + chunk_blocks - 1) / chunk_blocks) * row_step;
    chunk_blocks = (chunk_rows + block_rows - 1) / block_rows;
    keeps = arguments.d_items != nullptr || arguments.negatives;
}

int LossPlan::rows_of_block(std::int64_t rows, std::int64_t block) const {
    return static_cast<int>(std::min<std::int64_t>(block_rows, up_to(rows - block * block_rows, row_step)));
}

LossBuffers::LossBuffers(const LossArguments& arguments, const LossKernels& kernels, const LossPlan& plan,
                         std::byte* base) {
    const std::int64_t rows = plan.chunk_blocks * plan.block_rows;
    const bool queries_asked = arguments.d_queries != nullptr, items_asked = arguments.d_items != nullptr;
    Shelf shelf(base, bytes);
    shelf.place(inverse_norms, arguments.n_items);
    shelf.place(kept, plan.keeps ? plan.padded_items * rows * plan.element_bytes : 0);
    shelf.place(queries, rows * plan.width * plan.element_bytes);
    shelf.place(weighted, items_asked ? rows * plan.tile_width * plan.element_bytes : 0);
    shelf.place(unit, plan.chunk_rows * arguments.d);
    shelf.place(query_norms, plan.chunk_rows);
    shelf.place(query_sums, queries_asked ? plan.parts * rows * plan.padded_d : 0);
    shelf.place(target_slopes, plan.chunk_rows);
    shelf.place(dominant_slopes, arguments.negatives ? plan.chunk_rows : 0);
    shelf.place(others, plan.parts * rows);
    scratch_bytes = LossScratch(kernels, plan, nullptr).bytes;
    shelf.place(scratch, static_cast<std::int64_t>(scratch_bytes) * plan.threads);
}

LossScratch::LossScratch(const LossKernels& kernels, const LossPlan& plan, std::byte* base) {
    const std::int64_t exps_bytes = plan.tile_items * plan.block_rows * plan.element_bytes;
    Shelf shelf(base, bytes);
    shelf.place(by_item, plan.tile_items * plan.width * plan.element_bytes);
    shelf.place(inverse_norms, plan.tile_items);
    shelf.place(exps, exps_bytes);
    // With groups of one the two layouts, of the items and of the exponentials, are the same.
    if (kernels.pair == 1) {
        by_dim = by_item;
        pairs = exps;
    } else {
        shelf.place(by_dim, plan.tile_items * plan.padded_d * plan.element_bytes);
        shelf.place(pairs, exps_bytes);
    }
    shelf.place(tile, plan.tile_items * plan.tile_width);
    shelf.place(sums, 3 * plan.block_rows);
}

}  // namespace mtaw
