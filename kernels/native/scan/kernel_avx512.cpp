#include "scan/kernel_avx512.hpp"

namespace mtaw {
namespace {

// Without VNNI: bytes widened to 16 bits, even and odd ones apart, so that each product of pairs is one item's.
struct Avx512 : Avx512Bounds {
    struct Line {
        __m512i even;
        __m512i odd;
    };
    using Words = Line;

    // Sum (c + 128) a = c.a + 128 sum a.
    static MTAW_INLINE Sums start(const ScanLane& lane) { return _mm512_set1_epi32(-128 * lane.code_sum); }
    static MTAW_INLINE Line load_line(const std::uint8_t* address) {
        const __m512i codes = _mm512_loadu_si512(address);
        return {_mm512_and_si512(codes, _mm512_set1_epi16(0xFF)), _mm512_srli_epi16(codes, 8)};
    }
    static MTAW_INLINE void load_halves(const std::uint8_t* address, Line& low, Line& high) {
        const __m512i halves = _mm512_loadu_si512(address);
        const __m512i mask = _mm512_set1_epi16(15);
        low = {_mm512_and_si512(halves, mask), _mm512_and_si512(_mm512_srli_epi16(halves, 8), mask)};
        high = {_mm512_and_si512(_mm512_srli_epi16(halves, 4), mask), _mm512_srli_epi16(halves, 12)};
    }
    static MTAW_INLINE Words load_words(const ScanLane& lane, std::int64_t line) {
        std::int32_t words[2];
        std::memcpy(words, lane.pairs + line * kLineDims, 8);
        return {_mm512_set1_epi32(words[0]), _mm512_set1_epi32(words[1])};
    }
    static MTAW_INLINE void add_products(Sums& sums, const Line& line, const Words& words) {
        sums = _mm512_add_epi32(sums, _mm512_madd_epi16(line.even, words.even));
        sums = _mm512_add_epi32(sums, _mm512_madd_epi16(line.odd, words.odd));
    }
};

}  // namespace

ScanKernels scan_kernels_avx512() {
    return {{scan<Avx512, 1, 1>, scan<Avx512, 2, 1>, scan<Avx512, 3, 1>},
            {scan_halves<Avx512, 1, 2>, scan_halves<Avx512, 2, 1>, scan_halves<Avx512, 3, 1>},
            scan<Avx512, 8, 1>,
            scan_halves<Avx512, 8, 1>,
            8,
            refine,
            join_columns};
}

}  // namespace mtaw
