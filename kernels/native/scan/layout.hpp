// The memory layout of the scanner's int8 codes: one layout for every instruction set, so a bundle stores it once.
//
// 16 items make a block of lines of 64 bytes. Line j < ceil(d / 4) holds dimensions 4j .. 4j+3 of the 16 items, item
// after item, as unsigned bytes code + 128 with codes in -127..127 (128, a zero, pads the dimensions). It is one
// register of AVX-512, two of AVX2, four of NEON, one row of an AMX tile. The last line holds each item's step and
// residual as two bfloat16 in one 32-bit word: the step in the upper half, the residual's norm in the lower.
// A block is one stretch of memory, read once from front to end. Slots past the last item have the residual
// -infinity, which no threshold lets through.
//
// The nested form has the same codes in two parts of equal size, each read without the other. A code c = 16 h - 128 + l
// has the high half h and the low half l, both 0..15.
// - Half-wide blocks, which a first pass reads: byte t of item i in line j < ceil(d / 8) holds h of dimension 8j + t in
//   its lower half and of 8j + 4 + t in its upper half (0 past the whole form's lines). The last line is as above, for
//   the codes 2 h - 15 in steps of 8: l - 8 of each code is left, and its norm is part of the residual. (Around l - 7.5
//   the norm would be 0.6% smaller, with a step that is no power of two of the other.)
// - Low blocks, item after item, because only single items are read of them: the 4 ceil(d / 8) bytes with l where the
//   half-wide blocks have h, then the item's word of the whole form.
#pragma once

#include <cstdint>
#include <cstring>

namespace mtaw {

constexpr std::int64_t kBlockItems = 16;
constexpr std::int64_t kLineBytes = 64;
constexpr std::int64_t kLineDims = 4;
constexpr std::int64_t kMaxScanDims = 1 << 14;  // the int32 sums of products of codes stay exact

// The word of a slot without an item: the step 0 and the residual -infinity.
constexpr std::uint32_t kNoItem = 0xFF80;

inline std::uint32_t load_word(const std::uint8_t* address) {
    std::uint32_t word;
    std::memcpy(&word, address, 4);
    return word;
}

constexpr std::int64_t code_lines(std::int64_t d) { return (d + kLineDims - 1) / kLineDims; }
constexpr std::int64_t block_bytes(std::int64_t d) { return (code_lines(d) + 1) * kLineBytes; }
constexpr std::int64_t half_lines(std::int64_t d) { return (d + 2 * kLineDims - 1) / (2 * kLineDims); }
constexpr std::int64_t half_block_bytes(std::int64_t d) { return (half_lines(d) + 1) * kLineBytes; }
// What a low block holds of one item; 16 of them have half_block_bytes(d).
constexpr std::int64_t low_bytes(std::int64_t d) { return (half_lines(d) + 1) * kLineDims; }
constexpr std::int64_t block_count(std::int64_t n_items) { return (n_items + kBlockItems - 1) / kBlockItems; }

// What a scan needs to know of all the items together. The codes are of rows * 2^-exponent.
struct ScanSummary {
    std::int64_t exponent = 0;
    double largest_norm = 0;      // of rows * 2^-exponent, rounded up: about 1/2 to 1, or 0
    double largest_residual = 0;  // the largest residual norm stored, of either width
};

// The item i of codes c_i, of either width, has row * 2^-exponent = step * c_i + residual vector, and
// |residual vector| <= residual.
// float32[N, d] `rows` to block_count(N) * block_bytes(d) bytes `blocks`, block by block on one thread.
// Throws std::invalid_argument on a value that is not finite.
ScanSummary quantize_catalog(const float* rows, std::int64_t n_items, std::int64_t d, std::uint8_t* blocks);

// The same codes nested: block_count(N) * half_block_bytes(d) bytes each of `half_blocks` and `low_blocks`.
ScanSummary quantize_nested(const float* rows, std::int64_t n_items, std::int64_t d, std::uint8_t* half_blocks,
                            std::uint8_t* low_blocks);

// The nested form of whole codes; raises the summary's largest residual.
void nest_codes(const std::uint8_t* blocks, std::int64_t n_blocks, std::int64_t d, std::uint8_t* half_blocks,
                std::uint8_t* low_blocks, ScanSummary* summary);

// The whole form of nested codes, to the bit. Blocks may start anywhere in a catalog.
void join_codes(const std::uint8_t* half_blocks, const std::uint8_t* low_blocks, std::int64_t n_blocks, std::int64_t d,
                std::uint8_t* blocks);

// An earlier catalog and its codes.
struct QuantizedRows {
    const float* rows;
    std::int64_t n_items;
    const std::uint8_t* blocks;
    ScanSummary summary;
};

// The same for a catalog that differs from `previous` in some rows: only their blocks are quantized.
// Its summary bounds the rows of both. Where the new rows do not suit the exponent of `previous`, all are quantized.
ScanSummary requantize_catalog(const float* rows, std::int64_t n_items, std::int64_t d, const QuantizedRows& previous,
                               std::uint8_t* blocks);

}  // namespace mtaw
