#include <immintrin.h>

#include "scan/kernel_avx512.hpp"

namespace mtaw {
namespace {

struct Vnni : Avx512Bounds {
    using Line = __m512i;
    using Words = __m512i;

    // Sum (c + 128) a = c.a + 128 sum a.
    static MTAW_INLINE Sums start(const ScanLane& lane) { return _mm512_set1_epi32(-128 * lane.code_sum); }
    static MTAW_INLINE Line load_line(const std::uint8_t* address) { return _mm512_loadu_si512(address); }
    static MTAW_INLINE void load_halves(const std::uint8_t* address, Line& low, Line& high) {
        const __m512i halves = _mm512_loadu_si512(address);
        low = _mm512_and_si512(halves, _mm512_set1_epi8(15));
        high = _mm512_and_si512(_mm512_srli_epi16(halves, 4), _mm512_set1_epi8(15));
    }
    static MTAW_INLINE Words load_words(const ScanLane& lane, std::int64_t line) {
        std::int32_t word;
        std::memcpy(&word, lane.codes + line * kLineDims, 4);
        return _mm512_set1_epi32(word);
    }
    static MTAW_INLINE void add_products(Sums& sums, const Line& line, const Words& words) {
        sums = _mm512_dpbusd_epi32(sums, line, words);
    }
};

}  // namespace

ScanKernels scan_kernels_vnni() {
    return {{scan<Vnni, 1, 2>, scan<Vnni, 2, 2>, scan<Vnni, 3, 2>},
            {scan_halves<Vnni, 1, 2>, scan_halves<Vnni, 2, 2>, scan_halves<Vnni, 3, 1>},
            scan<Vnni, 8, 1>,
            8};
}

}  // namespace mtaw
