// The loss's inner loops, written once over a Format: the vectors of one instruction set and one element type.
//
// Included by one file an instruction set. A Format brings
//   Element, kPair, kLanes           stored numbers, how many a lane multiplies at once, lanes of a vector
//   kRowVectors                      vectors of a full block of rows
//   kDimVectors                      vectors of d that accumulate_items holds for kItemsAtOnce items
//   Vec, Operand                     floats; elements in groups of kPair
//   zero, load, store, add, sub, mul, multiply_add (floats), sum
//   broadcast, load_operand, dot     acc + the kPair products of each lane
//   exp2                             of x * factor, |x * factor| <= 64
//   store_exps                       exponentials of M items into ExpTile's layouts
#pragma once

#include <cstddef>
#include <cstdint>

#include "loss/kernels.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#define MTAW_UNROLL _Pragma("GCC unroll 32")
#elif defined(__clang__)
#define MTAW_UNROLL _Pragma("unroll")
#else
#define MTAW_UNROLL
#endif

namespace mtaw {
namespace {

constexpr int kItems = 6;  // of a register tile: with 4 vectors of rows 24 accumulators of AVX-512's 32 registers
constexpr int kDims = 6;

// acc[m][v] += sum over steps of a[m * a_row + s * a_step] (a group of kPair, broadcast) x b[s * b_step + v].
template <typename F, int M, int V>
inline void multiply(typename F::Vec (&acc)[M][V], const typename F::Element* a, std::ptrdiff_t a_row,
                     std::ptrdiff_t a_step, const typename F::Element* b, std::ptrdiff_t b_step, std::ptrdiff_t steps) {
    for (std::ptrdiff_t s = 0; s < steps; ++s) {
        typename F::Operand right[V];
        MTAW_UNROLL
        for (int v = 0; v < V; ++v) right[v] = F::load_operand(b + v * F::kLanes * F::kPair);
        MTAW_UNROLL
        for (int m = 0; m < M; ++m) {
            const typename F::Operand left = F::broadcast(a + m * a_row);
            MTAW_UNROLL
            for (int v = 0; v < V; ++v) acc[m][v] = F::dot(acc[m][v], left, right[v]);
        }
        a += a_step;
        b += b_step;
    }
}

template <typename F, int M, int V>
inline void clear(typename F::Vec (&acc)[M][V]) {
    MTAW_UNROLL
    for (int m = 0; m < M; ++m) {
        MTAW_UNROLL
        for (int v = 0; v < V; ++v) acc[m][v] = F::zero();
    }
}

// Puts 0 in place of targets and of the items past `valid`; few register tiles have any.
template <typename F, int M, int V>
void drop(typename F::Vec (&exps)[M][V], const ExpTile& tile, std::int64_t item, std::int64_t& hit) {
    constexpr int kRows = V * F::kLanes;
    float values[M][kRows];
    for (int i = 0; i < M; ++i) {
        for (int v = 0; v < V; ++v) F::store(values[i] + v * F::kLanes, exps[i][v]);
    }
    for (int i = 0; i < M; ++i) {
        for (int r = 0; item + i >= tile.valid && r < kRows; ++r) values[i][r] = 0.0F;
    }
    for (; hit < tile.n_hits && tile.hits[hit].item < item + M; ++hit) {
        values[tile.hits[hit].item - item][tile.hits[hit].row] = 0.0F;
    }
    for (int i = 0; i < M; ++i) {
        for (int v = 0; v < V; ++v) exps[i][v] = F::load(values[i] + v * F::kLanes);
    }
}

// Takes the exponentials times their items' weights; those past `valid` are dropped anyway.
template <typename F, int M, int V>
inline void weigh(typename F::Vec (&exps)[M][V], const ExpTile& tile, std::int64_t item) {
    for (int i = 0; i < M && item + i < tile.valid; ++i) {
        const typename F::Vec weight = F::set(tile.weights[item + i]);
        for (int v = 0; v < V; ++v) exps[i][v] = F::mul(exps[i][v], weight);
    }
}

// The exponentials of M items: from cosines to sums and to the layouts of the next products.
template <typename F, int M, int V>
inline void finish_exps(typename F::Vec (&acc)[M][V], typename F::Vec (&sums)[V], const ExpTile& tile,
                        std::int64_t item, std::int64_t& hit) {
    const typename F::Vec factor = F::set(tile.factor);
    MTAW_UNROLL
    for (int i = 0; i < M; ++i) {
        MTAW_UNROLL
        for (int v = 0; v < V; ++v) acc[i][v] = F::exp2(acc[i][v], factor);
    }
    if (tile.weights != nullptr) weigh<F>(acc, tile, item);
    const bool has_target = hit < tile.n_hits && tile.hits[hit].item < item + M;
    if (has_target || item + M > tile.valid) drop<F>(acc, tile, item, hit);
    MTAW_UNROLL
    for (int v = 0; v < V; ++v) {
        typename F::Vec sum = acc[0][v];
        MTAW_UNROLL
        for (int i = 1; i < M; ++i) sum = F::add(sum, acc[i][v]);
        sums[v] = F::add(sums[v], sum);
    }
    F::store_exps(acc, tile, item);
}

template <typename F, int V>
void exponentials_of(const ExpTile& tile) {
    using Element = typename F::Element;
    const auto* items = static_cast<const Element*>(tile.by_item);
    const auto* queries = static_cast<const Element*>(tile.queries);
    typename F::Vec sums[V];
    for (int v = 0; v < V; ++v) sums[v] = F::zero();
    std::int64_t hit = 0;
    for (std::int64_t item = 0; item < tile.padded; item += kItems) {
        typename F::Vec acc[kItems][V];
        clear<F>(acc);
        multiply<F>(acc, items + item * tile.width, tile.width, F::kPair, queries, V * F::kLanes * F::kPair,
                    tile.width / F::kPair);
        finish_exps<F>(acc, sums, tile, item, hit);
    }
    for (int v = 0; v < V; ++v) F::store(tile.sums + v * F::kLanes, sums[v]);
}

template <typename F, int V = F::kRowVectors>
void exponentials(const ExpTile& tile) {
    if constexpr (V > 1) {
        if (tile.block_rows < V * F::kLanes) return exponentials<F, V - 1>(tile);
    }
    exponentials_of<F, V>(tile);
}

template <typename F, int M, int V>
void accumulate_dims(const AccumulateQueries& work, std::int64_t dim) {
    using Element = typename F::Element;
    typename F::Vec acc[M][V];
    clear<F>(acc);
    multiply<F>(acc, static_cast<const Element*>(work.by_dim) + dim * F::kPair, F::kPair, work.padded_d * F::kPair,
                static_cast<const Element*>(work.pairs), V * F::kLanes * F::kPair, work.padded / F::kPair);
    float* out = work.sums + dim * work.block_rows;
    for (int m = 0; m < M; ++m) {
        for (int v = 0; v < V; ++v) {
            float* address = out + m * work.block_rows + v * F::kLanes;
            F::store(address, F::add(F::load(address), acc[m][v]));
        }
    }
}

template <typename F, int V>
void accumulate_queries_of(const AccumulateQueries& work) {
    std::int64_t dim = 0;
    for (; dim + kDims <= work.d; dim += kDims) accumulate_dims<F, kDims, V>(work, dim);
    switch (work.d - dim) {
        case 1: return accumulate_dims<F, 1, V>(work, dim);
        case 2: return accumulate_dims<F, 2, V>(work, dim);
        case 3: return accumulate_dims<F, 3, V>(work, dim);
        case 4: return accumulate_dims<F, 4, V>(work, dim);
        case 5: return accumulate_dims<F, 5, V>(work, dim);
        default: return;
    }
}

template <typename F, int V = F::kRowVectors>
void accumulate_queries(const AccumulateQueries& work) {
    if constexpr (V > 1) {
        if (work.block_rows < V * F::kLanes) return accumulate_queries<F, V - 1>(work);
    }
    accumulate_queries_of<F, V>(work);
}

template <typename F, int M, int V>
void accumulate_vectors(const AccumulateItems& work, std::int64_t dim) {
    using Element = typename F::Element;
    const std::ptrdiff_t step = work.tile_width * F::kPair;
    for (std::int64_t item = 0; item < work.padded; item += M) {
        typename F::Vec acc[M][V];
        clear<F>(acc);
        const Element* kept = static_cast<const Element*>(work.kept);
        const Element* queries = static_cast<const Element*>(work.queries) + dim * F::kPair;
        for (std::int64_t block = 0; block < work.blocks; ++block) {
            const std::ptrdiff_t rows = block + 1 < work.blocks ? work.block_rows : work.last_rows;
            multiply<F>(acc, kept + (work.first_item + item) * rows, rows, F::kPair, queries, step, rows / F::kPair);
            kept += work.kept_stride;
            queries += rows / F::kPair * step;
        }
        float* out = work.tile + item * work.tile_width + dim;
        for (int m = 0; m < M; ++m) {
            for (int v = 0; v < V; ++v) {
                float* address = out + m * work.tile_width + v * F::kLanes;
                F::store(address, work.first ? acc[m][v] : F::add(F::load(address), acc[m][v]));
            }
        }
    }
}

template <typename F, int V>
void accumulate_split(const AccumulateItems& work, std::int64_t dim, std::int64_t vectors) {
    if constexpr (V > 0) {
        if (vectors < V) return accumulate_split<F, V - 1>(work, dim, vectors);
        constexpr int kAccumulators = F::kDimVectors * F::kItemsAtOnce;
        accumulate_vectors<F, V * kItems <= kAccumulators ? kItems : F::kItemsAtOnce, V>(work, dim);
    }
}

template <typename F>
void accumulate_items(const AccumulateItems& work) {
    // Parts of about equal width, so that none is too narrow to hide the multiplier's latency.
    const std::int64_t vectors = work.tile_width / F::kLanes;
    const std::int64_t parts = (vectors + F::kDimVectors - 1) / F::kDimVectors;
    for (std::int64_t part = 0; part < parts; ++part) {
        const std::int64_t begin = vectors * part / parts;
        accumulate_split<F, F::kDimVectors>(work, begin * F::kLanes, vectors * (part + 1) / parts - begin);
    }
}

// Sum of products of the `count` floats at a and b.
template <typename F>
inline float dot_floats(const float* a, const float* b, std::int64_t count) {
    typename F::Vec sum = F::zero();
    std::int64_t k = 0;
    for (; k + F::kLanes <= count; k += F::kLanes) sum = F::multiply_add(F::load(a + k), F::load(b + k), sum);
    float total = F::sum(sum);
    for (; k < count; ++k) total += a[k] * b[k];
    return total;
}

// 1 / |v|, with |v| at least 1e-12 as torch.nn.functional.normalize has it; NaN if |v| is not finite.
template <typename F>
inline float inverse_norm(const float* vector, std::int64_t d) {
    constexpr float kSmallest = 1e-12F;
    const float norm = F::square_root(dot_floats<F>(vector, vector, d));
    if (!(norm <= 3.4e38F)) return __builtin_nanf("");
    return 1.0F / (norm < kSmallest ? kSmallest : norm);
}

template <typename F>
void finish_items(const FinishItems& work) {
    for (std::int64_t item = 0; item < work.valid; ++item) {
        const float* gradient = work.tile + item * work.tile_width;
        const float* vector = work.items + item * work.d;
        float* out = work.out + item * work.d;
        if (!work.first) {
            std::int64_t k = 0;
            for (; k + F::kLanes <= work.d; k += F::kLanes) {
                F::store(out + k, F::add(F::load(out + k), F::load(gradient + k)));
            }
            for (; k < work.d; ++k) out[k] += gradient[k];
            gradient = out;
        }
        const float inverse = work.inverse_norms[item];
        const float outer = work.last ? inverse : 1.0F;
        const float along = work.last ? dot_floats<F>(gradient, vector, work.d) * inverse * inverse : 0.0F;
        const typename F::Vec outer_v = F::set(outer), along_v = F::set(-along);
        std::int64_t k = 0;
        for (; k + F::kLanes <= work.d; k += F::kLanes) {
            const typename F::Vec rest = F::multiply_add(along_v, F::load(vector + k), F::load(gradient + k));
            F::store(out + k, F::mul(rest, outer_v));
        }
        for (; k < work.d; ++k) out[k] = (gradient[k] - along * vector[k]) * outer;
    }
}

}  // namespace
}  // namespace mtaw
