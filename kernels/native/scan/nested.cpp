#include <algorithm>
#include <cmath>
#include <cstring>

#include "scan/bfloat16.hpp"
#include "scan/layout.hpp"

namespace mtaw {
namespace {

constexpr std::uint32_t kLow = 0x0F0F0F0F, kHigh = 0xF0F0F0F0;

void store_word(std::uint8_t* address, std::uint32_t word) { std::memcpy(address, &word, 4); }

// The word of the half-wide codes: what the low halves hold is part of the residual.
std::uint32_t half_word(std::uint32_t word, std::int32_t low_square, ScanSummary* summary) {
    if (word == kNoItem) return word;
    const double step = bfloat16_value(word >> 16), residual = bfloat16_value(word & 0xFFFFU);
    const double low_part = std::sqrt(static_cast<double>(low_square)) * step * kUp + residual;
    word = bfloat16_up(8 * step) << 16 | bfloat16_up(low_part * kUp);
    summary->largest_residual = std::max(summary->largest_residual, bfloat16_value(word & 0xFFFFU));
    return word;
}

void nest_block(const std::uint8_t* block, std::int64_t d, std::uint8_t* half, std::uint8_t* low,
                ScanSummary* summary) {
    const std::int64_t lines = code_lines(d), halves = half_lines(d);
    std::int32_t squares[kLineBytes] = {};  // of l - 8, by byte of a line
    for (std::int64_t line = 0; line < lines; ++line) {
        for (std::int64_t i = 0; i < kLineBytes; ++i) {
            const int low_part = (block[line * kLineBytes + i] & 15) - 8;
            squares[i] += low_part * low_part;
        }
    }
    for (std::int64_t item = 0; item < kBlockItems; ++item) {
        const std::uint8_t* const column = block + item * kLineDims;
        std::uint8_t* const half_column = half + item * kLineDims;
        std::uint8_t* const record = low + item * low_bytes(d);
        for (std::int64_t j = 0; j < halves; ++j) {
            const std::uint32_t even = load_word(column + 2 * j * kLineBytes);
            const std::uint32_t odd = 2 * j + 1 < lines ? load_word(column + (2 * j + 1) * kLineBytes) : 0;
            store_word(half_column + j * kLineBytes, (even >> 4 & kLow) | (odd & kHigh));
            store_word(record + j * kLineDims, (even & kLow) | (odd & kLow) << 4);
        }
        const std::int32_t* const item_squares = squares + item * kLineDims;
        const auto padding = static_cast<std::int32_t>(lines * kLineDims - d) * 64;  // 128 has l = 0
        const std::int32_t square = item_squares[0] + item_squares[1] + item_squares[2] + item_squares[3] - padding;
        const std::uint32_t word = load_word(column + lines * kLineBytes);
        store_word(half_column + halves * kLineBytes, half_word(word, square, summary));
        store_word(record + halves * kLineDims, word);
    }
}

}  // namespace

void nest_codes(const std::uint8_t* blocks, std::int64_t n_blocks, std::int64_t d, std::uint8_t* half_blocks,
                std::uint8_t* low_blocks, ScanSummary* summary) {
    for (std::int64_t b = 0; b < n_blocks; ++b) {
        const std::int64_t offset = b * half_block_bytes(d);
        nest_block(blocks + b * block_bytes(d), d, half_blocks + offset, low_blocks + offset, summary);
    }
}

void join_codes(const std::uint8_t* half_blocks, const std::uint8_t* low_blocks, std::int64_t n_blocks, std::int64_t d,
                std::uint8_t* blocks) {
    const std::int64_t lines = code_lines(d), halves = half_lines(d);
    for (std::int64_t b = 0; b < n_blocks; ++b) {
        std::uint8_t* const block = blocks + b * block_bytes(d);
        for (std::int64_t item = 0; item < kBlockItems; ++item) {
            const std::uint8_t* const half_column = half_blocks + b * half_block_bytes(d) + item * kLineDims;
            const std::uint8_t* const record = low_blocks + b * half_block_bytes(d) + item * low_bytes(d);
            std::uint8_t* const column = block + item * kLineDims;
            for (std::int64_t j = 0; j < halves; ++j) {
                const std::uint32_t high = load_word(half_column + j * kLineBytes);
                const std::uint32_t low = load_word(record + j * kLineDims);
                store_word(column + 2 * j * kLineBytes, (high & kLow) << 4 | (low & kLow));
                if (2 * j + 1 < lines) {
                    store_word(column + (2 * j + 1) * kLineBytes, (high & kHigh) | (low >> 4 & kLow));
                }
            }
            store_word(column + lines * kLineBytes, load_word(record + halves * kLineDims));
        }
    }
}

}  // namespace mtaw
