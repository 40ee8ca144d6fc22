#include <immintrin.h>

#include "scan/select.hpp"

namespace mtaw {
namespace {

// The first lanes of a register of 16, `left` of them.
inline __mmask16 lanes_left(std::int64_t left) {
    return left >= 16 ? _cvtu32_mask16(0xFFFFU) : _cvtu32_mask16((1U << left) - 1U);
}

inline int count_of(__mmask16 mask) { return __builtin_popcount(_cvtmask16_u32(mask)); }

FiniteRange finite_range(const float* values, std::int64_t count) {
    const __m512 infinity = _mm512_set1_ps(__builtin_inff());
    const __m512 minus = _mm512_sub_ps(_mm512_setzero_ps(), infinity);
    __m512 smallest = infinity, largest = minus;
    std::int64_t found = 0;
    for (std::int64_t i = 0; i < count; i += 16) {
        const __m512 some = _mm512_mask_loadu_ps(minus, lanes_left(count - i), values + i);
        const __mmask16 finite = _mm512_cmp_ps_mask(some, minus, _CMP_GT_OQ);
        smallest = _mm512_mask_min_ps(smallest, finite, smallest, some);
        largest = _mm512_max_ps(largest, some);
        found += count_of(finite);
    }
    return {found, _mm512_reduce_min_ps(smallest), _mm512_reduce_max_ps(largest)};
}

std::int64_t count_at_least(const float* values, std::int64_t count, float smallest) {
    const __m512 bound = _mm512_set1_ps(smallest);
    std::int64_t found = 0;
    for (std::int64_t i = 0; i < count; i += 16) {
        const __mmask16 lanes = lanes_left(count - i);
        found += count_of(_mm512_mask_cmp_ps_mask(lanes, _mm512_maskz_loadu_ps(lanes, values + i), bound, _CMP_GE_OQ));
    }
    return found;
}

// Packs in registers and stores whole: what a store writes past the kept ones is in what was read already, or in
// the slack at the end.
void drop_under_cut(ScanLane& lane) {
    const __m512 cut = _mm512_set1_ps(lane.cut);
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < lane.count; i += 16) {
        const __m512 upper = _mm512_loadu_ps(lane.upper + i);
        const __m512 lower = _mm512_loadu_ps(lane.lower + i);
        const __m512i ids = _mm512_loadu_si512(lane.ids + i);
        const __mmask16 over = _mm512_mask_cmp_ps_mask(lanes_left(lane.count - i), upper, cut, _CMP_GT_OQ);
        _mm512_storeu_ps(lane.upper + kept, _mm512_maskz_compress_ps(over, upper));
        _mm512_storeu_ps(lane.lower + kept, _mm512_maskz_compress_ps(over, lower));
        _mm512_storeu_si512(lane.ids + kept, _mm512_maskz_compress_epi32(over, ids));
        kept += count_of(over);
    }
    lane.count = kept;
}

}  // namespace

SelectKernels select_kernels_avx512() { return {finite_range, count_at_least, drop_under_cut}; }

}  // namespace mtaw
