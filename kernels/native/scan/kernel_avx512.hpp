// Bounds of 16 items in one register: what both AVX-512 kernels share.
#pragma once

#include <immintrin.h>

#include "scan/kernel_body.hpp"

namespace mtaw {
namespace {

struct Avx512Bounds {
    static constexpr bool kPackAlways = true;

    using Sums = __m512i;
    struct Items {
        __m512 steps;
        __m512 residuals;
    };

    static MTAW_INLINE Sums zero() { return _mm512_setzero_si512(); }
    static MTAW_INLINE Sums added(const Sums& a, const Sums& b) { return _mm512_add_epi32(a, b); }
    static MTAW_INLINE Sums doubled(const Sums& sums, std::int32_t bias) {
        return _mm512_add_epi32(_mm512_add_epi32(sums, sums), _mm512_set1_epi32(bias));
    }
    static MTAW_INLINE Items load_items(const std::uint8_t* address) {
        const __m512i words = _mm512_loadu_si512(address);
        return {_mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U)))),
                _mm512_castsi512_ps(_mm512_slli_epi32(words, 16))};
    }
    static MTAW_INLINE std::uint32_t over(const Sums& sums, const Items& items, const ScanLane& lane) {
        const __m512 spread = _mm512_mul_ps(_mm512_set1_ps(lane.spread), items.residuals);
        const __m512 upper = _mm512_fmadd_ps(items.steps, _mm512_cvtepi32_ps(sums), spread);
        return _cvtmask16_u32(_mm512_cmp_ps_mask(upper, _mm512_set1_ps(lane.cut), _CMP_GT_OQ));
    }
    static MTAW_INLINE void store_bounds(const Sums& sums, const Items& items, const ScanLane& lane, std::uint32_t mask,
                                         std::int32_t first, float* upper, float* lower, std::int32_t* ids) {
        const __m512 spread = _mm512_mul_ps(_mm512_set1_ps(lane.spread), items.residuals);
        const __m512 dots = _mm512_cvtepi32_ps(sums);
        const __m512i places = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __mmask16 kept = _cvtu32_mask16(mask);
        // Packed in registers and stored whole: a packing store takes a hundred cycles on Zen 4.
        _mm512_storeu_ps(upper, _mm512_maskz_compress_ps(kept, _mm512_fmadd_ps(items.steps, dots, spread)));
        _mm512_storeu_ps(lower, _mm512_maskz_compress_ps(kept, _mm512_fmsub_ps(items.steps, dots, spread)));
        _mm512_storeu_si512(
            ids, _mm512_maskz_compress_epi32(kept, _mm512_add_epi32(places, _mm512_set1_epi32(first))));
    }
};

}  // namespace
}  // namespace mtaw
