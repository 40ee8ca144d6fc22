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
    static MTAW_INLINE Sums add(const Sums& a, const Sums& b) { return _mm512_add_epi32(a, b); }
    static MTAW_INLINE Sums double_plus(const Sums& sums, std::int32_t bias) {
        return _mm512_add_epi32(_mm512_add_epi32(sums, sums), _mm512_set1_epi32(bias));
    }
    static MTAW_INLINE Items load_items(const std::uint8_t* address) {
        const __m512i words = _mm512_loadu_si512(address);
        return {_mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U)))),
                _mm512_castsi512_ps(_mm512_slli_epi32(words, 16))};
    }
    static MTAW_INLINE std::uint32_t above_cut(const Sums& sums, const Items& items, const ScanLane& lane) {
        const __m512 spread = _mm512_mul_ps(_mm512_set1_ps(lane.spread), items.residuals);
        const __m512 upper = _mm512_fmadd_ps(items.steps, _mm512_cvtepi32_ps(sums), spread);
        return _cvtmask16_u32(_mm512_cmp_ps_mask(upper, _mm512_set1_ps(lane.cut), _CMP_GT_OQ));
    }
    static MTAW_INLINE void store_bounds(const Sums& sums, const Items& items, const ScanLane& lane, std::uint32_t mask,
                                         std::int32_t first, float* upper, float* lower, std::int32_t* ids) {
        const __m512 spread = _mm512_mul_ps(_mm512_set1_ps(lane.spread), items.residuals);
        const __m512 dots = _mm512_cvtepi32_ps(sums);
        const __m512i iota = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __mmask16 kept = _cvtu32_mask16(mask);
        // Packed in registers and stored whole: a packing store takes a hundred cycles on Zen 4.
        _mm512_storeu_ps(upper, _mm512_maskz_compress_ps(kept, _mm512_fmadd_ps(items.steps, dots, spread)));
        _mm512_storeu_ps(lower, _mm512_maskz_compress_ps(kept, _mm512_fmsub_ps(items.steps, dots, spread)));
        _mm512_storeu_si512(ids, _mm512_maskz_compress_epi32(kept, _mm512_add_epi32(iota, _mm512_set1_epi32(first))));
    }
};

// Dwords column .. column + 3 of 16 records that are `stride` bytes apart: a register each, of the 16 items in turn.
MTAW_INLINE void load_columns(const std::uint8_t* records, std::int64_t stride, __m512i columns[4]) {
    __m512i rows[4];  // items r, 4 + r, 8 + r and 12 + r
    for (std::int64_t r = 0; r < 4; ++r) {
        const auto part = [&](std::int64_t item) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(records + item * stride));
        };
        rows[r] = _mm512_castsi128_si512(part(r));
        rows[r] = _mm512_inserti32x4(rows[r], part(4 + r), 1);
        rows[r] = _mm512_inserti32x4(rows[r], part(8 + r), 2);
        rows[r] = _mm512_inserti32x4(rows[r], part(12 + r), 3);
    }
    const __m512i low01 = _mm512_unpacklo_epi32(rows[0], rows[1]), low23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
    const __m512i high01 = _mm512_unpackhi_epi32(rows[0], rows[1]), high23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
    columns[0] = _mm512_unpacklo_epi64(low01, low23);
    columns[1] = _mm512_unpackhi_epi64(low01, low23);
    columns[2] = _mm512_unpacklo_epi64(high01, high23);
    columns[3] = _mm512_unpackhi_epi64(high01, high23);
}

// As join_codes, four columns of a block's records at a time.
[[maybe_unused]] void join_columns(const std::uint8_t* half_blocks, const std::uint8_t* low_blocks,
                                   std::int64_t n_blocks, std::int64_t d, std::uint8_t* blocks) {
    constexpr std::int64_t kAhead = 4;           // blocks
    constexpr int kColumns = 4, kSelect = 0xCA;  // of each bit, the second operand's where the first is set
    const std::int64_t lines = code_lines(d), n_columns = half_lines(d) + 1, stride = low_bytes(d);
    if (n_columns < kColumns) return join_codes(half_blocks, low_blocks, n_blocks, d, blocks);
    const __m512i high_half = _mm512_set1_epi8(static_cast<char>(0xF0));
    for (std::int64_t b = 0; b < n_blocks; ++b) {
        const std::uint8_t* const half = half_blocks + b * half_block_bytes(d);
        const std::uint8_t* const low = low_blocks + b * half_block_bytes(d);
        std::uint8_t* const block = blocks + b * block_bytes(d);
        // Two streams, and much arithmetic between the loads: without this, blocks that come from L3 take a third
        // longer.
        for (std::int64_t j = 0; j < n_columns; ++j) {
            MTAW_PREFETCH(half + kAhead * half_block_bytes(d) + j * kLineBytes);
            MTAW_PREFETCH(low + kAhead * half_block_bytes(d) + j * kLineBytes);
        }
        for (std::int64_t next = 0; next < n_columns; next += kColumns) {
            const std::int64_t first = next + kColumns <= n_columns ? next : n_columns - kColumns;
            __m512i columns[kColumns];
            load_columns(low + first * kLineDims, stride, columns);
            for (std::int64_t c = 0; c < kColumns; ++c) {
                const std::int64_t j = first + c;
                std::uint8_t* const to = block + 2 * j * kLineBytes;
                if (j == n_columns - 1) {
                    _mm512_storeu_si512(block + lines * kLineBytes, columns[c]);
                    continue;
                }
                const __m512i high = _mm512_loadu_si512(half + j * kLineBytes);
                const __m512i even =
                    _mm512_ternarylogic_epi32(high_half, _mm512_slli_epi16(high, 4), columns[c], kSelect);
                const __m512i odd =
                    _mm512_ternarylogic_epi32(high_half, high, _mm512_srli_epi16(columns[c], 4), kSelect);
                _mm512_storeu_si512(to, even);
                if (2 * j + 1 < lines) _mm512_storeu_si512(to + kLineBytes, odd);
            }
        }
    }
}

}  // namespace
}  // namespace mtaw
