// What a build of the encoder for one instruction set offers, and the packed model it works on.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace mtaw {

constexpr std::int64_t kRecentClicks = 16;  // recent.RECENT_CLICKS
constexpr double kShortest = 1e-12;         // recent.SHORTEST

// A d x d layer: its outputs in panels [panels][d inputs][panel_floats outputs], and the bias float32[width].
struct PackedLayer {
    const float* panels;
    const float* bias;
};

// Rows are `width` floats wide: d rounded up to kEncodeLanes, zero past d. Both query layers are scaled by
// log2(e) / sqrt(d), which the ReLU lets through: softmax is then 2^(q x - max), and nothing is left to scale.
struct EncodeModel {
    std::int64_t n_items;  // in all
    std::int64_t n_base;   // of them in `items`, the others in `added`
    std::int64_t d;
    std::int64_t width;
    std::int64_t n_positions;
    const float* items;      // [n_base, d], as the bundle holds it
    const float* added;      // [n_items - n_base, d]
    const float* positions;  // [n_positions, width]
    PackedLayer itl_query;
    PackedLayer ffn_in;
    PackedLayer ffn_out;
    PackedLayer iel_query;
    const float* norm_weight;  // [width]
    const float* norm_bias;    // [width]
    const float* valid;        // [width]: 1 up to d, 0 past it
    const float* zeros;        // [width]
    // What the click k before the last adds of its item's direction, recent * sqrt(d) * decay^k, and the sum of decay^k
    // over the last n clicks at [n - 1]. Without recent clicks in the query all of it is 0.
    double recent[kRecentClicks];
    double recent_total[kRecentClicks];
};

constexpr std::int64_t kEncodeLanes = 16;
constexpr std::int64_t kHalfLanes = kEncodeLanes / 2;
constexpr std::int64_t kEncodeChunk = 48;  // rows of a session that go through the layers together

// The functions here are static: each build keeps a copy of its own, in its own instructions.
//
// Columns of the panel of outputs that begins at `column`: `panel`, or in the last one what is left of d in whole
// lanes. Where half of its last lanes suffice and `halves` are offered, it ends with them (but is no lone half).
static constexpr std::int64_t panel_floats(std::int64_t d, std::int64_t column, std::int64_t panel, bool halves) {
    const std::int64_t n_left = d - column;
    if (n_left >= panel) return panel;
    const std::int64_t whole = n_left / kEncodeLanes * kEncodeLanes, remainder = n_left - whole;
    if (halves && whole > 0 && remainder > 0 && remainder <= kHalfLanes) return whole + kHalfLanes;
    return remainder > 0 ? whole + kEncodeLanes : whole;
}

// Floats of working memory that `track` and `enhance` need for sessions of n_clicks clicks.
static constexpr std::int64_t encode_work(std::int64_t width, std::int64_t n_clicks) {
    const std::int64_t rows = n_clicks < kEncodeChunk ? n_clicks : kEncodeChunk;
    const std::int64_t keys = (n_clicks + kEncodeLanes - 1) / kEncodeLanes * kEncodeLanes;
    return n_clicks * width + rows * (2 * width + keys);
}

struct EncodeKernel {
    std::int64_t panel;  // arguments of panel_floats
    bool halves;

    // Interests l_t of clicks begin..end-1 (rows of `interests` [end, width]) of a session whose first `end` clicks
    // are given. A row does not depend on begin and end, to the bit.
    void (*track)(const EncodeModel& model, const std::int32_t* clicks, std::int64_t begin, std::int64_t end,
                  float* interests, float* work);

    // The unit query float32[d] after the last of n_clicks clicks, from their interests [n_clicks, width].
    void (*enhance)(const EncodeModel& model, const std::int32_t* clicks, const float* interests, std::int64_t n_clicks,
                    float* out, float* work);
};

// The build for the best instruction set up to `isa`.
const EncodeKernel& encode_kernel_for(Isa isa);

const EncodeKernel& encode_kernel_portable();
const EncodeKernel& encode_kernel_avx2();
const EncodeKernel& encode_kernel_avx512();
const EncodeKernel& encode_kernel_neon();

}  // namespace mtaw
