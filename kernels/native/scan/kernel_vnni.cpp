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
    ScanLane local_lane = lanes[0];
    __m512i words[kLines];
    for (int line = 0; line < kLines; ++line) {
        words[line] = Vnni::load_words(local_lane, line);
        asm("" : "+v"(words[line]));  // hides where it came from, so that the compiler does not load it again
    }
    std::int64_t block = begin;
    for (bool full = false; block < end && !full; ++block) {
        const std::uint32_t item_mask = kAll ? kAllItems : allowed_items(bits, block);
        if (!kAll && item_mask == 0) continue;
        const std::uint8_t* address = catalog.whole_block(block);
        __m512i sums[2] = {Vnni::start(local_lane), Vnni::zero()};
#pragma GCC unroll 32
        for (int line = 0; line < kLines; ++line) {
            Vnni::add_products(sums[line % 2], Vnni::load_line(address + line * kLineBytes), words[line]);
        }
        const __m512i dots = Vnni::add(sums[0], sums[1]);
        const Vnni::Items items = Vnni::load_items(address + kLines * kLineBytes);
        const std::uint32_t passing = Vnni::above_cut(dots, items, local_lane) & item_mask;
        if (passing == 0) continue;
        append<Vnni>(dots, items, block, passing, local_lane);
        full = local_lane.count >= local_lane.limit;
    }
    lanes[0].count = local_lane.count;
    return block;
}

constexpr int kUsualLines = 25;  // d = 97..100, the paper's among them

std::int64_t scan_one(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end, const AllowedBits& allowed,
                      ScanLane* lanes) {
    if (blocks.lines != kUsualLines) return scan<Vnni, 1, 2>(blocks, begin, end, allowed, lanes);
    if (allowed.bits == nullptr) return scan_held<kUsualLines, true>(blocks, begin, end, allowed, lanes);
    return scan_held<kUsualLines, false>(blocks, begin, end, allowed, lanes);
}

constexpr int kManyLanes = 8;

// A pass for many lanes over two blocks at a time: each load of a lane's word serves two products. What is passed stays
// in the L2, so that two streams do no harm.
std::int64_t scan_many(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end, const AllowedBits& allowed,
                       ScanLane* lanes) {
    const std::int64_t next = (blocks.lines + 1) * kLineBytes;
    std::int64_t block = begin;
    while (block + 1 < end) {
        bool full = false;
        const std::uint8_t* address = blocks.whole_block(block);
        __m512i sums[2][kManyLanes];
        for (int q = 0; q < kManyLanes; ++q) sums[0][q] = sums[1][q] = Vnni::start(lanes[q]);
        for (std::int64_t line = 0; line < blocks.lines; ++line) {
            const __m512i first = Vnni::load_line(address + line * kLineBytes);
            const __m512i second = Vnni::load_line(address + next + line * kLineBytes);
            for (int q = 0; q < kManyLanes; ++q) {
                const __m512i words = Vnni::load_words(lanes[q], line);
                Vnni::add_products(sums[0][q], first, words);
                Vnni::add_products(sums[1][q], second, words);
            }
        }
        for (int b = 0; b < 2 && !full; ++b, ++block) {
            const Vnni::Items items = Vnni::load_items(address + b * next + blocks.lines * kLineBytes);
            const std::uint32_t item_mask = allowed.bits == nullptr ? kAllItems : allowed_items(allowed, block);
            for (int q = 0; q < kManyLanes; ++q) {
                const std::uint32_t passing = Vnni::above_cut(sums[b][q], items, lanes[q]) & item_mask;
                if (passing == 0) continue;
                append<Vnni>(sums[b][q], items, block, passing, lanes[q]);
                full |= lanes[q].count >= lanes[q].limit;
            }
        }
        if (full) return block;
    }
    return block < end ? scan<Vnni, kManyLanes, 1>(blocks, block, end, allowed, lanes) : block;
}

// Sum l a of a record, 64 bytes at a time.
void refine_vnni(const ScanBlocks& catalog, std::int64_t begin, ScanLane& lane) {
    const std::int64_t n_bytes = catalog.half_lines * kLineDims;
    refine_entries(catalog, begin, lane, [n_bytes](const std::uint8_t* record, const ScanLane& local_lane) {
        __m512i sums = _mm512_setzero_si512();
        for (std::int64_t at = 0; at < n_bytes; at += kLineBytes) {
            const std::int64_t left = n_bytes - at;
            const __mmask64 there = left < kLineBytes ? (1ULL << left) - 1 : ~0ULL;
            const __m512i both = _mm512_maskz_loadu_epi8(there, record + at);
            const __m512i low = _mm512_and_si512(both, _mm512_set1_epi8(15));
            const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
            sums = _mm512_dpbusd_epi32(sums, low, _mm512_maskz_loadu_epi8(there, local_lane.low_codes + at));
            sums = _mm512_dpbusd_epi32(sums, high, _mm512_maskz_loadu_epi8(there, local_lane.low_codes + n_bytes + at));
        }
        return _mm512_reduce_add_epi32(sums);
    });
}

}  // namespace

ScanKernels scan_kernels_vnni() {
    return {{scan_one, scan<Vnni, 2, 2>, scan<Vnni, 3, 2>},
            {scan_halves<Vnni, 1, 2>, scan_halves<Vnni, 2, 2>, scan_halves<Vnni, 3, 1>},
            scan_many,
            scan_halves<Vnni, kManyLanes, 1>,
            kManyLanes,
            refine_vnni,
            join_columns};
}

}  // namespace mtaw
