#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "scan/bfloat16.hpp"
#include "scan/layout.hpp"

namespace mtaw {
namespace {

constexpr double kMaxScaled = 1.5;      // norm of a row: bounds.hpp allows up to 2
constexpr double kSmallest = 0x1p-100;  // steps and residuals stay far from float32's denormals

double square_norm(const float* row, std::int64_t d) {
    double square = 0;
    for (std::int64_t j = 0; j < d; ++j) square += static_cast<double>(row[j]) * static_cast<double>(row[j]);
    return square;
}

// row * down to `values`; returns the largest absolute value.
double scaled_row(const float* row, std::int64_t d, double scale_down, double* values) {
    double largest = 0;
    for (std::int64_t j = 0; j < d; ++j) {
        values[j] = static_cast<double>(row[j]) * scale_down;
        largest = std::max(largest, std::fabs(values[j]));
    }
    return largest;
}

std::uint32_t word_of(std::uint32_t step_bits, double square) {
    return step_bits << 16 | bfloat16_up(square > 0 ? std::max(std::sqrt(square) * kUp, kSmallest) : 0);
}

// One item into its column of the block; returns its word of the last line.
std::uint32_t quantize_row(const double* values, std::int64_t d, double largest, std::uint8_t* column) {
    const std::uint32_t step_bits = bfloat16_up(std::max(largest / 127, kSmallest));
    const double step = bfloat16_value(step_bits);
    const double per_step = 1 / step;
    double square = 0;
    for (std::int64_t j = 0; j < d; ++j) {
        const double code = (values[j] * per_step + kRounder) - kRounder;
        const double residual = values[j] - code * step;
        square += residual * residual;
        column[(j / kLineDims) * kLineBytes + j % kLineDims] = static_cast<std::uint8_t>(static_cast<int>(code) + 128);
    }
    return word_of(step_bits, square);
}

// The largest square norm of the rows begin .. end. Throws where a value is not finite.
double largest_square_norm(const float* rows, std::int64_t begin, std::int64_t end, std::int64_t d) {
    double largest = 0;
    for (std::int64_t i = begin; i < end; ++i) {
        const double square = square_norm(rows + i * d, d);
        if (!std::isfinite(square)) {
            throw std::invalid_argument("item " + std::to_string(i) +
                                        " of the catalog has a value that is not finite; retrain the bundle");
        }
        largest = std::max(largest, square);
    }
    return largest;
}

double scaled_norm(double square, std::int64_t exponent) {
    return std::ldexp(std::sqrt(square) * kUp, -static_cast<int>(exponent));
}

// Working memory for the rows of a block.
struct BlockRows {
    explicit BlockRows(std::int64_t d) : values(static_cast<std::size_t>(kBlockItems * d)) {}

    void load(const float* rows, std::int64_t count, std::int64_t d, double scale_down) {
        for (std::int64_t slot = 0; slot < count; ++slot) {
            largest[slot] = scaled_row(rows + slot * d, d, scale_down, values.data() + slot * d);
        }
    }

    std::vector<double> values;
    double largest[kBlockItems] = {};
};

// Writes the codes of a block's rows, and its last line.
void quantize_block(const BlockRows& block_rows, std::int64_t count, std::int64_t d, std::uint8_t* block,
                    ScanSummary* summary) {
    const std::int64_t lines = code_lines(d);
    std::memset(block, 128, static_cast<std::size_t>(lines * kLineBytes));
    for (std::int64_t slot = 0; slot < kBlockItems; ++slot) {
        std::uint32_t word = kNoItem;
        if (slot < count) {
            word = quantize_row(block_rows.values.data() + slot * d, d, block_rows.largest[slot],
                                block + slot * kLineDims);
            summary->largest_residual = std::max(summary->largest_residual, bfloat16_value(word & 0xFFFFU));
        }
        std::memcpy(block + lines * kLineBytes + slot * 4, &word, 4);
    }
}

// Quantizes block by block: `quantize(b, block_rows, count, &summary)` gets the `count` rows of block b.
template <typename Quantize>
ScanSummary quantize_blocks(const float* rows, std::int64_t n_items, std::int64_t d, const Quantize& quantize) {
    ScanSummary summary;
    const double largest_square = largest_square_norm(rows, 0, n_items, d);
    if (largest_square > 0) summary.exponent = std::ilogb(std::sqrt(largest_square)) + 1;
    // In (1/2, 1): the norm's float64 rounding cannot carry it past the power of two that ilogb saw.
    summary.largest_norm = scaled_norm(largest_square, summary.exponent);
    const double scale_down = std::ldexp(1.0, -static_cast<int>(summary.exponent));
    BlockRows block_rows(d);
    for (std::int64_t b = 0; b < block_count(n_items); ++b) {
        const std::int64_t first = b * kBlockItems, count = std::min(kBlockItems, n_items - first);
        block_rows.load(rows + first * d, count, d, scale_down);
        quantize(b, block_rows, count, &summary);
    }
    return summary;
}

}  // namespace

ScanSummary quantize_catalog(const float* rows, std::int64_t n_items, std::int64_t d, std::uint8_t* blocks) {
    const auto quantize = [&](std::int64_t b, const BlockRows& block_rows, std::int64_t count, ScanSummary* summary) {
        quantize_block(block_rows, count, d, blocks + b * block_bytes(d), summary);
    };
    return quantize_blocks(rows, n_items, d, quantize);
}

ScanSummary quantize_nested(const float* rows, std::int64_t n_items, std::int64_t d, std::uint8_t* half_blocks,
                            std::uint8_t* low_blocks) {
    std::vector<std::uint8_t> whole(static_cast<std::size_t>(block_bytes(d)));
    const auto quantize = [&](std::int64_t b, const BlockRows& block_rows, std::int64_t count, ScanSummary* summary) {
        quantize_block(block_rows, count, d, whole.data(), summary);
        const std::int64_t offset = b * half_block_bytes(d);
        nest_codes(whole.data(), 1, d, half_blocks + offset, low_blocks + offset, summary);
    };
    return quantize_blocks(rows, n_items, d, quantize);
}

ScanSummary requantize_catalog(const float* rows, std::int64_t n_items, std::int64_t d, const QuantizedRows& previous,
                               std::uint8_t* blocks) {
    ScanSummary summary = previous.summary;
    const double scale_down = std::ldexp(1.0, -static_cast<int>(summary.exponent));
    BlockRows block_rows(d);
    for (std::int64_t b = 0; b < block_count(n_items); ++b) {
        const std::int64_t first = b * kBlockItems, count = std::min(kBlockItems, n_items - first);
        const std::int64_t old_count = std::min(kBlockItems, previous.n_items - first);
        std::uint8_t* const block = blocks + b * block_bytes(d);
        const auto n_bytes = static_cast<std::size_t>(count * d) * sizeof(float);
        if (count == old_count && std::memcmp(rows + first * d, previous.rows + first * d, n_bytes) == 0) {
            std::memcpy(block, previous.blocks + b * block_bytes(d), static_cast<std::size_t>(block_bytes(d)));
            continue;
        }
        const double norm = scaled_norm(largest_square_norm(rows, first, first + count, d), summary.exponent);
        if (!(norm < kMaxScaled)) return quantize_catalog(rows, n_items, d, blocks);
        summary.largest_norm = std::max(summary.largest_norm, norm);
        block_rows.load(rows + first * d, count, d, scale_down);
        quantize_block(block_rows, count, d, block, &summary);
    }
    return summary;
}

}  // namespace mtaw
