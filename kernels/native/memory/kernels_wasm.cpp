#include <wasm_simd128.h>

#include <cstring>

#include "memory/kernels_body.hpp"

namespace mtaw {
namespace {

// WebAssembly has no fused multiply-add with one result everywhere. The product of two floats is exact in float64, and
// a sum there that is rounded once more to float is the fused result, but where it lies in the middle of two floats and
// is inexact, or where the float is no normal number.
struct Doubles {
    v128_t low, high;
};

MTAW_INLINE Doubles promoted(v128_t floats) {
    return {wasm_f64x2_promote_low_f32x4(floats),
            wasm_f64x2_promote_low_f32x4(wasm_i32x4_shuffle(floats, floats, 2, 3, 2, 3))};
}

MTAW_INLINE v128_t demoted(const Doubles& doubles) {
    return wasm_i32x4_shuffle(wasm_f32x4_demote_f64x2_zero(doubles.low), wasm_f32x4_demote_f64x2_zero(doubles.high), 0,
                              1, 4, 5);
}

// The lower halves of the sums, without their upper 3 bits: the largest negative number where a sum may be in the
// middle.
MTAW_INLINE v128_t below_float(const Doubles& sum) {
    return wasm_i32x4_shl(wasm_i32x4_shuffle(sum.low, sum.high, 0, 2, 4, 6), 3);
}

MTAW_INLINE bool may_be_in_the_middle(v128_t below) {
    return wasm_v128_any_true(wasm_i32x4_eq(below, wasm_u32x4_const_splat(0x80000000U)));
}

// sum = round(product + addend), rounded to odd: where it is inexact, to the neighbor whose last bit is set.
MTAW_INLINE v128_t rounded_to_odd(v128_t sum, v128_t product, v128_t addend) {
    const v128_t part = wasm_f64x2_sub(sum, product), zero = wasm_i64x2_const_splat(0);
    const v128_t error =
        wasm_f64x2_add(wasm_f64x2_sub(product, wasm_f64x2_sub(sum, part)), wasm_f64x2_sub(addend, part));
    const v128_t over = wasm_f64x2_gt(error, zero), under = wasm_f64x2_lt(error, zero);
    const v128_t one = wasm_i64x2_const_splat(1);
    const v128_t is_even = wasm_i64x2_sub(wasm_v128_and(sum, one), one);
    const v128_t outward = wasm_v128_xor(over, wasm_f64x2_lt(sum, zero));
    const v128_t step = wasm_i64x2_sub(wasm_v128_and(outward, wasm_i64x2_const_splat(2)), one);
    return wasm_i64x2_add(sum, wasm_v128_and(wasm_v128_and(wasm_v128_or(over, under), is_even), step));
}

struct Wasm : OneByOne {
    using Reg = float __attribute__((vector_size(16)));
    static constexpr std::int64_t kLanes = 4;
    static constexpr int kRows = 2;
    static constexpr int kUnits = 4;

    using Sixteen = const float*;
    static Sixteen load_sixteen(const float* p) { return p; }

    static MTAW_INLINE void add_values(const std::uint16_t* values, Sixteen factors, float* sums) {
        static_assert(kPairKinds == 6 && kLaneOne == 6 && kLaneNone == 7);
        const v128_t raw = wasm_v128_load32_lane(values + 4, wasm_v128_load64_zero(values), 2);
        const v128_t all = wasm_i16x8_replace_lane(raw, kLaneOne, 0x3F80);
        add_lanes(wasm_i32x4_shl(wasm_u32x4_extend_low_u16x8(all), 16),
                  wasm_i32x4_shl(wasm_u32x4_extend_high_u16x8(all), 16), factors, sums);
    }
    static MTAW_INLINE void add_floats(const float* values, Sixteen factors, float* sums) {
        add_lanes(wasm_v128_load(values), wasm_v128_load(values + 4), factors, sums);
    }
    static MTAW_INLINE void add_lanes(v128_t low, v128_t high, Sixteen factors, float* sums) {
        add_four<0>(low, high, factors, sums);
        add_four<4>(low, high, factors, sums);
        add_four<8>(low, high, factors, sums);
        add_four<12>(low, high, factors, sums);
    }
    template <int kLane>
    static MTAW_INLINE void add_four(v128_t low, v128_t high, Sixteen factors, float* sums) {
        const auto wide = reinterpret_cast<Reg>(wasm_i32x4_shuffle(
            low, high, kLaneValues[kLane], kLaneValues[kLane + 1], kLaneValues[kLane + 2], kLaneValues[kLane + 3]));
        store(sums + kLane, fma(wide, load(factors + kLane), load(sums + kLane)));
    }

    static MTAW_INLINE void transpose(const float* const* rows, float* out) {
        for (int r = 0; r < 16; r += 4) {
            for (int c = 0; c < 16; c += 4) {
                const v128_t a = wasm_v128_load(rows[r] + c), b = wasm_v128_load(rows[r + 1] + c);
                const v128_t d = wasm_v128_load(rows[r + 2] + c), e = wasm_v128_load(rows[r + 3] + c);
                const v128_t ab = wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), de = wasm_i32x4_shuffle(d, e, 0, 4, 1, 5);
                const v128_t more_ab = wasm_i32x4_shuffle(a, b, 2, 6, 3, 7),
                             more_de = wasm_i32x4_shuffle(d, e, 2, 6, 3, 7);
                float* const to = out + c * kTile + r;
                wasm_v128_store(to, wasm_i32x4_shuffle(ab, de, 0, 1, 4, 5));
                wasm_v128_store(to + kTile, wasm_i32x4_shuffle(ab, de, 2, 3, 6, 7));
                wasm_v128_store(to + 2 * kTile, wasm_i32x4_shuffle(more_ab, more_de, 0, 1, 4, 5));
                wasm_v128_store(to + 3 * kTile, wasm_i32x4_shuffle(more_ab, more_de, 2, 3, 6, 7));
            }
        }
    }

    static Reg load(const float* p) { return reinterpret_cast<Reg>(wasm_v128_load(p)); }
    static void store(float* p, Reg v) { wasm_v128_store(p, reinterpret_cast<v128_t>(v)); }
    static Reg broadcast(float value) { return Reg{value, value, value, value}; }
    static Reg add(Reg a, Reg b) { return a + b; }
    static Reg sub(Reg a, Reg b) { return a - b; }
    static Reg mul(Reg a, Reg b) { return a * b; }
    static Reg div(Reg a, Reg b) { return a / b; }
    static Reg root(Reg a) { return reinterpret_cast<Reg>(wasm_f32x4_sqrt(reinterpret_cast<v128_t>(a))); }
    static Reg max(Reg a, Reg b) {
        return reinterpret_cast<Reg>(wasm_f32x4_pmax(reinterpret_cast<v128_t>(b), reinterpret_cast<v128_t>(a)));
    }
    static MTAW_INLINE Reg fma(Reg a, Reg b, Reg c) {
        const Doubles x = promoted(reinterpret_cast<v128_t>(a)), y = promoted(reinterpret_cast<v128_t>(b)),
                      z = promoted(reinterpret_cast<v128_t>(c));
        const Doubles product{wasm_f64x2_mul(x.low, y.low), wasm_f64x2_mul(x.high, y.high)};
        Doubles sum{wasm_f64x2_add(product.low, z.low), wasm_f64x2_add(product.high, z.high)};
        // Under 2^-126, but not 0: by the upper halves.
        const v128_t upper =
            wasm_v128_and(wasm_i32x4_shuffle(sum.low, sum.high, 1, 3, 5, 7), wasm_u32x4_const_splat(0x7FFFFFFFU));
        const v128_t small =
            wasm_u32x4_lt(wasm_i32x4_sub(upper, wasm_i32x4_const_splat(1)), wasm_u32x4_const_splat(0x380FFFFFU));
        const v128_t middle = wasm_i32x4_eq(below_float(sum), wasm_u32x4_const_splat(0x80000000U));
        if (wasm_v128_any_true(wasm_v128_or(small, middle))) {
            sum = {rounded_to_odd(sum.low, product.low, z.low), rounded_to_odd(sum.high, product.high, z.high)};
        }
        return reinterpret_cast<Reg>(demoted(sum));
    }
    static Reg mantissa(Reg x, Reg* exponent) {
        const v128_t root = wasm_i32x4_const_splat(0x3F3504F3);  // sqrt(1/2)
        const v128_t over = wasm_i32x4_sub(reinterpret_cast<v128_t>(x), root);
        *exponent = reinterpret_cast<Reg>(wasm_f32x4_convert_i32x4(wasm_i32x4_shr(over, 23)));
        return reinterpret_cast<Reg>(wasm_i32x4_add(wasm_v128_and(over, wasm_i32x4_const_splat(0x7FFFFF)), root));
    }
    static Reg power_of_two(Reg shifted) {
        return reinterpret_cast<Reg>(
            wasm_i32x4_shl(wasm_i32x4_add(reinterpret_cast<v128_t>(shifted), wasm_i32x4_const_splat(127)), 23));
    }
    static std::int64_t count_at_least(const std::int32_t* keys, std::int64_t count, std::int32_t minimum) {
        std::int32_t found = 0;
        for (std::int64_t i = 0; i < count; ++i) found += keys[i] >= minimum ? 1 : 0;
        return found;
    }
};

// Whether no value is small, but 0. With such factors, start values too, every sum is 0 or a multiple of 2^-126, so it
// is a normal number.
bool none_small(const float* values, std::int64_t count, std::int64_t stride, std::int64_t width) {
    v128_t small = wasm_i32x4_const_splat(0);
    for (std::int64_t i = 0; i < count; ++i, values += stride) {
        for (std::int64_t j = 0; j < width; j += 4) {
            const v128_t size = wasm_f32x4_abs(wasm_v128_load(values + j));
            small = wasm_v128_or(small, wasm_v128_and(wasm_f32x4_lt(size, wasm_f32x4_const_splat(0x1p-40F)),
                                                      wasm_f32x4_gt(size, wasm_f32x4_const_splat(0))));
        }
    }
    return !wasm_v128_any_true(small);
}

constexpr int kChains = 4;  // units whose sums are computed together

// hidden = max(0, start + inputs x weights) of one vector of candidates and the units of kChains columns of a panel.
// The sums stay in float64, rounded to floats.
MTAW_INLINE void add_units(const float* inputs, const float* weights, const float* start, std::int64_t depth,
                           v128_t* out) {
    Doubles sums[kChains];
    MTAW_MEMORY_UNROLL
    for (int u = 0; u < kChains; ++u) sums[u].low = sums[u].high = wasm_f64x2_splat(static_cast<double>(start[u]));
    for (std::int64_t k = 0; k < depth; ++k, inputs += kTile, weights += kPanel) {
        const Doubles x = promoted(wasm_v128_load(inputs));
        Doubles next[kChains];
        v128_t below = wasm_i32x4_const_splat(0);
        MTAW_MEMORY_UNROLL
        for (int u = 0; u < kChains; ++u) {
            const v128_t weight = wasm_f64x2_splat(static_cast<double>(weights[u]));
            next[u].low = wasm_f64x2_add(sums[u].low, wasm_f64x2_mul(x.low, weight));
            next[u].high = wasm_f64x2_add(sums[u].high, wasm_f64x2_mul(x.high, weight));
            below = wasm_i32x4_min(below, below_float(next[u]));
        }
        if (__builtin_expect(may_be_in_the_middle(below), 0)) {
            for (int u = 0; u < kChains; ++u) {
                const v128_t weight = wasm_f64x2_splat(static_cast<double>(weights[u]));
                next[u].low = rounded_to_odd(next[u].low, wasm_f64x2_mul(x.low, weight), sums[u].low);
                next[u].high = rounded_to_odd(next[u].high, wasm_f64x2_mul(x.high, weight), sums[u].high);
            }
        }
        MTAW_MEMORY_UNROLL
        for (int u = 0; u < kChains; ++u) {
            sums[u].low = wasm_f64x2_promote_low_f32x4(wasm_f32x4_demote_f64x2_zero(next[u].low));
            sums[u].high = wasm_f64x2_promote_low_f32x4(wasm_f32x4_demote_f64x2_zero(next[u].high));
        }
    }
    MTAW_MEMORY_UNROLL
    for (int u = 0; u < kChains; ++u) {
        out[u] =
            reinterpret_cast<v128_t>(Wasm::max(reinterpret_cast<Wasm::Reg>(demoted(sums[u])), Wasm::broadcast(0.0F)));
    }
}

// As `forward` in kernels_body.hpp, to the bit. Returns false, with nothing but working memory written, where the sums
// may have to be rounded to numbers that are not normal.
bool forward_in_doubles(const ForwardPass& pass, std::int64_t count) {
    using Reg = Wasm::Reg;
    static_assert(kPanel % kChains == 0);
    const std::int64_t wide = (count + Wasm::kLanes - 1) / Wasm::kLanes * Wasm::kLanes;
    if (!none_small(pass.columns, pass.depth, kTile, wide) || !none_small(pass.start, 1, 0, pass.n1) ||
        !none_small(pass.panels1, 1, 0, pass.n1 * pass.all_columns) ||
        !none_small(pass.panels2, 1, 0, pass.n1 * pass.n2) || !none_small(pass.bias2, 1, 0, pass.n2)) {
        return false;
    }
    for (std::int64_t begin = 0; begin < wide; begin += Wasm::kLanes) {
        float* const hidden = pass.hidden + begin;
        const float* const columns = pass.columns + begin;
        v128_t units[kChains];
        for (std::int64_t unit = 0; unit < pass.n1; unit += kChains) {
            const std::int64_t panel = unit / kPanel, within = unit % kPanel;
            add_units(columns, pass.panels1 + panel * pass.all_columns * kPanel + within, pass.start + unit, pass.depth,
                      units);
            for (int u = 0; u < kChains; ++u) wasm_v128_store(hidden + (unit + u) * kTile, units[u]);
        }
        if (!none_small(hidden, pass.n1, kTile, Wasm::kLanes)) return false;
        Reg score = Wasm::broadcast(pass.start[pass.n1]);
        for (std::int64_t k = 0; k < pass.depth; ++k) {
            score = Wasm::fma(Wasm::load(columns + k * kTile), Wasm::broadcast(pass.linear[k]), score);
        }
        for (std::int64_t unit = 0; unit < pass.n2; unit += kChains) {
            const std::int64_t panel = unit / kPanel, within = unit % kPanel;
            add_units(hidden, pass.panels2 + panel * pass.n1 * kPanel + within, pass.bias2 + unit, pass.n1, units);
            for (int u = 0; u < kChains; ++u) {
                score = Wasm::fma(reinterpret_cast<Reg>(units[u]), Wasm::broadcast(pass.output[unit + u]), score);
            }
        }
        Wasm::store(pass.scores + begin, score);
    }
    return true;
}

void forward_fused(const ForwardPass& pass, std::int64_t count) {
    if (!forward_in_doubles(pass, count)) forward<Wasm>(pass, count);
}

constexpr MemoryKernels kernels_of() {
    MemoryKernels kernels = memory_kernels_of<Wasm>();
    kernels.forward = forward_fused;
    return kernels;
}

}  // namespace

const MemoryKernels& memory_kernels_wasm() {
    static constexpr MemoryKernels kernels = kernels_of();
    return kernels;
}

}  // namespace mtaw
