// Conversions to bfloat16 that AVX-512 BF16 and AMX share.
#pragma once

#include "loss/vector_avx512.hpp"

namespace mtaw {
namespace {

inline __m512i integers(__m512bh x) { return reinterpret_cast<__m512i>(x); }

// Words k of two vectors next to each other, for k = 0..15 and for k = 16..31; the second vector's words count from 32.
alignas(64) constexpr std::uint16_t kFront[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                  8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
alignas(64) constexpr std::uint16_t kBack[32] = {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                                 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};

// M items of exponentials, rounded to nearest even: a row of `kept` each, and pairs of items next to each other.
template <int M, int V>
inline void store_bf16_exps(const __m512 (&exps)[M][V], const ExpTile& tile, std::int64_t item) {
    if (tile.kept == nullptr) return;
    auto* kept = static_cast<std::uint16_t*>(tile.kept) + item * V * 16;
    auto* pairs = static_cast<std::uint16_t*>(tile.pairs) + item * V * 16;
    const __m512i front = _mm512_load_si512(kFront), back = _mm512_load_si512(kBack);
    MTAW_UNROLL
    for (int i = 0; i < M; i += 2) {
        MTAW_UNROLL
        for (int v = 0; v + 1 < V; v += 2) {
            const __m512i even = integers(_mm512_cvtne2ps_pbh(exps[i][v + 1], exps[i][v]));
            const __m512i odd = integers(_mm512_cvtne2ps_pbh(exps[i + 1][v + 1], exps[i + 1][v]));
            _mm512_storeu_si512(kept + (i * V + v) * 16, even);
            _mm512_storeu_si512(kept + ((i + 1) * V + v) * 16, odd);
            _mm512_storeu_si512(pairs + (i * V + 2 * v) * 16, _mm512_permutex2var_epi16(even, front, odd));
            _mm512_storeu_si512(pairs + (i * V + 2 * v + 2) * 16, _mm512_permutex2var_epi16(even, back, odd));
        }
        if constexpr (V % 2 == 1) {
            constexpr int v = V - 1;
            const auto even = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(exps[i][v]));
            const auto odd = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(exps[i + 1][v]));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(kept + (i * V + v) * 16), even);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(kept + ((i + 1) * V + v) * 16), odd);
            const __m512i both =
                _mm512_permutex2var_epi16(_mm512_castsi256_si512(even), front, _mm512_castsi256_si512(odd));
            _mm512_storeu_si512(pairs + (i * V + 2 * v) * 16, both);
        }
    }
}

// 16 floats from `from`, `mask` of them, times `factor`, as bfloat16 in the low halves of 16 integers.
inline __m512i scaled_bf16(const float* from, __mmask16 mask, __m512 factor) {
    const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, from), factor);
    return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
}

inline __m512 load_bf16(const std::uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

inline __mmask16 first_lanes(std::int64_t count) {
    if (count <= 0) return 0;
    return count >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1U << count) - 1U);
}

// Packs items `item` and `item + 1`: pack(k) stores dims k .. k + 15 of both as bfloat16 in the rows of by_item, and
// returns them interleaved.
class PairOfItems {
   public:
    template <typename Floats>
    void open(const PackItems& pack, std::int64_t item) {
        pack_ = &pack;
        item_ = item;
        for (int i = 0; i < 2; ++i) {
            const bool is_item = item + i < pack.valid;
            vectors_[i] = pack.items + (is_item ? (item + i) * pack.d : 0);
            d_[i] = is_item ? pack.d : 0;
            if (is_item) pack.inverse_norms[item + i] = inverse_norm<Floats>(vectors_[i], pack.d);
            inverse_[i] = _mm512_set1_ps(is_item ? pack.inverse_norms[item + i] : 0.0F);
        }
    }

    __m512i pack(std::int64_t k) const {
        __m512i half[2];
        for (int i = 0; i < 2; ++i) {
            half[i] = scaled_bf16(vectors_[i] + k, first_lanes(d_[i] - k), inverse_[i]);
            auto* row = static_cast<std::uint16_t*>(pack_->by_item) + (item_ + i) * pack_->width;
            _mm256_mask_storeu_epi16(row + k, first_lanes(pack_->width - k), _mm512_cvtepi32_epi16(half[i]));
        }
        return _mm512_or_si512(half[0], _mm512_slli_epi32(half[1], 16));
    }

   private:
    const PackItems* pack_ = nullptr;
    std::int64_t item_ = 0;
    const float* vectors_[2];
    __m512 inverse_[2];
    std::int64_t d_[2];
};

}  // namespace
}  // namespace mtaw
