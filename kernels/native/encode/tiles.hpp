// The encoder's matrix products, softmax and layer norm over a vector type V. Only the per-instruction-set files
// include this, each with a V of its own in an unnamed namespace: so no two of them share an instantiation.
//
// V gives: Reg, kLanes, kRows (rows of an output tile), kColumns (vectors in its columns), kQueries (rows of a score
// tile), load, load_first, store, broadcast, fma, add, sub, mul, max, add_integer_shift, sum, maximum, store_sums.
//
// Every output is one chain of fused multiply-adds over ascending inputs (or one fixed tree of lanes), whatever the
// tile it falls in: so a row has the same bits alone and among others.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(_MSC_VER)
#define MTAW_INLINE __forceinline
#define MTAW_UNROLL
#else
#define MTAW_INLINE inline __attribute__((always_inline))
#define MTAW_UNROLL _Pragma("GCC unroll 8")
#endif

namespace mtaw {

// out[r, c] = max(start[c] + sum over k ascending of a[r, k] b[k, c], floor) + residual[r, c]
struct Product {
    const float* a;
    std::int64_t a_stride;
    const float* b;
    std::int64_t b_stride;
    std::int64_t depth;
    const float* start;
    float floor;
    const float* residual;  // of out's stride, or null
    float* out;
    std::int64_t out_stride;
};

// The sums of a half vector of columns at the end of a tile's rows. It is empty unless H.
template <typename V, int R, bool H>
struct HalfSums {
    MTAW_INLINE void start(const float*) {}
    MTAW_INLINE void next(const float*) {}
    MTAW_INLINE void add(int, typename V::Reg) {}
};

template <typename V, int R>
struct HalfSums<V, R, true> {
    typename V::Half sums[R];
    typename V::Half row;

    MTAW_INLINE void start(const float* p) {
        MTAW_UNROLL
        for (int r = 0; r < R; ++r) sums[r] = V::load_half(p);
    }
    MTAW_INLINE void next(const float* p) { row = V::load_half(p); }
    MTAW_INLINE void add(int r, typename V::Reg factor) { sums[r] = V::fma_half(V::half_of(factor), row, sums[r]); }
};

// R x C vectors of the output, and half a vector more where H.
template <typename V, int R, int C, bool H>
MTAW_INLINE void product_tile(const Product& p) {
    using Reg = typename V::Reg;
    Reg sums[R][C];
    MTAW_UNROLL
    for (int r = 0; r < R; ++r) {
        MTAW_UNROLL
        for (int c = 0; c < C; ++c) sums[r][c] = V::load(p.start + c * V::kLanes);
    }
    [[maybe_unused]] HalfSums<V, R, H> halves;
    halves.start(p.start + C * V::kLanes);
    const float* a = p.a;
    const float* b = p.b;
    for (std::int64_t k = 0; k < p.depth; ++k, ++a, b += p.b_stride) {
        Reg row[C];
        MTAW_UNROLL
        for (int c = 0; c < C; ++c) row[c] = V::load(b + c * V::kLanes);
        halves.next(b + C * V::kLanes);
        MTAW_UNROLL
        for (int r = 0; r < R; ++r) {
            const Reg factor = V::broadcast(a[r * p.a_stride]);
            MTAW_UNROLL
            for (int c = 0; c < C; ++c) sums[r][c] = V::fma(factor, row[c], sums[r][c]);
            halves.add(r, factor);
        }
    }
    const Reg floor = V::broadcast(p.floor);
    const auto finish = [&](std::int64_t offset, Reg value) {
        value = V::max(value, floor);
        if (p.residual != nullptr) value = V::add(value, V::load(p.residual + offset));
        V::store(p.out + offset, value);
    };
    MTAW_UNROLL
    for (int r = 0; r < R; ++r) {
        MTAW_UNROLL
        for (int c = 0; c < C; ++c) finish(r * p.out_stride + c * V::kLanes, sums[r][c]);
        if constexpr (H) finish(r * p.out_stride + C * V::kLanes, V::widened(halves.sums[r]));
    }
}

template <typename V, int C, bool H>
void product_rows(const Product& p, std::int64_t rows) {
    static_assert(V::kRows <= 6);
    switch (rows) {
        case 1: return product_tile<V, 1, C, H>(p);
        case 2: return product_tile<V, 2, C, H>(p);
        case 3: return product_tile<V, 3, C, H>(p);
        case 4:
            if constexpr (V::kRows >= 4) return product_tile<V, 4, C, H>(p);
            break;
        case 5:
            if constexpr (V::kRows >= 5) return product_tile<V, 5, C, H>(p);
            break;
        case 6:
            if constexpr (V::kRows >= 6) return product_tile<V, 6, C, H>(p);
            break;
        default: break;
    }
}

// A product of `floats` columns (see panel_floats).
template <typename V>
void product(const Product& p, std::int64_t rows, std::int64_t floats) {
    static_assert(V::kColumns <= 4);
    constexpr std::int64_t kColumn = V::kLanes;
    if constexpr (V::kHalves) {
        switch (floats) {
            case kColumn * 3 / 2: return product_rows<V, 1, true>(p, rows);
            case kColumn * 5 / 2: return product_rows<V, 2, true>(p, rows);
            case kColumn * 7 / 2: return product_rows<V, 3, true>(p, rows);
            default: break;
        }
    }
    switch (floats) {
        case kColumn: return product_rows<V, 1, false>(p, rows);
        case kColumn * 2: return product_rows<V, 2, false>(p, rows);
        case kColumn * 3:
            if constexpr (V::kColumns >= 3) return product_rows<V, 3, false>(p, rows);
            break;
        case kColumn * 4:
            if constexpr (V::kColumns >= 4) return product_rows<V, 4, false>(p, rows);
            break;
        default: break;
    }
}

// Rows of the tile at `row` when `rows` are cut into the fewest tiles of at most `most`, as evenly as they go.
static inline std::int64_t tile_rows(std::int64_t row, std::int64_t rows, std::int64_t max_rows) {
    const std::int64_t tiles = (rows - row + max_rows - 1) / max_rows;
    return (rows - row + tiles - 1) / tiles;
}

// out[rows, width] of x[rows, width] through a layer, with ReLU (floor 0) or without (-infinity).
template <typename V>
void linear(const PackedLayer& layer, const EncodeModel& model, const float* x, std::int64_t rows, float floor,
            const float* residual, float* out) {
    constexpr std::int64_t kPanel = V::kColumns * V::kLanes;
    for (std::int64_t column = 0; column < model.d; column += kPanel) {
        const std::int64_t panel = panel_floats(model.d, column, kPanel, V::kHalves);
        Product p{
            x,       model.width, layer.panels + column * model.d, panel, model.d, layer.bias + column, floor, nullptr,
            nullptr, model.width};
        for (std::int64_t row = 0; row < rows;) {
            const std::int64_t n_tile_rows = tile_rows(row, rows, V::kRows);
            p.a = x + row * model.width;
            p.out = out + row * model.width + column;
            p.residual = residual == nullptr ? nullptr : residual + row * model.width + column;
            product<V>(p, n_tile_rows, panel);
            row += n_tile_rows;
        }
    }
}

// out[rows, width]: row r is the sum of weights[r, j] keys[j] over the keys j < first + r + 1. Weights of later keys
// must be zero, up to the keys of the last row.
template <typename V>
void mix(const EncodeModel& model, const float* weights, std::int64_t stride, const float* keys, std::int64_t first,
         std::int64_t rows, float* out) {
    constexpr std::int64_t kPanel = V::kColumns * V::kLanes;
    for (std::int64_t row = 0; row < rows;) {
        const std::int64_t n_tile_rows = tile_rows(row, rows, V::kRows);
        for (std::int64_t column = 0; column < model.d; column += kPanel) {
            const Product p{weights + row * stride,           stride,      keys + column, model.width,
                            first + row + n_tile_rows,        model.zeros, -HUGE_VALF,    nullptr,
                            out + row * model.width + column, model.width};
            product<V>(p, n_tile_rows, panel_floats(model.d, column, kPanel, V::kHalves));
        }
        row += n_tile_rows;
    }
}

// out[r, j] = queries[r] . keys[j] for j < n_keys. Up to a multiple of four, more columns repeat the last one.
template <typename V, int R>
void score_tile(const EncodeModel& model, const float* queries, const float* keys, std::int64_t n_keys, float* out,
                std::int64_t stride) {
    using Reg = typename V::Reg;
    constexpr int kKeys = 4;
    const std::int64_t width = model.width;
    const auto key = [=](std::int64_t j) { return keys + (j < n_keys ? j : n_keys - 1) * width; };
    for (std::int64_t j = 0; j < n_keys; j += kKeys) {
        const float* rows[kKeys] = {key(j), key(j + 1), key(j + 2), key(j + 3)};
        Reg sums[R][kKeys];
        MTAW_UNROLL
        for (int r = 0; r < R; ++r) {
            MTAW_UNROLL
            for (int i = 0; i < kKeys; ++i) sums[r][i] = V::broadcast(0.0F);
        }
        for (std::int64_t column = 0; column < width; column += V::kLanes) {
            Reg part[kKeys];
            MTAW_UNROLL
            for (int i = 0; i < kKeys; ++i) part[i] = V::load(rows[i] + column);
            MTAW_UNROLL
            for (int r = 0; r < R; ++r) {
                const Reg query = V::load(queries + r * width + column);
                MTAW_UNROLL
                for (int i = 0; i < kKeys; ++i) sums[r][i] = V::fma(query, part[i], sums[r][i]);
            }
        }
        MTAW_UNROLL
        for (int r = 0; r < R; ++r) V::store_sums(out + r * stride + j, sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
    }
}

// Scores of queries first..first+rows-1 against the keys up to their own: out[rows, stride].
template <typename V>
void scores(const EncodeModel& model, const float* queries, const float* keys, std::int64_t first, std::int64_t rows,
            float* out, std::int64_t stride) {
    static_assert(V::kQueries <= 4);
    for (std::int64_t row = 0; row < rows;) {
        const std::int64_t n_tile_rows = tile_rows(row, rows, V::kQueries);
        const float* q = queries + row * model.width;
        float* to = out + row * stride;
        const std::int64_t n_keys = first + row + n_tile_rows;
        switch (n_tile_rows) {
            case 1: score_tile<V, 1>(model, q, keys, n_keys, to, stride); break;
            case 2: score_tile<V, 2>(model, q, keys, n_keys, to, stride); break;
            case 3:
                if constexpr (V::kQueries >= 3) score_tile<V, 3>(model, q, keys, n_keys, to, stride);
                break;
            case 4:
                if constexpr (V::kQueries >= 4) score_tile<V, 4>(model, q, keys, n_keys, to, stride);
                break;
            default: break;
        }
        row += n_tile_rows;
    }
}

// 2^v for v <= 0 within 1.5 ulp; 0 below -126.5. Adding 1.5 * 2^23 rounds v to the integer n, which the low bits of
// the sum then hold; 2^(v - n) is a polynomial (relative error 2e-9 on [-1/2, 1/2]), exact at 0.
template <typename V>
MTAW_INLINE typename V::Reg exp2_of(typename V::Reg v) {
    using Reg = typename V::Reg;
    const Reg magic = V::broadcast(12582912.0F);
    v = V::max(v, V::broadcast(-127.0F));
    const Reg shifted = V::add(v, magic);
    const Reg r = V::sub(v, V::sub(shifted, magic));
    Reg power = V::broadcast(0x1.41fbbcp-13F);
    power = V::fma(power, r, V::broadcast(0x1.5f3e54p-10F));
    power = V::fma(power, r, V::broadcast(0x1.3b2d4cp-7F));
    power = V::fma(power, r, V::broadcast(0x1.c6aee8p-5F));
    power = V::fma(power, r, V::broadcast(0x1.ebfbdcp-3F));
    power = V::fma(power, r, V::broadcast(0x1.62e430p-1F));
    power = V::fma(power, r, V::broadcast(1.0F));
    return V::mul(power, V::power_of_two(shifted));
}

// Softmax to the base 2 of n scores, in place; zeros from n to `filled`, a multiple of kEncodeLanes.
template <typename V>
MTAW_INLINE void softmax(float* row, std::int64_t n, std::int64_t filled) {
    using Reg = typename V::Reg;
    constexpr float kNothing = -3.0e38F;
    const std::int64_t whole = n / V::kLanes * V::kLanes;
    Reg top = V::broadcast(kNothing);
    for (std::int64_t j = 0; j < whole; j += V::kLanes) top = V::max(V::load(row + j), top);
    for (std::int64_t j = whole; j < filled; j += V::kLanes) {
        const Reg value = V::load_first(row + j, n - j, kNothing);
        V::store(row + j, value);
        top = V::max(value, top);
    }
    top = V::broadcast(V::maximum(top));
    Reg total = V::broadcast(0.0F);
    for (std::int64_t j = 0; j < filled; j += V::kLanes) {
        const Reg power = exp2_of<V>(V::sub(V::load(row + j), top));
        V::store(row + j, power);
        total = V::add(total, power);
    }
    const Reg share = V::broadcast(1.0F / V::sum(total));
    for (std::int64_t j = 0; j < filled; j += V::kLanes) V::store(row + j, V::mul(V::load(row + j), share));
}

// LayerNorm of one row in place, biased variance, eps 1e-5.
template <typename V>
MTAW_INLINE void layer_norm(const EncodeModel& model, float* row) {
    using Reg = typename V::Reg;
    const float share = 1.0F / static_cast<float>(model.d);
    Reg total = V::broadcast(0.0F);
    for (std::int64_t c = 0; c < model.width; c += V::kLanes) total = V::add(total, V::load(row + c));
    const Reg mean = V::broadcast(V::sum(total) * share);
    Reg squares = V::broadcast(0.0F);
    for (std::int64_t c = 0; c < model.width; c += V::kLanes) {
        const Reg centered = V::mul(V::sub(V::load(row + c), mean), V::load(model.valid + c));
        V::store(row + c, centered);
        squares = V::fma(centered, centered, squares);
    }
    const Reg scale = V::broadcast(1.0F / V::root(V::sum(squares) * share + 1e-5F));
    for (std::int64_t c = 0; c < model.width; c += V::kLanes) {
        const Reg gain = V::mul(scale, V::load(model.norm_weight + c));
        V::store(row + c, V::fma(V::load(row + c), gain, V::load(model.norm_bias + c)));
    }
}

}  // namespace mtaw
