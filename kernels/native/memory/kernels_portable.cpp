#include <cmath>
#include <cstring>

#include "memory/kernels_body.hpp"

namespace mtaw {
namespace {

// Four floats in a vector type of GCC and Clang.
struct Portable : OneByOne {
    using Reg = float __attribute__((vector_size(16)));
    using Integers = std::int32_t __attribute__((vector_size(16)));
    static constexpr std::int64_t kLanes = 4;
    static constexpr int kRows = 2;
    static constexpr int kUnits = 4;

    using Sixteen = const float*;
    static Sixteen load_sixteen(const float* p) { return p; }

    static void add_values(const std::uint16_t* values, Sixteen factors, float* sums) {
        std::uint32_t bits[kPairKinds + 2];
        for (int kind = 0; kind < kPairKinds; ++kind) bits[kind] = std::uint32_t{values[kind]} << 16;
        bits[kLaneOne] = 0x3F800000U;
        bits[kLaneNone] = 0;
        float values_of[kPairKinds + 2];
        std::memcpy(values_of, bits, sizeof bits);
        add_floats(values_of, factors, sums);
    }

    static void add_floats(const float* values, Sixteen factors, float* sums) {
        float wide[kSumLanes];
        for (int lane = 0; lane < kSumLanes; ++lane) wide[lane] = values[kLaneValues[lane]];
        for (int lane = 0; lane < kSumLanes; lane += 4) {
            store(sums + lane, fma(load(wide + lane), load(factors + lane), load(sums + lane)));
        }
    }

    static void transpose(const float* const* rows, float* out) {
        for (int r = 0; r < 16; ++r) {
            for (int c = 0; c < 16; ++c) out[c * kTile + r] = rows[r][c];
        }
    }

    static Reg load(const float* p) {
        Reg v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static void store(float* p, Reg v) { std::memcpy(p, &v, sizeof v); }
    static Reg broadcast(float value) { return Reg{value, value, value, value}; }
    static Reg add(Reg a, Reg b) { return a + b; }
    static Reg sub(Reg a, Reg b) { return a - b; }
    static Reg mul(Reg a, Reg b) { return a * b; }
    static Reg div(Reg a, Reg b) { return a / b; }
    static Reg root(Reg a) {
        for (int lane = 0; lane < kLanes; ++lane) a[lane] = std::sqrt(a[lane]);
        return a;
    }
    static Reg max(Reg a, Reg b) { return a > b ? a : b; }

#if defined(__aarch64__)
    static Reg fma(Reg a, Reg b, Reg c) {
        for (int lane = 0; lane < 4; ++lane) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
        return c;
    }
#else
    // Not every x86-64 CPU has the instruction. The product is exact in float64; the sum is rounded there to odd (where
    // it is inexact, to the neighbor whose last bit is set), so that rounding it once more is as rounding once.
    static MTAW_INLINE Reg fma(Reg a, Reg b, Reg c) {
        using Doubles = double __attribute__((vector_size(32)));
        using Longs = long long __attribute__((vector_size(32)));
        const Doubles product = __builtin_convertvector(a, Doubles) * __builtin_convertvector(b, Doubles);
        const Doubles addend = __builtin_convertvector(c, Doubles);
        const Doubles sum = product + addend, part = sum - product;
        const Doubles error = (product - (sum - part)) + (addend - part);
        Longs bits;
        std::memcpy(&bits, &sum, sizeof bits);
        // Of an infinite sum the error is NaN, which is neither: infinities and NaNs stay as they are.
        const Longs over = error > 0, under = error < 0;
        const Longs is_even = (bits & 1) - 1, outward = over ^ (sum < 0);
        bits += (over | under) & is_even & ((outward & 2) - 1);
        Doubles odd;
        std::memcpy(&odd, &bits, sizeof odd);
        return __builtin_convertvector(odd, Reg);
    }
#endif

    static Reg mantissa(Reg x, Reg* exponent) {
        constexpr std::int32_t kRootOfHalf = 0x3F3504F3;  // sqrt(1/2)
        Integers bits;
        std::memcpy(&bits, &x, sizeof bits);
        const Integers over = bits - kRootOfHalf, whole = (over & 0x7FFFFF) + kRootOfHalf;
        *exponent = __builtin_convertvector(over >> 23, Reg);
        std::memcpy(&x, &whole, sizeof x);
        return x;
    }
    static Reg power_of_two(Reg shifted) {
        Integers bits;
        std::memcpy(&bits, &shifted, sizeof bits);
        bits = (bits + 127) << 23;
        std::memcpy(&shifted, &bits, sizeof bits);
        return shifted;
    }
    static std::int64_t count_at_least(const std::int32_t* keys, std::int64_t count, std::int32_t minimum) {
        std::int32_t found = 0;
        for (std::int64_t i = 0; i < count; ++i) found += keys[i] >= minimum ? 1 : 0;
        return found;
    }
};

}  // namespace

const MemoryKernels& memory_kernels_portable() {
    static constexpr MemoryKernels kernels = memory_kernels_of<Portable>();
    return kernels;
}

const MemoryKernels& memory_kernels(Isa isa) {
#if defined(__x86_64__)
    if (isa >= Isa::avx512) return memory_kernels_avx512();
    if (isa == Isa::avx2) return memory_kernels_avx2();
#else
    (void)isa;
#endif
#if defined(__wasm_simd128__)
    return memory_kernels_wasm();
#else
    return memory_kernels_portable();
#endif
}

const ColumnKernels& column_kernels(Isa isa) { return memory_kernels(isa); }

}  // namespace mtaw
