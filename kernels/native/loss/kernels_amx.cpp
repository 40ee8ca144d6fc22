// AMX: tiles of bfloat16, accumulated in float32. Exponentials and conversions are AVX-512's.
#include "loss/bf16_items.hpp"
#include "loss/negative_tiles.hpp"
#include "loss/vector_avx512.hpp"

namespace mtaw {
namespace {

constexpr int kTileRows = 16;
constexpr int kTileDepth = 32;       // bfloat16 of a tile's row
constexpr int kTwo = 2 * kTileRows;  // items, dims or rows of a step: two tiles of each factor, four of sums
constexpr int kMaxBlockRows = 64;

struct Amx : Avx512Floats {
    using Element = std::uint16_t;

    static Vec load_exps(const Element* p) { return load_bf16(p); }
    static Vec exp2(Vec x, Vec factor) { return exp2_by<kExp2ShortDegree>(kExp2Short, x, factor); }

    template <int M, int V>
    static void store_exps(const Vec (&exps)[M][V], const ExpTile& tile, std::int64_t item) {
        store_bf16_exps(exps, tile, item);
    }
};

// Constant data and not a local: the intrinsic declares only the first eight bytes as read, so the compiler would drop
// stores to the others.
struct TileConfig {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);
alignas(64) constexpr TileConfig kTileConfig{};

// Sets all eight tiles to 16 rows of 64 bytes for as long as it lives.
class Tiles {
   public:
    Tiles() { _tile_loadconfig(&kTileConfig); }
    ~Tiles() { _tile_release(); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;
};

// A factor in memory: the first of its 16 (or 32) rows of tiles, bytes from row to row, and from step to step of depth.
struct Factor {
    const std::uint16_t* data;
    std::int64_t row_bytes;
    std::int64_t step_bytes;

    const void* at(std::int64_t step, std::int64_t offset_bytes) const {
        return reinterpret_cast<const std::byte*>(data) + step * step_bytes + offset_bytes;
    }
};

// out[32, 32] of rows `stride` floats apart = left[32, depth] x right[depth, 32], accumulating over `blocks` pieces of
// depth; where a half is absent its part of `out` is not touched. left's rows are row_bytes apart; right's rows are
// pairs of depth.
class Product {
   public:
    Product(bool two_left, bool two_right) : two_left_(two_left), two_right_(two_right) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }

    void add(const Factor& left, const Factor& right, std::int64_t steps) const {
        for (std::int64_t step = 0; step < steps; ++step) {
            _tile_loadd(4, left.at(step, 0), left.row_bytes);
            _tile_loadd(6, right.at(step, 0), right.row_bytes);
            _tile_dpbf16ps(0, 4, 6);
            if (two_right_) {
                _tile_loadd(7, right.at(step, 64), right.row_bytes);
                _tile_dpbf16ps(1, 4, 7);
            }
            if (!two_left_) continue;
            _tile_loadd(5, left.at(step, kTileRows * left.row_bytes), left.row_bytes);
            _tile_dpbf16ps(2, 5, 6);
            if (two_right_) _tile_dpbf16ps(3, 5, 7);
        }
    }

    void store(float* out, std::int64_t stride) const {
        const std::int64_t bytes = stride * 4;
        _tile_stored(0, out, bytes);
        if (two_right_) _tile_stored(1, out + kTileRows, bytes);
        if (!two_left_) return;
        _tile_stored(2, out + kTileRows * stride, bytes);
        if (two_right_) _tile_stored(3, out + kTileRows * stride + kTileRows, bytes);
    }

    // out += the product.
    void add_to(float* out, std::int64_t stride) const {
        alignas(64) float sums[kTwo * kTwo];
        store(sums, kTwo);
        for (int i = 0; i < (two_left_ ? kTwo : kTileRows); ++i) {
            for (int v = 0; v < (two_right_ ? 2 : 1); ++v) {
                float* address = out + i * stride + v * kTileRows;
                Amx::store(address, Amx::add(Amx::load(address), Amx::load(sums + i * kTwo + v * kTileRows)));
            }
        }
    }

   private:
    bool two_left_;
    bool two_right_;
};

template <int V>
void exponentials_of(const ExpTile& tile) {
    const Tiles configured;
    const auto* items = static_cast<const std::uint16_t*>(tile.by_item);
    const auto* queries = static_cast<const std::uint16_t*>(tile.queries);
    constexpr int kRows = V * kTileRows;
    constexpr int kItemsAtOnce = 4;
    Amx::Vec sums[V];
    for (int v = 0; v < V; ++v) sums[v] = Amx::zero();
    std::int64_t hit = 0;
    for (std::int64_t item = 0; item < tile.padded; item += kTwo) {
        alignas(64) float cosines[kTwo * kMaxBlockRows];
        for (int row = 0; row < kRows; row += kTwo) {
            const Product product(true, true);
            product.add({items + item * tile.width, tile.width * 2, kTileDepth * 2},
                        {queries + row * 2, kRows * 4, kTileRows * kRows * 4}, tile.width / kTileDepth);
            product.store(cosines + row, kRows);
        }
        for (int i = 0; i < kTwo; i += kItemsAtOnce) {
            Amx::Vec acc[kItemsAtOnce][V];
            for (int m = 0; m < kItemsAtOnce; ++m) {
                for (int v = 0; v < V; ++v) acc[m][v] = Amx::load(cosines + (i + m) * kRows + v * kTileRows);
            }
            finish_exps<Amx>(acc, sums, tile, item + i, hit);
        }
    }
    for (int v = 0; v < V; ++v) Amx::store(tile.sums + v * kTileRows, sums[v]);
}

void amx_exponentials(const ExpTile& tile) {
    if (tile.block_rows == kMaxBlockRows) return exponentials_of<4>(tile);
    exponentials_of<2>(tile);
}

// by_dim is [padded_d, padded]: dims x items, the left factor.
void amx_accumulate_queries(const AccumulateQueries& work) {
    const Tiles configured;
    const auto* items = static_cast<const std::uint16_t*>(work.by_dim);
    const auto* pairs = static_cast<const std::uint16_t*>(work.pairs);
    const std::int64_t rows = work.block_rows;
    for (std::int64_t dim = 0; dim < work.padded_d; dim += kTwo) {
        for (std::int64_t row = 0; row < rows; row += kTwo) {
            const Product product(dim + kTileRows < work.padded_d, true);
            product.add({items + dim * work.padded, work.padded * 2, kTileDepth * 2},
                        {pairs + row * 2, rows * 4, kTileRows * rows * 4}, work.padded / kTileDepth);
            product.add_to(work.sums + dim * rows + row, rows);
        }
    }
}

void amx_accumulate_items(const AccumulateItems& work) {
    const Tiles configured;
    for (std::int64_t item = 0; item < work.padded; item += kTwo) {
        for (std::int64_t dim = 0; dim < work.tile_width; dim += kTwo) {
            const Product product(true, dim + kTileRows < work.tile_width);
            const auto* kept = static_cast<const std::uint16_t*>(work.kept);
            const auto* queries = static_cast<const std::uint16_t*>(work.queries) + dim * 2;
            for (std::int64_t block = 0; block < work.blocks; ++block) {
                const std::int64_t rows = block + 1 < work.blocks ? work.block_rows : work.last_rows;
                product.add({kept + (work.first_item + item) * rows, rows * 2, kTileDepth * 2},
                            {queries, work.tile_width * 4, kTileRows * work.tile_width * 4}, rows / kTileDepth);
                kept += work.kept_stride;
                queries += rows * work.tile_width;
            }
            float* out = work.tile + item * work.tile_width + dim;
            if (work.first) {
                product.store(out, work.tile_width);
            } else {
                product.add_to(out, work.tile_width);
            }
        }
    }
}

// Turns 16 vectors of 16 integers into their columns.
void transpose(__m512i (&rows)[16]) {
    __m512i half[16];
    for (int i = 0; i < 16; i += 2) {
        half[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        half[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(half[i], half[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(half[i], half[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(half[i + 1], half[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(half[i + 1], half[i + 3]);
    }
    // Lane l of rows[4 g + c] now holds column 4 l + c of rows 4 g .. 4 g + 3.
    for (int c = 0; c < 4; ++c) {
        const __m512i low = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0x88);
        const __m512i high = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0xDD);
        const __m512i low2 = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0x88);
        const __m512i high2 = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0xDD);
        half[c] = _mm512_shuffle_i32x4(low, low2, 0x88);
        half[8 + c] = _mm512_shuffle_i32x4(low, low2, 0xDD);
        half[4 + c] = _mm512_shuffle_i32x4(high, high2, 0x88);
        half[12 + c] = _mm512_shuffle_i32x4(high, high2, 0xDD);
    }
    for (int i = 0; i < 16; ++i) rows[i] = half[i];
}

void pack_items(const PackItems& pack) {
    for (std::int64_t item = 0; item < pack.padded; item += kTwo) {
        PairOfItems two[16];
        for (int p = 0; p < 16; ++p) two[p].open<Amx>(pack, item + 2 * p);
        for (std::int64_t k = 0; k < pack.width; k += 16) {
            __m512i pairs[16];
            for (int p = 0; p < 16; ++p) pairs[p] = two[p].pack(k);
            if (pack.by_dim == nullptr || k >= pack.padded_d) continue;
            transpose(pairs);
            auto* out = static_cast<std::uint16_t*>(pack.by_dim) + k * pack.padded + item;
            for (int dim = 0; dim < 16; ++dim) _mm512_storeu_si512(out + dim * pack.padded, pairs[dim]);
        }
    }
}

}  // namespace

const LossKernels kLossAmx = {2,
                              16,
                              kMaxBlockRows,
                              kTwo,
                              kTwo,
                              kTileDepth,
                              kTileRows,
                              pack_items,
                              amx_exponentials,
                              amx_accumulate_queries,
                              amx_accumulate_items,
                              finish_items<Amx>,
                              negative_sums<Amx>,
                              negative_slopes<Amx>};

}  // namespace mtaw
