#include <immintrin.h>

#include "memory/kernels_body.hpp"

namespace mtaw {
namespace {

struct Avx512 {
    using Reg = __m512;
    static constexpr std::int64_t kLanes = 16;
    static constexpr int kRows = 3;  // 3 x 8 sums, 3 vectors of inputs and a weight fit the 32 registers
    static constexpr int kUnits = 8;

    using Sixteen = __m512;
    static Sixteen load_sixteen(const float* p) { return _mm512_load_ps(p); }

    // A permutation of 16-bit words both spreads the six values over the lanes and widens them to float32.
    static MTAW_INLINE void add_values(const std::uint16_t* values, Sixteen factors, float* sums) {
        const __m512i words = _mm512_slli_epi32(_mm512_load_si512(kLaneValues), 16);
        const __m128i one = _mm_set_epi16(0, 0x3F80, 0, 0, 0, 0, 0, 0);
        const __m512i raw = _mm512_zextsi128_si512(_mm_mask_loadu_epi16(one, 0x3F, values));
        const __m512 wide = _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xAAAAAAAAU, words, raw));
        _mm512_store_ps(sums, _mm512_fmadd_ps(wide, factors, _mm512_load_ps(sums)));
    }

    static MTAW_INLINE void add_floats(const float* values, Sixteen factors, float* sums) {
        const __m512 raw = _mm512_zextps256_ps512(_mm256_loadu_ps(values));
        const __m512 wide = _mm512_permutexvar_ps(_mm512_load_si512(kLaneValues), raw);
        _mm512_store_ps(sums, _mm512_fmadd_ps(wide, factors, _mm512_load_ps(sums)));
    }

    static MTAW_INLINE void transpose(const float* const* rows, float* out) {
        __m512 a[16], b[16];
        MTAW_MEMORY_UNROLL
        for (int r = 0; r < 16; ++r) a[r] = _mm512_load_ps(rows[r]);
        MTAW_MEMORY_UNROLL
        for (int r = 0; r < 16; r += 2) {
            b[r] = _mm512_unpacklo_ps(a[r], a[r + 1]);
            b[r + 1] = _mm512_unpackhi_ps(a[r], a[r + 1]);
        }
        // a[4 q + c]: column c of each quarter of the lanes, rows 4 q .. 4 q + 3.
        MTAW_MEMORY_UNROLL
        for (int r = 0; r < 16; r += 4) {
            a[r] = _mm512_shuffle_ps(b[r], b[r + 2], 0x44);
            a[r + 1] = _mm512_shuffle_ps(b[r], b[r + 2], 0xEE);
            a[r + 2] = _mm512_shuffle_ps(b[r + 1], b[r + 3], 0x44);
            a[r + 3] = _mm512_shuffle_ps(b[r + 1], b[r + 3], 0xEE);
        }
        MTAW_MEMORY_UNROLL
        for (int c = 0; c < 4; ++c) {
            const __m512 low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x88),
                         odd = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xDD);
            const __m512 high = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x88);
            const __m512 last = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xDD);
            _mm512_storeu_ps(out + c * kTile, _mm512_shuffle_f32x4(low, high, 0x88));
            _mm512_storeu_ps(out + (4 + c) * kTile, _mm512_shuffle_f32x4(odd, last, 0x88));
            _mm512_storeu_ps(out + (8 + c) * kTile, _mm512_shuffle_f32x4(low, high, 0xDD));
            _mm512_storeu_ps(out + (12 + c) * kTile, _mm512_shuffle_f32x4(odd, last, 0xDD));
        }
    }

    static Reg load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, Reg v) { _mm512_storeu_ps(p, v); }
    static Reg broadcast(float value) { return _mm512_set1_ps(value); }
    static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
    static Reg div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
    static Reg root(Reg a) { return _mm512_sqrt_ps(a); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
    static Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
    static Reg mantissa(Reg x, Reg* exponent) {
        const __m512i root = _mm512_set1_epi32(0x3F3504F3);  // sqrt(1/2)
        const __m512i over = _mm512_sub_epi32(_mm512_castps_si512(x), root);
        *exponent = _mm512_cvtepi32_ps(_mm512_srai_epi32(over, 23));
        return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_and_si512(over, _mm512_set1_epi32(0x7FFFFF)), root));
    }
    static Reg power_of_two(Reg shifted) {
        const __m512i biased = _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127));
        return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
    }
    // The pairs' sixteens of 32-bit words 5 i + j: two values of a pair each.
    template <int j>
    static MTAW_INLINE __m512i pair_words(const __m512i* raw) {
        const __m512i at = _mm512_add_epi32(
            _mm512_set1_epi32(j), _mm512_setr_epi32(0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75));
        constexpr __mmask16 kThird = j < 2 ? 0x1F80 : j < 4 ? 0x1FC0 : 0x0FC0, kFifth = j < 4 ? 0xE000 : 0xF000;
        __m512i words = _mm512_permutex2var_epi32(raw[0], at, raw[1]);
        words = _mm512_mask_mov_epi32(words, kThird, _mm512_permutex2var_epi32(raw[2], at, raw[3]));
        return _mm512_mask_permutexvar_epi32(words, kFifth, at, raw[4]);
    }
    static Reg low_half(__m512i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)); }
    static Reg high_half(__m512i words) {
        return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U))));
    }
    // pair_pre_score of `count` <= 16 pairs.
    static MTAW_INLINE void pair_pre_scores(const std::uint16_t* values, std::int64_t count, const float* factors,
                                            float* out) {
        static_assert(kPairSums == 10 && kPairLanes == 5);
        __m512i raw[5];
        MTAW_MEMORY_UNROLL
        for (int r = 0; r < 5; ++r) {
            const std::int64_t rest = 5 * count - 16 * r;
            const auto some = static_cast<__mmask16>(rest >= 16 ? 0xFFFFU : rest <= 0 ? 0U : (1U << rest) - 1U);
            raw[r] = _mm512_maskz_loadu_epi32(some, values + 32 * r);
        }
        const __m512i w0 = pair_words<0>(raw), w1 = pair_words<1>(raw), w2 = pair_words<2>(raw),
                      w3 = pair_words<3>(raw), w4 = pair_words<4>(raw);
        const auto part = [&](Reg value, int k) { return value * broadcast(factors[k]); };
        const Reg fwd = (part(low_half(w0), 0) + part(high_half(w0), 1)) + part(high_half(w1), 3);
        const Reg bwd = (part(high_half(w2), 5) + part(low_half(w3), 6)) + part(low_half(w4), 8);
        store(out, fwd + bwd);
    }
    // A pair's values, then zeros.
    static MTAW_INLINE Reg load_pair(const std::uint16_t* values) {
        const __m256i words = _mm256_maskz_loadu_epi16((1U << kPairSums) - 1U, values);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
    }
    static MTAW_INLINE std::int64_t list_positive(const float* scores, const float* popular, std::int32_t first,
                                                  std::int32_t* ids, std::int32_t* keys) {
        const Reg score = load(scores) + load(popular);
        const __mmask16 taken = _mm512_cmp_ps_mask(score, _mm512_setzero_ps(), _CMP_GT_OQ);
        const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m512i items = _mm512_add_epi32(lanes, _mm512_set1_epi32(first));
        _mm512_storeu_si512(ids, _mm512_maskz_compress_epi32(taken, items));
        _mm512_storeu_si512(keys, _mm512_maskz_compress_epi32(taken, _mm512_castps_si512(score)));
        return __builtin_popcount(taken);
    }
    static std::int64_t list_taken(const std::int32_t* keys, const std::int32_t* items, std::int64_t count,
                                   std::int32_t lowest, std::int32_t last, std::int32_t first, std::int32_t* out) {
        const __m512i cut = _mm512_set1_epi32(lowest), end = _mm512_set1_epi32(last);
        __m512i index = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                         _mm512_set1_epi32(first));
        std::int64_t n = 0;
        for (std::int64_t i = 0; i < count; i += 16) {
            const auto valid = static_cast<__mmask16>(count - i >= 16 ? 0xFFFFU : (1U << (count - i)) - 1U);
            const __m512i key = _mm512_maskz_loadu_epi32(valid, keys + i);
            const __m512i item = _mm512_maskz_loadu_epi32(valid, items + i);
            const __mmask16 tied =
                _mm512_mask_cmple_epi32_mask(_mm512_mask_cmpeq_epi32_mask(valid, key, cut), item, end);
            const auto taken = static_cast<__mmask16>(_mm512_mask_cmpgt_epi32_mask(valid, key, cut) | tied);
            _mm512_storeu_si512(out + n, _mm512_maskz_compress_epi32(taken, index));
            n += __builtin_popcount(taken);
            index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
        }
        return n;
    }
    static std::int64_t count_at_least(const std::int32_t* keys, std::int64_t count, std::int32_t minimum) {
        const __m512i bound = _mm512_set1_epi32(minimum);
        std::int64_t found = 0, i = 0;
        for (; i + 16 <= count; i += 16) {
            found += __builtin_popcount(_mm512_cmpge_epi32_mask(_mm512_loadu_si512(keys + i), bound));
        }
        const auto rest = static_cast<__mmask16>((1U << (count - i)) - 1U);
        const __m512i some = _mm512_maskz_loadu_epi32(rest, keys + i);
        return found + __builtin_popcount(_mm512_mask_cmpge_epi32_mask(rest, some, bound));
    }
};

}  // namespace

const MemoryKernels& memory_kernels_avx512() {
    static constexpr MemoryKernels kernels = memory_kernels_of<Avx512>();
    return kernels;
}

}  // namespace mtaw
