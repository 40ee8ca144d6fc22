#include <immintrin.h>

#include "scan/kernel_avx512.hpp"

namespace mtaw {
namespace {

// 32 queries at once, in two groups of 16. A block's lines are the rows of tiles as they are in memory, 16 lines a
// tile, except the last ones, the tail.
//
// An item passes a lane where step * D + spread * residual > cut: D > cut / step - spread * residual / step. The tail's
// free lines hold u = scale / step, and the lane's codes for them add up to -A with A = cut / scale, so the tiles give
//     D - A u + spread * (the largest residual in steps)
// in one product: an item with a negative sum does not pass, and hardly any other sum is 0 or more. The exact bounds of
// those decide. Everything is rounded so that no item is lost: kRoundDown and kRoundUp exceed the bounds' roundings.
constexpr int kGroup = 16;
constexpr int kWidth = 2 * kGroup;
constexpr std::int64_t kTileLines = 16;
constexpr std::int64_t kTileDims = kTileLines * kLineDims;
constexpr std::int64_t kMaxTailTiles = 2;
constexpr std::int64_t kLargestCode = 127;
constexpr float kRoundUp = 1 + 0x1p-18F, kRoundDown = 1 - 0x1p-18F;
constexpr std::int32_t kBeyondAnySum = 1 << 30;  // more than any sum

// Where a block's lines are. tiles: whole ones in the block; then so many of the tail.
struct TileShape {
    std::int64_t whole;
    std::int64_t tail_lines;  // of the block's, in the tail
    std::int64_t tail_tiles;

    explicit TileShape(std::int64_t lines) : whole(lines / kTileLines), tail_lines(lines % kTileLines), tail_tiles(1) {
        // A line holds a cut of up to 4 * 127 times some 200; D grows by some 2000 a dimension, 8000 a line.
        if (kTileLines - tail_lines < 1 + lines / 10) tail_tiles = kMaxTailTiles;
    }
    std::int64_t cut_lines() const { return tail_tiles * kTileLines - tail_lines; }
};

struct alignas(64) TileConfig {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
};

void configure_tiles() {
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile) {
        config.rows[tile] = kGroup;
        config.row_bytes[tile] = kLineBytes;
    }
    _tile_loadconfig(&config);
}

struct Sums32 {
    alignas(64) std::int32_t values[kWidth][kBlockItems];
};

MTAW_INLINE __mmask64 first_bytes(std::int32_t count) {
    if (count <= 0) return 0;
    return count < 64 ? (1ULL << count) - 1 : ~0ULL;
}

// The lanes' codes and what their sums begin with.
struct Lanes32 {
    const std::int8_t* first;  // the first lane's codes for whole tiles
    std::int64_t stride;       // to the next lane's
    alignas(64) std::int8_t tails[kWidth][kMaxTailTiles * kTileDims];
    Sums32 start;
    std::int32_t cuts[kWidth];  // A

    Lanes32(const ScanLane* lanes, const TileShape& shape, const BlockTails& block_tails)
        : first(lanes[0].codes), stride(lanes[1].codes - lanes[0].codes) {
        const float cut_dims = static_cast<float>(shape.cut_lines() * kLineDims);
        for (int q = 0; q < kWidth; ++q) {
            const ScanLane& lane = lanes[q];
            std::int32_t begin = -128 * lane.code_sum;  // Sum (c + 128) a = c.a + 128 sum a
            cuts[q] = 0;
            if (!(lane.cut > 0)) {
                begin += kBeyondAnySum;
            } else if (!(lane.cut < __builtin_inff())) {
                begin -= kBeyondAnySum;
            } else {
                const float wanted = kRoundDown * lane.cut / block_tails.scale, most = kLargestCode * cut_dims;
                cuts[q] = static_cast<std::int32_t>(wanted < most ? wanted : most);
                begin += static_cast<std::int32_t>(kRoundUp * lane.spread * block_tails.residual) + 2;
            }
            _mm512_store_si512(start.values[q], _mm512_set1_epi32(begin));
            set_tail(q, lane.codes + shape.whole * kTileDims, shape);
        }
    }

    const std::int8_t* tile(int group, std::int64_t tile) const {
        return first + group * kGroup * stride + tile * kTileDims;
    }
    const std::int8_t* tail(int group, std::int64_t tile) const { return tails[group * kGroup] + tile * kTileDims; }
    static constexpr std::int64_t kTailStride = kMaxTailTiles * kTileDims;

   private:
    // A lane's codes for the tail, and those that add up to -A.
    MTAW_INLINE void set_tail(int q, const std::int8_t* codes, const TileShape& shape) {
        const auto n_tail_codes = static_cast<std::int32_t>(shape.tail_lines * kLineDims);
        const auto free = static_cast<std::int32_t>(shape.cut_lines() * kLineDims);
        const std::int32_t quotient = cuts[q] / free, remainder = cuts[q] % free;
        const __m512i bytes = _mm512_maskz_loadu_epi8(first_bytes(n_tail_codes), codes);
        const __m512i less = _mm512_set1_epi8(static_cast<char>(-quotient));
        const __m512i least = _mm512_set1_epi8(static_cast<char>(-quotient - 1));
        for (int tile = 0, begin = n_tail_codes; tile < shape.tail_tiles; ++tile, begin -= kTileDims) {
            // The first free codes hold the remainder.
            const __m512i free_codes = _mm512_mask_blend_epi8(first_bytes(begin + remainder), less, least);
            const __m512i all = _mm512_mask_blend_epi8(first_bytes(begin), free_codes, bytes);
            _mm512_store_si512(tails[q] + tile * kTileDims, all);
        }
    }
};

// Tiles 0, 1: the sums of both groups. 2, 3: lines of the block. 4, 5: the groups' codes for tile 2, 6, 7: for tile 3,
// the last of the tail. kHeld: a block has two tiles, and tiles 4 to 7 stay.
template <bool kHeld>
struct Product {
    const Lanes32& lanes;
    const TileShape shape;

    MTAW_INLINE void load_codes() const {
        __asm__ volatile("" : : : "memory");  // GCC does not know that loading a tile reads memory
        if (kHeld) load_codes_of(0);
        _tile_loadd(6, lanes.tail(0, shape.tail_tiles - 1), Lanes32::kTailStride);
        _tile_loadd(7, lanes.tail(1, shape.tail_tiles - 1), Lanes32::kTailStride);
    }

    // The sums of one block for all lanes, to tiles 0 and 1.
    MTAW_INLINE void multiply(const std::uint8_t* block, const CodeTile* tail) const {
        _tile_loadd(0, lanes.start.values[0], kLineBytes);
        _tile_loadd(1, lanes.start.values[kGroup], kLineBytes);
        const std::int64_t others = kHeld ? 1 : shape.whole + shape.tail_tiles - 1;
        for (std::int64_t t = 0; t < others; ++t) {
            _tile_loadd(2, t < shape.whole ? block + t * kTileLines * kLineBytes : tail[t - shape.whole].lines[0],
                        kLineBytes);
            if (!kHeld) load_codes_of(t);
            _tile_dpbsud(0, 4, 2);
            _tile_dpbsud(1, 5, 2);
        }
        _tile_loadd(3, tail[shape.tail_tiles - 1].lines[0], kLineBytes);
        _tile_dpbsud(0, 6, 3);
        _tile_dpbsud(1, 7, 3);
    }

    static MTAW_INLINE void store(Sums32* sums) {
        _tile_stored(0, sums->values[0], kLineBytes);
        _tile_stored(1, sums->values[kGroup], kLineBytes);
    }

   private:
    MTAW_INLINE void load_codes_of(std::int64_t t) const {
        const bool in_tail = t >= shape.whole;
        const std::int64_t stride = in_tail ? Lanes32::kTailStride : lanes.stride;
        _tile_loadd(4, in_tail ? lanes.tail(0, t - shape.whole) : lanes.tile(0, t), stride);
        _tile_loadd(5, in_tail ? lanes.tail(1, t - shape.whole) : lanes.tile(1, t), stride);
    }
};

const std::uint8_t* words_of(const ScanBlocks& blocks, std::int64_t block) {
    return blocks.whole_block(block) + blocks.lines * kLineBytes;
}

// A scale that suits the steps of blocks begin .. end: any is right. Steps that are far below the others count as more;
// their items pass more often than they need to.
float cut_scale(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t kSamples = 16;
    __m512 least = _mm512_set1_ps(__builtin_inff()), total = _mm512_setzero_ps(), count = total;
    for (std::int64_t block = begin; block < end && block < begin + kSamples; ++block) {
        const __m512 steps = Avx512Bounds::load_items(words_of(blocks, block)).steps;
        const __mmask16 has_item = _mm512_cmp_ps_mask(steps, _mm512_setzero_ps(), _CMP_GT_OQ);
        least = _mm512_mask_min_ps(least, has_item, least, steps);
        total = _mm512_add_ps(total, steps);
        count = _mm512_mask_add_ps(count, has_item, count, _mm512_set1_ps(1));
    }
    const float half_mean = _mm512_reduce_add_ps(total) / _mm512_reduce_add_ps(count) / 2;
    const float lowest = _mm512_reduce_min_ps(least);
    return 255 * (lowest > half_mean ? lowest : half_mean);
}

void make_tails(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end, BlockTails* tails) {
    const TileShape shape(blocks.lines);
    tails->scale = cut_scale(blocks, begin, end);
    tails->first_block = begin;
    const std::size_t n_tiles = static_cast<std::size_t>((end - begin) * shape.tail_tiles);
    if (tails->tiles.size() < n_tiles) tails->tiles.resize(n_tiles);
    const __m512 scale = _mm512_set1_ps(kRoundDown * tails->scale);
    __m512 residual = _mm512_setzero_ps();
    for (std::int64_t block = begin; block < end; ++block) {
        const std::uint8_t* words = words_of(blocks, block);
        std::uint8_t* tile = tails->tiles.data()[(block - begin) * shape.tail_tiles].lines[0];
        for (std::int64_t line = 0; line < shape.tail_lines; ++line) {
            const std::uint8_t* from = words + (line - shape.tail_lines) * kLineBytes;
            _mm512_store_si512(tile + line * kLineBytes, _mm512_loadu_si512(from));
        }
        const Avx512Bounds::Items items = Avx512Bounds::load_items(words);
        const __mmask16 has_item = _mm512_cmp_ps_mask(items.steps, _mm512_setzero_ps(), _CMP_GT_OQ);
        residual = _mm512_mask_max_ps(residual, has_item, residual, _mm512_div_ps(items.residuals, items.steps));
        const __m512 quotients = _mm512_min_ps(_mm512_div_ps(scale, items.steps), _mm512_set1_ps(255));
        const __m512i cut_line = _mm512_mullo_epi32(_mm512_cvttps_epi32(quotients), _mm512_set1_epi32(0x01010101));
        for (std::int64_t line = shape.tail_lines; line < shape.tail_tiles * kTileLines; ++line) {
            _mm512_store_si512(tile + line * kLineBytes, cut_line);
        }
    }
    tails->residual = kRoundUp * _mm512_reduce_max_ps(residual);
}

// A block whose sums are there and not yet looked at.
struct PendingBlock {
    std::int64_t block = 0;
    std::uint32_t item_mask = 0;  // which of its items may be found; none: no block waits
    const Sums32* sums = nullptr;
    const CodeTile* tail = nullptr;
};

// Appends a block's items to the lanes that they pass. Returns whether a lane reached its limit.
MTAW_INLINE bool append_passing(const ScanBlocks& blocks, const TileShape& shape, const PendingBlock& pending,
                                const Lanes32& coded, ScanLane* lanes) {
    constexpr int kTogether = 16;  // lanes
    bool full = false;
    for (int first = 0; first < kWidth; first += kTogether) {
        __m512i all = _mm512_load_si512(pending.sums->values[first]);
        for (int q = first + 1; q < first + kTogether; ++q) {
            all = _mm512_and_si512(all, _mm512_load_si512(pending.sums->values[q]));
        }
        if (_cvtmask16_u32(_mm512_movepi32_mask(all)) == kAllItems) continue;  // all are negative
        const Avx512Bounds::Items items = Avx512Bounds::load_items(words_of(blocks, pending.block));
        const __m512i cut_bytes = _mm512_and_si512(
            _mm512_load_si512(pending.tail[shape.tail_tiles - 1].lines[kTileLines - 1]), _mm512_set1_epi32(255));
        std::uint32_t passing_lanes = 0;
        for (int q = 0; q < kTogether; ++q) {
            const __mmask16 under = _mm512_movepi32_mask(_mm512_load_si512(pending.sums->values[first + q]));
            passing_lanes |= (_cvtmask16_u32(under) != kAllItems ? 1U : 0U) << q;
        }
        for (; passing_lanes != 0; passing_lanes &= passing_lanes - 1) {
            const int q = first + std::countr_zero(passing_lanes);
            ScanLane& lane = lanes[q];
            const __m512i sums = _mm512_load_si512(pending.sums->values[q]);
            const __m512i cuts = _mm512_mullo_epi32(cut_bytes, _mm512_set1_epi32(coded.cuts[q]));
            const __m512i offset = _mm512_set1_epi32(coded.start.values[q][0] + 128 * lane.code_sum);
            const __m512i dots = _mm512_add_epi32(_mm512_sub_epi32(sums, offset), cuts);
            const std::uint32_t passing = Avx512Bounds::above_cut(dots, items, lane) & pending.item_mask;
            append<Avx512Bounds>(dots, items, pending.block, passing, lane);
            full |= lane.count >= lane.limit;
        }
    }
    return full;
}

template <bool kHeld>
std::int64_t scan_tiles(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end, const AllowedBits& allowed,
                        const TileShape& shape, ScanLane* lanes) {
    const Lanes32 coded(lanes, shape, *blocks.tails);
    const Product<kHeld> product{coded, shape};
    configure_tiles();
    product.load_codes();
    // While the tiles multiply a block, the sums of the one before are looked at.
    Sums32 sums[2];
    PendingBlock pending;
    const std::int64_t next_lines = blocks.next_lines;
    const std::uint8_t* next_line = blocks.next + (begin - blocks.tails->first_block) * next_lines * kLineBytes;
    bool full = false;
    for (std::int64_t block = begin; block < end && !full; ++block) {
        const std::uint32_t item_mask = allowed.bits == nullptr ? kAllItems : allowed_items(allowed, block);
        if (item_mask == 0) continue;
        const std::uint8_t* address = blocks.whole_block(block);
        const CodeTile* tail = blocks.tails->tiles.data() + (block - blocks.tails->first_block) * shape.tail_tiles;
        Sums32* const block_sums = pending.sums == &sums[0] ? &sums[1] : &sums[0];
        for (std::int64_t line = 0; line < next_lines; ++line) MTAW_PREFETCH_L2(next_line + line * kLineBytes);
        next_line += next_lines * kLineBytes;
        product.multiply(address, tail);
        if (pending.item_mask != 0) full = append_passing(blocks, shape, pending, coded, lanes);
        product.store(block_sums);
        pending = {block, item_mask, block_sums, tail};
    }
    _tile_release();
    if (full) return pending.block;
    if (pending.item_mask != 0) append_passing(blocks, shape, pending, coded, lanes);
    return end;
}

std::int64_t scan_wide(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end, const AllowedBits& allowed,
                       ScanLane* lanes) {
    const TileShape shape(blocks.lines);
    const bool is_held = shape.whole + shape.tail_tiles == 2;
    return (is_held ? scan_tiles<true> : scan_tiles<false>)(blocks, begin, end, allowed, shape, lanes);
}

}  // namespace

ScanKernels scan_kernels_amx() {
    ScanKernels kernels = scan_kernels_vnni();
    kernels.wide = scan_wide;
    kernels.wide_width = kWidth;
    kernels.make_tails = make_tails;
    return kernels;
}

}  // namespace mtaw
