#include <immintrin.h>

#include "score/score_tiles.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kRows = 8;   // items a register of float64
constexpr std::int64_t kTiles = 2;  // registers at once: an addition takes four cycles, another may start meanwhile

// Eight dimensions of eight rows, turned so that register i holds dimension i of each row. `mask`: which of the eight
// there are.
inline void load_turned(const float* const* rows, std::int64_t begin, __mmask8 mask, __m256* turned) {
    __m256 row[kRows], low[kRows], quad[kRows];
    for (int r = 0; r < kRows; ++r) row[r] = _mm256_maskz_loadu_ps(mask, rows[r] + begin);
    for (int r = 0; r < kRows; r += 2) {
        low[r] = _mm256_unpacklo_ps(row[r], row[r + 1]);
        low[r + 1] = _mm256_unpackhi_ps(row[r], row[r + 1]);
    }
    for (int r = 0; r < kRows; r += 4) {
        quad[r] = _mm256_shuffle_ps(low[r], low[r + 2], 0x44);
        quad[r + 1] = _mm256_shuffle_ps(low[r], low[r + 2], 0xEE);
        quad[r + 2] = _mm256_shuffle_ps(low[r + 1], low[r + 3], 0x44);
        quad[r + 3] = _mm256_shuffle_ps(low[r + 1], low[r + 3], 0xEE);
    }
    for (int r = 0; r < 4; ++r) {
        turned[r] = _mm256_permute2f128_ps(quad[r], quad[r + 4], 0x20);
        turned[r + 4] = _mm256_permute2f128_ps(quad[r], quad[r + 4], 0x31);
    }
}

// Dimensions begin .. begin + kWide of the tiles' rows, in order, onto their sums.
template <int kWide>
inline void add_dimensions(const float* query, const float* const* rows, std::int64_t begin, __m512d* sums) {
    constexpr auto kMask = static_cast<__mmask8>((1U << kWide) - 1);
    __m256 turned[kTiles][8];
    for (int t = 0; t < kTiles; ++t) load_turned(rows + t * kRows, begin, kMask, turned[t]);
    for (int i = 0; i < kWide; ++i) {
        const __m512d q = _mm512_set1_pd(static_cast<double>(query[begin + i]));
        for (int t = 0; t < kTiles; ++t) sums[t] = _mm512_fmadd_pd(q, _mm512_cvtps_pd(turned[t][i]), sums[t]);
    }
}

}  // namespace

void score_items_avx512(const float* query, const float* catalog, std::int64_t d, double scale, Scored* items,
                        std::int64_t count) {
    for (std::int64_t done = 0; done < count; done += kRows * kTiles) {
        const float* rows[kRows * kTiles];
        for (std::int64_t r = 0; r < kRows * kTiles; ++r) {
            // The lanes past the end repeat the first row; their sums are not used.
            rows[r] = catalog + items[done + r < count ? done + r : done].id * d;
        }
        __m512d sums[kTiles] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
        std::int64_t begin = 0;
        for (; begin + 8 <= d; begin += 8) add_dimensions<8>(query, rows, begin, sums);
        if (begin + 4 <= d) {
            add_dimensions<4>(query, rows, begin, sums);
            begin += 4;
        }
        for (; begin < d; ++begin) add_dimensions<1>(query, rows, begin, sums);
        float scores[kRows * kTiles];
        for (int t = 0; t < kTiles; ++t) {
            const __m512d scaled = _mm512_mul_pd(_mm512_set1_pd(scale), sums[t]);
            _mm256_storeu_ps(scores + t * kRows, _mm512_cvtpd_ps(scaled));
        }
        for (std::int64_t r = 0; r < kRows * kTiles && done + r < count; ++r) items[done + r].score = scores[r];
    }
}

void count_larger_avx512(const std::uint64_t* keys, std::int64_t count, std::int64_t* ranks) {
    for (std::int64_t i = 0; i < count; i += 8) {
        const __m512i own_keys = _mm512_load_si512(keys + i), one = _mm512_set1_epi64(1);
        __m512i larger = _mm512_setzero_si512();
        for (std::int64_t j = 0; j < count; ++j) {
            const __m512i other = _mm512_set1_epi64(static_cast<long long>(keys[j]));
            larger = _mm512_mask_add_epi64(larger, _mm512_cmpgt_epu64_mask(other, own_keys), larger, one);
        }
        _mm512_storeu_si512(ranks + i, larger);
    }
}

}  // namespace mtaw
