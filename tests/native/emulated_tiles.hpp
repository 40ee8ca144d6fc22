// AMX tiles in plain C++, put before kernel_amx.cpp by the compiler's -include: its logic runs on CPUs without AMX.
// Each operation reads and writes no more than the configured rows and bytes, as the hardware does.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulated {

struct Tiles {
    bool configured = false;
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
    std::uint8_t data[8][16][64];
};

inline Tiles& tiles() {
    thread_local Tiles all;
    return all;
}

inline void load_config(const void* memory) {
    const auto* bytes = static_cast<const std::uint8_t*>(memory);
    if (bytes[0] != 1 || bytes[1] != 0) std::abort();
    std::memcpy(tiles().row_bytes, bytes + 16, 32);
    std::memcpy(tiles().rows, bytes + 48, 16);
    for (int tile = 0; tile < 8; ++tile) {
        if (tiles().rows[tile] < 1 || tiles().rows[tile] > 16) std::abort();
        const int bytes_of_row = tiles().row_bytes[tile];
        if (bytes_of_row < 4 || bytes_of_row > 64 || bytes_of_row % 4 != 0) std::abort();
    }
    std::memset(tiles().data, 0, sizeof tiles().data);
    tiles().configured = true;
}

inline void check(int tile) {
    if (!tiles().configured || tile < 0 || tile > 7) std::abort();
}

inline void zero(int tile) {
    check(tile);
    std::memset(tiles().data[tile], 0, sizeof tiles().data[tile]);
}

inline void load(int tile, const void* memory, std::int64_t stride) {
    zero(tile);
    for (int row = 0; row < tiles().rows[tile]; ++row) {
        std::memcpy(tiles().data[tile][row], static_cast<const std::uint8_t*>(memory) + row * stride,
                    tiles().row_bytes[tile]);
    }
}

inline void store(int tile, void* memory, std::int64_t stride) {
    check(tile);
    for (int row = 0; row < tiles().rows[tile]; ++row) {
        std::memcpy(static_cast<std::uint8_t*>(memory) + row * stride, tiles().data[tile][row],
                    tiles().row_bytes[tile]);
    }
}

// c[m][n] += sum over k, t of a[m][4k + t] (signed) * b[k][4n + t] (unsigned).
inline void signed_by_unsigned(int c, int a, int b) {
    check(c), check(a), check(b);
    const Tiles& all = tiles();
    const int inner = all.row_bytes[a] / 4;
    if (inner != all.rows[b] || all.rows[a] != all.rows[c] || all.row_bytes[b] != all.row_bytes[c]) std::abort();
    for (int m = 0; m < all.rows[c]; ++m) {
        for (int n = 0; n < all.row_bytes[c] / 4; ++n) {
            std::int32_t sum;
            std::memcpy(&sum, all.data[c][m] + 4 * n, 4);
            for (int k = 0; k < inner; ++k) {
                for (int t = 0; t < 4; ++t) {
                    sum += static_cast<std::int8_t>(all.data[a][m][4 * k + t]) * all.data[b][k][4 * n + t];
                }
            }
            std::memcpy(tiles().data[c][m] + 4 * n, &sum, 4);
        }
    }
}

}  // namespace emulated

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbsud
#define _tile_loadconfig(memory) emulated::load_config(memory)
#define _tile_release() (emulated::tiles().configured = false)
#define _tile_zero(tile) emulated::zero(tile)
#define _tile_loadd(tile, memory, stride) emulated::load(tile, memory, stride)
#define _tile_stored(tile, memory, stride) emulated::store(tile, memory, stride)
#define _tile_dpbsud(c, a, b) emulated::signed_by_unsigned(c, a, b)
