#include <immintrin.h>

#include <cstring>

#include "memory/kernels_body.hpp"

namespace mtaw {
namespace {

struct Avx2 : OneByOne {
    using Reg = __m256;
    static constexpr std::int64_t kLanes = 8;
    static constexpr int kRows = 3;  // 3 x 4 sums, 3 vectors of inputs and a weight fit the 16 registers
    static constexpr int kUnits = 4;

    struct Sixteen {
        __m256 low, high;
    };
    static Sixteen load_sixteen(const float* p) { return {_mm256_load_ps(p), _mm256_load_ps(p + 8)}; }

    static MTAW_INLINE void add_values(const std::uint16_t* values, Sixteen factors, float* sums) {
        const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(kLaneValues));
        const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(kLaneValues + 8));
        int last;
        std::memcpy(&last, values + 4, sizeof last);
        __m128i raw = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(values));
        raw = _mm_insert_epi16(_mm_insert_epi32(raw, last, 2), 0x3F80, 6);
        const __m256 wide = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
        const __m256 first = _mm256_permutevar8x32_ps(wide, low), second = _mm256_permutevar8x32_ps(wide, high);
        _mm256_store_ps(sums, _mm256_fmadd_ps(first, factors.low, _mm256_load_ps(sums)));
        _mm256_store_ps(sums + 8, _mm256_fmadd_ps(second, factors.high, _mm256_load_ps(sums + 8)));
    }

    static MTAW_INLINE void add_floats(const float* values, Sixteen factors, float* sums) {
        const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(kLaneValues));
        const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(kLaneValues + 8));
        const __m256 wide = _mm256_loadu_ps(values);
        const __m256 first = _mm256_permutevar8x32_ps(wide, low), second = _mm256_permutevar8x32_ps(wide, high);
        _mm256_store_ps(sums, _mm256_fmadd_ps(first, factors.low, _mm256_load_ps(sums)));
        _mm256_store_ps(sums + 8, _mm256_fmadd_ps(second, factors.high, _mm256_load_ps(sums + 8)));
    }

    static MTAW_INLINE void transpose(const float* const* rows, float* out) {
        for (int half = 0; half < 2; ++half) {
            transpose_eight(rows, half * 8, out + half * 8 * kTile);
            transpose_eight(rows + 8, half * 8, out + half * 8 * kTile + 8);
        }
    }
    static MTAW_INLINE void transpose_eight(const float* const* rows, int begin, float* out) {
        __m256 a[8], b[8];
        MTAW_MEMORY_UNROLL
        for (int r = 0; r < 8; ++r) a[r] = _mm256_load_ps(rows[r] + begin);
        MTAW_MEMORY_UNROLL
        for (int r = 0; r < 8; r += 2) {
            b[r] = _mm256_unpacklo_ps(a[r], a[r + 1]);
            b[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
        }
        MTAW_MEMORY_UNROLL
        for (int r = 0; r < 8; r += 4) {
            a[r] = _mm256_shuffle_ps(b[r], b[r + 2], 0x44);
            a[r + 1] = _mm256_shuffle_ps(b[r], b[r + 2], 0xEE);
            a[r + 2] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0x44);
            a[r + 3] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0xEE);
        }
        MTAW_MEMORY_UNROLL
        for (int c = 0; c < 4; ++c) {
            _mm256_storeu_ps(out + c * kTile, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
            _mm256_storeu_ps(out + (4 + c) * kTile, _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
        }
    }

    static Reg load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, Reg v) { _mm256_storeu_ps(p, v); }
    static Reg broadcast(float value) { return _mm256_set1_ps(value); }
    static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
    static Reg div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
    static Reg root(Reg a) { return _mm256_sqrt_ps(a); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
    static Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
    static Reg mantissa(Reg x, Reg* exponent) {
        const __m256i root = _mm256_set1_epi32(0x3F3504F3);  // sqrt(1/2)
        const __m256i over = _mm256_sub_epi32(_mm256_castps_si256(x), root);
        *exponent = _mm256_cvtepi32_ps(_mm256_srai_epi32(over, 23));
        return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_and_si256(over, _mm256_set1_epi32(0x7FFFFF)), root));
    }
    static Reg power_of_two(Reg shifted) {
        const __m256i biased = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127));
        return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
    }
    static std::int64_t count_at_least(const std::int32_t* keys, std::int64_t count, std::int32_t minimum) {
        const __m256i bound = _mm256_set1_epi32(minimum);
        std::int64_t found = 0, i = 0;
        for (; i + 8 <= count; i += 8) {
            const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + i));
            const __m256i under = _mm256_cmpgt_epi32(bound, some);
            found += 8 - __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(under))));
        }
        for (; i < count; ++i) found += keys[i] >= minimum ? 1 : 0;
        return found;
    }
};

}  // namespace

const MemoryKernels& memory_kernels_avx2() {
    static constexpr MemoryKernels kernels = memory_kernels_of<Avx2>();
    return kernels;
}

}  // namespace mtaw
