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

// A pass for one lane over catalogs of kLines lines, few enough that the lane's words stay in registers: from memory
// each would take a load of its own next to that of the codes. What passes the threshold is rare enough for a branch
// here.
template <int kLines, bool kAll>
MTAW_INLINE std::int64_t scan_held(const ScanBlocks& catalog, std::int64_t begin, std::int64_t end,
                                   const AllowedBits& allowed, ScanLane* lanes) {
    const AllowedBits bits = allowed;
    ScanLane own = lanes[0];
    __m512i words[kLines];
    for (int line = 0; line < kLines; ++line) {
        words[line] = Vnni::load_words(own, line);
        asm("" : "+v"(words[line]));  // hides where it came from, so that the compiler does not load it again
    }
    std::int64_t block = begin;
    for (bool full = false; block < end && !full; ++block) {
        const std::uint32_t open = kAll ? kAllItems : allowed_items(bits, block);
        if (!kAll && open == 0) continue;
        const std::uint8_t* address = catalog.blocks + block * (kLines + 1) * kLineBytes;
        __m512i sums[2] = {Vnni::start(own), Vnni::zero()};
#pragma GCC unroll 32
        for (int line = 0; line < kLines; ++line) {
            Vnni::add_products(sums[line % 2], Vnni::load_line(address + line * kLineBytes), words[line]);
        }
        const __m512i dots = Vnni::added(sums[0], sums[1]);
        const Vnni::Items items = Vnni::load_items(address + kLines * kLineBytes);
        const std::uint32_t found = Vnni::over(dots, items, own) & open;
        if (found == 0) continue;
        append<Vnni>(dots, items, block, found, own);
        full = own.count >= own.limit;
    }
    lanes[0].count = own.count;
    return block;
}

constexpr int kUsualLines = 25;  // d = 97..100, the paper's among them

std::int64_t scan_one(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end, const AllowedBits& allowed,
                      ScanLane* lanes) {
    if (blocks.lines != kUsualLines) return scan<Vnni, 1, 2>(blocks, begin, end, allowed, lanes);
    if (allowed.bits == nullptr) return scan_held<kUsualLines, true>(blocks, begin, end, allowed, lanes);
    return scan_held<kUsualLines, false>(blocks, begin, end, allowed, lanes);
}

}  // namespace

ScanKernels scan_kernels_vnni() {
    return {{scan_one, scan<Vnni, 2, 2>, scan<Vnni, 3, 2>},
            {scan_halves<Vnni, 1, 2>, scan_halves<Vnni, 2, 2>, scan_halves<Vnni, 3, 1>},
            scan<Vnni, 8, 1>,
            8};
}

}  // namespace mtaw
