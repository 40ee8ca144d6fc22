// Arithmetic on columns of floats and integers that the session memory and the trends share, one set of functions for
// each instruction set. All sets give the same bits: see memory/kernels.hpp.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace mtaw {

constexpr std::int64_t kTile = 48;     // candidates whose features and hidden units fit the L1 cache together
constexpr std::int64_t kPadding = 16;  // floats: arrays are read and written in whole vectors

struct ColumnRule {
    bool log;  // log(x + shift), else x
    float shift;
};

struct TrendTile;
struct TrendPairs;
struct TrendSums;

struct ColumnKernels {
    // How many of the keys are at least `minimum`.
    std::int64_t (*count_at_least)(const std::int32_t* keys, std::int64_t count, std::int32_t minimum);
    // Lists first + i of the keys i that a cut takes (KeyCut), into `out` with room for kPadding more; returns how
    // many.
    std::int64_t (*list_taken)(const std::int32_t* keys, const std::int32_t* items, std::int64_t count,
                               std::int32_t lowest, std::int32_t last, std::int32_t first, std::int32_t* out);
    // x = exp(x) for x <= 0 and x = log(x) for normal x > 0; may write up to whole vectors.
    void (*exp)(float* x, std::int64_t count);
    void (*log)(float* x, std::int64_t count);
    // x = 1 / sqrt(x + 1) for x >= 0; may write up to whole vectors.
    void (*inverse_root)(float* x, std::int64_t count);
    // out += factor * x, `count` a multiple of kPadding.
    void (*add_scaled)(float* out, const float* x, float factor, std::int64_t count);
    // Applies the rules to columns [n_columns, kTile], for the first `count` candidates.
    void (*transform)(float* columns, const ColumnRule* rules, std::int64_t n_columns, std::int64_t count);
    // The trends' columns before their rules: see TrendTile (trends/features.hpp).
    void (*fill_trends)(const TrendTile& tile);
    // Adds what the pairs of a row are worth to the pre-scores by item, and marks the blocks of these (TrendPairs).
    void (*add_pre_scores)(const TrendPairs& pairs, const float* factors, float* scores, std::uint8_t* marks);
    // Lists the items of marked blocks whose two scores sum to more than 0: ids and the sums' bits, with room for
    // kPadding more. Returns how many there are.
    std::int64_t (*list_scored)(const std::uint8_t* marks, std::int64_t n_blocks, const float* scores,
                                const float* popular, std::int32_t* ids, std::int32_t* keys);
    // Adds the pairs `matches` of a row to the sums of their neighbors' slots. decay: [kPadding], 0 past kPairSums.
    void (*add_trend_pairs)(const TrendPairs& pairs, const std::int32_t* matches, std::int64_t n_matches,
                            const std::int32_t* slot_plus_one, const float* decay, float weight, bool is_last,
                            TrendSums* sums);
};

const ColumnKernels& column_kernels(Isa isa);

}  // namespace mtaw
