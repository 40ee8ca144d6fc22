#include <immintrin.h>

#include "scan/kernel_avx512.hpp"

namespace mtaw {
namespace {

// 32 queries at once, in two groups of 16. A block's lines are the rows of a tile as it is in memory, 16 lines a
// tile; the last tile has the 1..16 lines that are left. Tiles 0, 1: the sums of both groups. 2: lines of the block,
// 3: its last ones. 4, 5: the groups' codes for tile 2, 6, 7: for tile 3.
constexpr int kGroup = 16;
constexpr int kWidth = 2 * kGroup;
constexpr std::int64_t kTileLines = 16;

struct alignas(64) TileConfig {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
};

TileConfig config_of(std::int64_t last_lines) {
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile) {
        config.rows[tile] = kGroup;
        config.row_bytes[tile] = kLineBytes;
    }
    config.rows[3] = static_cast<std::uint8_t>(last_lines);
    config.row_bytes[6] = config.row_bytes[7] = static_cast<std::uint16_t>(last_lines * kLineDims);
    return config;
}

struct Sums32 {
    alignas(64) std::int32_t of[kWidth][kBlockItems];
};

// The lanes' codes, those of a lane `stride` bytes after those of the one before.
struct LaneCodes {
    const std::int8_t* first;
    std::int64_t stride;

    const std::int8_t* tile(int group, std::int64_t tile) const {
        return first + group * kGroup * stride + tile * kTileLines * kLineDims;
    }
};

// Sum (c + 128) a of one block for all lanes.
MTAW_INLINE void block_sums(const std::uint8_t* block, std::int64_t whole_tiles, const LaneCodes& codes, Sums32* sums) {
    _tile_zero(0);
    _tile_zero(1);
    for (std::int64_t tile = 0; tile < whole_tiles; ++tile) {
        _tile_loadd(2, block + tile * kTileLines * kLineBytes, kLineBytes);
        if (whole_tiles > 1) {
            _tile_loadd(4, codes.tile(0, tile), codes.stride);
            _tile_loadd(5, codes.tile(1, tile), codes.stride);
        }
        _tile_dpbsud(0, 4, 2);
        _tile_dpbsud(1, 5, 2);
    }
    _tile_loadd(3, block + whole_tiles * kTileLines * kLineBytes, kLineBytes);
    _tile_dpbsud(0, 6, 3);
    _tile_dpbsud(1, 7, 3);
    _tile_stored(0, sums->of[0], kLineBytes);
    _tile_stored(1, sums->of[kGroup], kLineBytes);
}

std::int64_t scan_wide(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end, const AllowedBits& allowed,
                       ScanLane* lanes) {
    const std::int64_t whole_tiles = (blocks.lines - 1) / kTileLines;
    const std::int64_t last_lines = blocks.lines - whole_tiles * kTileLines;
    const LaneCodes codes{lanes[0].codes, lanes[1].codes - lanes[0].codes};
    const TileConfig config = config_of(last_lines);
    _tile_loadconfig(&config);
    if (whole_tiles == 1) {
        _tile_loadd(4, codes.tile(0, 0), codes.stride);
        _tile_loadd(5, codes.tile(1, 0), codes.stride);
    }
    _tile_loadd(6, codes.tile(0, whole_tiles), codes.stride);
    _tile_loadd(7, codes.tile(1, whole_tiles), codes.stride);
    Sums32 sums;
    std::int64_t block = begin;
    for (bool full = false; block < end && !full; ++block) {
        const std::uint32_t open = allowed.bits == nullptr ? kAllItems : allowed_items(allowed, block);
        if (open == 0) continue;
        const std::uint8_t* address = blocks.blocks + block * (blocks.lines + 1) * kLineBytes;
        block_sums(address, whole_tiles, codes, &sums);
        const Avx512Bounds::Items items = Avx512Bounds::load_items(address + blocks.lines * kLineBytes);
        for (int q = 0; q < kWidth; ++q) {
            // Sum (c + 128) a = c.a + 128 sum a.
            const __m512i dots = _mm512_add_epi32(_mm512_load_si512(sums.of[q]),
                                                  _mm512_set1_epi32(-128 * lanes[q].code_sum));
            const std::uint32_t found = Avx512Bounds::over(dots, items, lanes[q]) & open;
            if (found == 0) continue;
            append<Avx512Bounds>(dots, items, block, found, lanes[q]);
            full |= lanes[q].count >= lanes[q].limit;
        }
    }
    _tile_release();
    return block;
}

}  // namespace

ScanKernels scan_kernels_amx() {
    ScanKernels kernels = scan_kernels_vnni();
    kernels.wide = scan_wide;
    kernels.wide_width = kWidth;
    return kernels;
}

}  // namespace mtaw
