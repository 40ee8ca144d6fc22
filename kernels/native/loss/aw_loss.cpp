#include "loss/aw_loss.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "crew.hpp"
#include "loss/block.hpp"
#include "loss/choose.hpp"
#include "loss/kernels.hpp"
#include "loss/plan.hpp"
#include "loss/row_terms.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kGroupRows = 512;  // rows whose sums stay in the L2 cache while the catalog passes by
constexpr std::int64_t kSumBytes = 256;   // of a row of exponentials that accumulate_items takes at once

// Stores floats as the kernels' elements.
class ElementWriter {
  public:
    ElementWriter(std::byte* out, int pair) : out_(out), is_bf16_(pair == 2) {}

    void operator()(std::int64_t place, float x) const {
        if (!is_bf16_) {
            std::memcpy(out_ + place * 4, &x, sizeof x);
            return;
        }
        std::uint32_t bits = 0;
        std::memcpy(&bits, &x, sizeof bits);
        // To nearest, ties to even; a NaN stays one.
        const std::uint32_t rounded = std::isnan(x) ? bits | 0x400000U : bits + 0x7FFFU + ((bits >> 16U) & 1U);
        const auto half = static_cast<std::uint16_t>(rounded >> 16U);
        std::memcpy(out_ + place * 2, &half, sizeof half);
    }

  private:
    std::byte* out_;
    bool is_bf16_;
};

double dot(const float* a, const float* b, std::int64_t count) {
    double sum = 0.0;
    for (std::int64_t k = 0; k < count; ++k) sum += static_cast<double>(a[k]) * static_cast<double>(b[k]);
    return sum;
}

class LossPass {
  public:
    LossPass(const LossArguments& arguments, const LossKernels& kernels, int threads)
        : in_(arguments),
          kernels_(kernels),
          plan_(arguments, kernels, threads),
          block_(LossBuffers(arguments, kernels, plan_, nullptr).bytes),
          at_(arguments, kernels, plan_, block_.data()) {}

    void run() {
        for (std::int64_t begin = 0; begin < in_.n_rows; begin += plan_.chunk_rows) {
            const Chunk chunk{begin, std::min(plan_.chunk_rows, in_.n_rows - begin)};
            finish_rows(chunk);
            if (in_.d_items != nullptr) accumulate_items(chunk);
        }
    }

  private:
    struct Chunk {
        std::int64_t begin;
        std::int64_t rows;
    };

    // A row of a block and its target.
    struct Aim {
        std::int64_t target;
        std::int32_t row;
        bool operator<(const Aim& other) const {
            return target != other.target ? target < other.target : row < other.row;
        }
    };

    std::int64_t tile_items(std::int64_t tile) const {
        return std::min(plan_.tile_items, in_.n_items - tile * plan_.tile_items);
    }
    int rows_of(const Chunk& chunk, std::int64_t block) const { return plan_.rows_of_block(chunk.rows, block); }
    std::int64_t padded(std::int64_t items) const {
        return (items + kernels_.item_step - 1) / kernels_.item_step * kernels_.item_step;
    }
    LossScratch scratch(int thread) const {
        return {kernels_, plan_, at_.scratch + at_.scratch_bytes * static_cast<std::size_t>(thread)};
    }

    // Pieces 0..count-1 go to whichever thread is free: what comes out does not depend on it, and a thread that lost its
    // processor in the midst of one holds up the others by little.
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

    // Normalises and converts a tile of items into the thread's own scratch: read anew for every group of rows, it costs
    // less than a converted catalog's way to memory and back. One piece a tile keeps the norms for later.
    void pack_tile(std::int64_t tile, bool keeps_norms, const LossScratch& own) const {
        const std::int64_t first = tile * plan_.tile_items, valid = tile_items(tile);
        const bool wanted = kernels_.pair == 2 && in_.d_queries != nullptr;
        float* const norms = keeps_norms ? at_.inverse_norms + first : own.inverse_norms;
        kernels_.pack_items({in_.items + first * in_.d, in_.d, valid, padded(valid), plan_.width, plan_.padded_d, norms,
                             own.by_item, wanted ? own.by_dim : nullptr});
        for (std::int64_t item = 0; keeps_norms && item < valid; ++item) {
            if (std::isnan(norms[item])) items_are_finite_ = false;
        }
    }

    // Everything that concerns rows alone: loss, gradient, and operands for the items'. A piece is a group of rows against
    // a part of the catalog: several groups each read the whole of it, several parts have sums to be added.
    void finish_rows(const Chunk& chunk) const {
        const std::int64_t blocks = (chunk.rows + plan_.block_rows - 1) / plan_.block_rows;
        const std::int64_t group = kGroupRows / plan_.block_rows, groups = (blocks + group - 1) / group;
        for_each_piece(blocks, [&](int, std::int64_t block) { prepare_block(chunk, block); });
        for_each_piece(groups * plan_.parts, [&](int thread, std::int64_t piece) {
            const std::int64_t begin = piece / plan_.parts * group;
            pass_part(chunk, begin, std::min(begin + group, blocks), piece % plan_.parts, scratch(thread));
        });
        for_each_piece(blocks, [&](int, std::int64_t block) { finish_block(chunk, block); });
    }

    // Normalises the block's queries and packs them.
    void prepare_block(const Chunk& chunk, std::int64_t block) const {
        const std::int64_t rows = rows_of(chunk, block), first = block * plan_.block_rows, pair = kernels_.pair;
        const ElementWriter write(at_.queries + first * plan_.width * plan_.element_bytes, kernels_.pair);
        for (std::int64_t r = 0; r < rows; ++r) {
            const bool is_row = first + r < chunk.rows;
            float* unit = at_.unit + (first + r) * in_.d;
            if (is_row) normalise(chunk, first + r, unit);
            for (std::int64_t k = 0; k < plan_.width; ++k) {
                const bool is_set = is_row && k < in_.d;
                write((k / pair * rows + r) * pair + k % pair,
                      is_set ? unit[k] : 0.0F);
            }
        }
    }

    void normalise(const Chunk& chunk, std::int64_t row, float* unit) const {
        constexpr double kSmallestNorm = 1e-12;  // torch.nn.functional.normalize's
        const float* query = in_.queries + (chunk.begin + row) * in_.d;
        const double norm = std::sqrt(dot(query, query, in_.d));
        const double inverse = 1.0 / (norm < kSmallestNorm ? kSmallestNorm : norm);
        at_.query_norms[row] = static_cast<float>(inverse);
        for (std::int64_t k = 0; k < in_.d; ++k) unit[k] = static_cast<float>(static_cast<double>(query[k]) * inverse);
    }

    // Logits, exponentials, their sums and their products with the items, for blocks begin..end-1 against the tiles of a
    // part.
    void pass_part(const Chunk& chunk, std::int64_t begin, std::int64_t end, std::int64_t part,
                   const LossScratch& own) const {
        const std::int64_t stride = plan_.block_rows, bytes = plan_.element_bytes;
        const std::int64_t first_tile = part * plan_.part_tiles;
        const std::int64_t last_tile = std::min(first_tile + plan_.part_tiles, plan_.n_tiles);
        double* const others = others_of(part);
        float* const query_sums = query_sums_of(part);
        std::fill_n(others + begin * stride, (end - begin) * stride, 0.0);
        if (in_.d_queries != nullptr) {
            std::fill_n(query_sums + begin * stride * plan_.padded_d, (end - begin) * stride * plan_.padded_d, 0.0F);
        }
        std::vector<std::vector<Aim>> aims;
        std::vector<std::size_t> next;
        for (std::int64_t block = begin; block < end; ++block) {
            aims.push_back(aims_of(chunk, block));
            const std::vector<Aim>& own_aims = aims.back();
            const Aim start{first_tile * plan_.tile_items, 0};
            next.push_back(static_cast<std::size_t>(
                std::lower_bound(own_aims.begin(), own_aims.end(), start) - own_aims.begin()));
        }
        std::vector<TargetHit> hits;
        const auto base_2 = static_cast<float>(in_.scale * 1.4426950408889634);
        for (std::int64_t tile = first_tile; tile < last_tile; ++tile) {
            const std::int64_t first = tile * plan_.tile_items, valid = tile_items(tile);
            pack_tile(tile, chunk.begin == 0 && begin == 0, own);
            for (std::int64_t block = begin; block < end; ++block) {
                const auto place = static_cast<std::size_t>(block - begin);
                const int rows = rows_of(chunk, block);
                hits.clear();
                for (; next[place] < aims[place].size() && aims[place][next[place]].target < first + valid; ++next[place]) {
                    const Aim& aim = aims[place][next[place]];
                    hits.push_back({static_cast<std::int32_t>(aim.target - first), aim.row});
                }
                std::byte* kept = in_.d_items != nullptr
                                      ? at_.kept + (block * plan_.padded_items * stride + first * rows) * bytes
                                      : in_.d_queries != nullptr ? own.exps : nullptr;
                std::byte* pairs = kernels_.pair == 1 ? kept : own.pairs;
                kernels_.exponentials({own.by_item, plan_.width, at_.queries + block * stride * plan_.width * bytes,
                                       base_2, valid, padded(valid), rows, hits.data(),
                                       static_cast<std::int64_t>(hits.size()), own.sums, kept, pairs});
                for (std::int64_t r = 0; r < rows; ++r) others[block * stride + r] += static_cast<double>(own.sums[r]);
                if (in_.d_queries == nullptr) continue;
                kernels_.accumulate_queries({pairs, own.by_dim, padded(valid), in_.d, plan_.padded_d, rows,
                                             query_sums + block * stride * plan_.padded_d});
            }
        }
    }

    std::vector<Aim> aims_of(const Chunk& chunk, std::int64_t block) const {
        const std::int64_t first = block * plan_.block_rows;
        const std::int64_t rows = std::min<std::int64_t>(plan_.block_rows, chunk.rows - first);
        std::vector<Aim> aims;
        for (std::int64_t r = 0; r < rows; ++r) {
            aims.push_back({in_.targets[chunk.begin + first + r], static_cast<std::int32_t>(r)});
        }
        std::sort(aims.begin(), aims.end());
        return aims;
    }

    // From the sums over all items to the loss of the block's rows, their gradients and the operands of the items'.
    void finish_block(const Chunk& chunk, std::int64_t block) const {
        const std::int64_t rows = rows_of(chunk, block), first = block * plan_.block_rows;
        add_parts(first, rows);
        std::vector<float> gradient(static_cast<std::size_t>(in_.d));
        for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t row = first + r;
            float factor = 0.0F;
            if (row < chunk.rows) {
                factor = finish_row(chunk, row, at_.query_sums + first * plan_.padded_d + r, rows, gradient.data());
            }
            if (in_.d_items != nullptr) pack_weighted(row, row < chunk.rows ? factor : 0.0F, row < chunk.rows);
        }
    }

    // Adds what the parts of the catalog gave rows first..first+rows-1, always in the same order, to the first part's.
    void add_parts(std::int64_t first, std::int64_t rows) const {
        for (std::int64_t part = 1; part < plan_.parts; ++part) {
            const double* others = others_of(part);
            for (std::int64_t row = first; row < first + rows; ++row) at_.others[row] += others[row];
            if (in_.d_queries == nullptr) continue;
            const float* sums = query_sums_of(part);
            for (std::int64_t k = first * plan_.padded_d; k < (first + rows) * plan_.padded_d; ++k) {
                at_.query_sums[k] += sums[k];
            }
        }
    }

    double* others_of(std::int64_t part) const { return at_.others + part * plan_.chunk_blocks * plan_.block_rows; }
    float* query_sums_of(std::int64_t part) const {
        return at_.query_sums + part * plan_.chunk_blocks * plan_.block_rows * plan_.padded_d;
    }

    // Returns dL/dcos over the exponential: what the row's exponentials count for in the items' gradient.
    // sums: the row's, `stride` apart.
    float finish_row(const Chunk& chunk, std::int64_t row, const float* sums, std::int64_t stride,
                     float* gradient) const {
        const std::int64_t id = chunk.begin + row, d = in_.d;
        const float* unit = at_.unit + row * d;
        const float* target = in_.items + in_.targets[id] * d;
        const auto target_norm = static_cast<double>(at_.inverse_norms[in_.targets[id]]);
        const double others = items_are_finite_ ? at_.others[row] : std::numeric_limits<double>::quiet_NaN();
        const double logit = in_.scale * target_norm * dot(unit, target, d);
        const RowTerms terms = row_terms(-std::log1p(others * std::exp(-logit)), in_.gamma);
        in_.loss[id] = static_cast<float>(terms.loss);
        const double slope = static_cast<double>(in_.row_weights[id]) * terms.slope * in_.scale;
        const double factor = slope / (others + std::exp(logit));
        const double at_target = slope * terms.target;
        at_.target_slopes[row] = static_cast<float>(at_target);
        if (in_.d_queries != nullptr) {
            const double by_target = at_target * target_norm;
            for (std::int64_t k = 0; k < d; ++k) {
                gradient[k] = static_cast<float>(factor * static_cast<double>(sums[k * stride]) +
                                                 by_target * static_cast<double>(target[k]));
            }
            const double along = dot(gradient, unit, d);
            const auto inverse = static_cast<double>(at_.query_norms[row]);
            float* out = in_.d_queries + id * d;
            for (std::int64_t k = 0; k < d; ++k) {
                const double rest = static_cast<double>(gradient[k]) - along * static_cast<double>(unit[k]);
                out[k] = static_cast<float>(rest * inverse);
            }
        }
        return static_cast<float>(factor);
    }

    void pack_weighted(std::int64_t row, float factor, bool is_row) const {
        const std::int64_t pair = kernels_.pair;
        const ElementWriter write(at_.weighted, kernels_.pair);
        const std::int64_t place = row / pair * plan_.tile_width * pair + row % pair;
        for (std::int64_t k = 0; k < plan_.tile_width; ++k) {
            write(place + k * pair, is_row && k < in_.d ? factor * at_.unit[row * in_.d + k] : 0.0F);
        }
    }

    // The chunk's part of every item's gradient; a tile stays in cache while all rows pass by.
    void accumulate_items(const Chunk& chunk) const {
        std::vector<Aim> aims(static_cast<std::size_t>(chunk.rows));
        for (std::int64_t row = 0; row < chunk.rows; ++row) {
            aims[static_cast<std::size_t>(row)] = {in_.targets[chunk.begin + row], static_cast<std::int32_t>(row)};
        }
        std::sort(aims.begin(), aims.end());
        const std::int64_t rows = plan_.block_rows, bytes = plan_.element_bytes;
        const std::int64_t blocks = (chunk.rows + rows - 1) / rows;
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
            add_targets(aims, first, valid, tile);
            kernels_.finish_items({tile, plan_.tile_width, in_.items + first * in_.d, at_.inverse_norms + first, valid,
                                   in_.d, chunk.begin == 0, chunk.begin + chunk.rows == in_.n_rows,
                                   in_.d_items + first * in_.d});
        });
    }

    void add_targets(const std::vector<Aim>& aims, std::int64_t first, std::int64_t valid, float* tile) const {
        auto aim = std::lower_bound(aims.begin(), aims.end(), Aim{first, 0});
        for (; aim != aims.end() && aim->target < first + valid; ++aim) {
            float* gradient = tile + (aim->target - first) * plan_.tile_width;
            const float* unit = at_.unit + aim->row * in_.d;
            for (std::int64_t k = 0; k < in_.d; ++k) gradient[k] += at_.target_slopes[aim->row] * unit[k];
        }
    }

    const LossArguments& in_;
    const LossKernels& kernels_;
    const LossPlan plan_;
    const Block block_;
    const LossBuffers at_;
    mutable std::atomic<bool> items_are_finite_ = true;
};

}  // namespace

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
