#include <immintrin.h>

#include "scan/kernel_body.hpp"

namespace mtaw {
namespace {

// A block is two registers of 8 items. Bytes are widened to 16 bits, even and odd ones apart, so that each product of
// pairs is one item's.
struct Avx2 {
    static constexpr bool kPackAlways = false;

    struct Sums {
        __m256i half[2];
    };
    struct Line {
        __m256i even[2];
        __m256i odd[2];
    };
    struct Words {
        __m256i even;
        __m256i odd;
    };
    struct Items {
        __m256 steps[2];
        __m256 residuals[2];
    };

    // Sum (c + 128) a = c.a + 128 sum a.
    static MTAW_INLINE Sums start(const ScanLane& lane) {
        const __m256i bias = _mm256_set1_epi32(-128 * lane.code_sum);
        return {{bias, bias}};
    }
    static MTAW_INLINE Line load_line(const std::uint8_t* address) {
        Line line;
        for (int h = 0; h < 2; ++h) {
            const __m256i codes = load(address + 32 * h);
            line.even[h] = _mm256_and_si256(codes, _mm256_set1_epi16(0xFF));
            line.odd[h] = _mm256_srli_epi16(codes, 8);
        }
        return line;
    }
    static MTAW_INLINE void load_halves(const std::uint8_t* address, Line& low, Line& high) {
        const __m256i mask = _mm256_set1_epi16(15);
        for (int h = 0; h < 2; ++h) {
            const __m256i halves = load(address + 32 * h);
            low.even[h] = _mm256_and_si256(halves, mask);
            low.odd[h] = _mm256_and_si256(_mm256_srli_epi16(halves, 8), mask);
            high.even[h] = _mm256_and_si256(_mm256_srli_epi16(halves, 4), mask);
            high.odd[h] = _mm256_srli_epi16(halves, 12);
        }
    }
    static MTAW_INLINE Words load_words(const ScanLane& lane, std::int64_t line) {
        std::int32_t words[2];
        std::memcpy(words, lane.pairs + line * kLineDims, 8);
        return {_mm256_set1_epi32(words[0]), _mm256_set1_epi32(words[1])};
    }
    static MTAW_INLINE void add_products(Sums& sums, const Line& line, const Words& words) {
        for (int h = 0; h < 2; ++h) {
            sums.half[h] = _mm256_add_epi32(sums.half[h], _mm256_madd_epi16(line.even[h], words.even));
            sums.half[h] = _mm256_add_epi32(sums.half[h], _mm256_madd_epi16(line.odd[h], words.odd));
        }
    }
    static MTAW_INLINE Sums zero() { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
    static MTAW_INLINE Sums add(const Sums& a, const Sums& b) {
        return {{_mm256_add_epi32(a.half[0], b.half[0]), _mm256_add_epi32(a.half[1], b.half[1])}};
    }
    static MTAW_INLINE Sums double_plus(const Sums& sums, std::int32_t bias) {
        const __m256i biases = _mm256_set1_epi32(bias);
        return add(add(sums, sums), {{biases, biases}});
    }
    static MTAW_INLINE Items load_items(const std::uint8_t* address) {
        Items items;
        for (int h = 0; h < 2; ++h) {
            const __m256i words = load(address + 32 * h);
            const __m256i high = _mm256_set1_epi32(static_cast<int>(0xFFFF0000U));
            items.steps[h] = _mm256_castsi256_ps(_mm256_and_si256(words, high));
            items.residuals[h] = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
        }
        return items;
    }
    static MTAW_INLINE std::uint32_t above_cut(const Sums& sums, const Items& items, const ScanLane& lane) {
        std::uint32_t mask = 0;
        for (int h = 0; h < 2; ++h) {
            const __m256 spread = _mm256_mul_ps(_mm256_set1_ps(lane.spread), items.residuals[h]);
            const __m256 upper = _mm256_fmadd_ps(items.steps[h], _mm256_cvtepi32_ps(sums.half[h]), spread);
            const __m256 over = _mm256_cmp_ps(upper, _mm256_set1_ps(lane.cut), _CMP_GT_OQ);
            mask |= static_cast<std::uint32_t>(_mm256_movemask_ps(over)) << (8 * h);
        }
        return mask;
    }
    static MTAW_INLINE void store_bounds(const Sums& sums, const Items& items, const ScanLane& lane, std::uint32_t mask,
                                         std::int32_t first, float* upper, float* lower, std::int32_t* ids) {
        for (int h = 0; h < 2; ++h) {
            const __m256 spread = _mm256_mul_ps(_mm256_set1_ps(lane.spread), items.residuals[h]);
            const __m256 dots = _mm256_cvtepi32_ps(sums.half[h]);
            _mm256_storeu_ps(upper + 8 * h, _mm256_fmadd_ps(items.steps[h], dots, spread));
            _mm256_storeu_ps(lower + 8 * h, _mm256_fmsub_ps(items.steps[h], dots, spread));
        }
        pack(mask, first, upper, lower, ids);
    }

   private:
    static MTAW_INLINE __m256i load(const std::uint8_t* address) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(address));
    }
};

}  // namespace

ScanKernels scan_kernels_avx2() {
    return {{scan<Avx2, 1, 1>, scan<Avx2, 2, 1>, scan<Avx2, 3, 1>},
            {scan_halves<Avx2, 1, 2>, scan_halves<Avx2, 2, 1>, scan_halves<Avx2, 3, 1>},
            scan<Avx2, 4, 1>,
            scan_halves<Avx2, 4, 1>,
            4,
            refine};
}

}  // namespace mtaw
