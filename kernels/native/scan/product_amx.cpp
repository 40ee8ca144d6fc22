#include <immintrin.h>

#include "compiler.hpp"
#include "scan/layout.hpp"
#include "scan/product.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kTileLines = 16;
constexpr std::int64_t kTileDims = kTileLines * kLineDims;
constexpr int kGroup = 16;

struct alignas(64) TileConfig {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
};

void configure_tiles(std::int64_t last_lines) {
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile) {
        config.rows[tile] = kGroup;
        config.row_bytes[tile] = kLineBytes;
    }
    config.rows[3] = static_cast<std::uint8_t>(last_lines);
    config.row_bytes[6] = config.row_bytes[7] = static_cast<std::uint16_t>(last_lines * kLineDims);
    _tile_loadconfig(&config);
}

}  // namespace

// Tiles 0, 1: the sums of two groups of 16 queries. 2, 3: lines of a block. 4 to 7: codes.
std::uint64_t multiply_codes_amx(const ProductRequest& request, std::int64_t begin, std::int64_t end) {
    const std::int64_t whole = (request.lines - 1) / kTileLines, stride = request.stride;
    configure_tiles(request.lines - whole * kTileLines);
    alignas(64) std::int32_t sums[2][2 * kGroup][kBlockItems];
    std::uint64_t total = 0;
    for (std::int64_t q = 0; q < request.n_queries; q += 2 * kGroup) {
        const std::int8_t* codes = request.codes + q * stride;
        const auto load_codes = [&](std::int64_t tile) {
            _tile_loadd(4, codes + tile * kTileDims, stride);
            _tile_loadd(5, codes + kGroup * stride + tile * kTileDims, stride);
        };
        if (whole == 1) load_codes(0);
        _tile_loadd(6, codes + whole * kTileDims, stride);
        _tile_loadd(7, codes + kGroup * stride + whole * kTileDims, stride);
        for (std::int64_t block = begin; block < end; ++block) {
            const std::uint8_t* lines = request.blocks + block * (request.lines + 1) * kLineBytes;
            _tile_zero(0);
            _tile_zero(1);
            for (std::int64_t tile = 0; tile < whole; ++tile) {
                _tile_loadd(2, lines + tile * kTileLines * kLineBytes, kLineBytes);
                if (whole > 1) load_codes(tile);
                _tile_dpbsud(0, 4, 2);
                _tile_dpbsud(1, 5, 2);
            }
            _tile_loadd(3, lines + whole * kTileLines * kLineBytes, kLineBytes);
            _tile_dpbsud(0, 6, 3);
            _tile_dpbsud(1, 7, 3);
            _tile_stored(0, sums[block % 2][0], kLineBytes);
            _tile_stored(1, sums[block % 2][kGroup], kLineBytes);
        }
        total += static_cast<std::uint64_t>(sums[0][0][0]);
    }
    _tile_release();
    return total;
}

}  // namespace mtaw
