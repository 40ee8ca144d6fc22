// The pass over a session, over a vector type V (see tiles.hpp): interests of its clicks, then the last one's query.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernel.hpp"
#include "tiles.hpp"

namespace mtaw {

static constexpr std::int64_t whole_lanes(std::int64_t n) {
    return (n + kEncodeLanes - 1) / kEncodeLanes * kEncodeLanes;
}

// The embedding of an item: of the catalog, or of those added behind it.
static inline const float* embedding(const EncodeModel& model, std::int32_t id) {
    return id < model.n_base ? model.items + id * model.d : model.added + (id - model.n_base) * model.d;
}

// Asks for what the pass will read: the rows of the clicks' items, and the interests of the clicks before `begin`.
template <typename V>
void prefetch(const EncodeModel& model, const std::int32_t* clicks, std::int64_t begin, std::int64_t end,
              const float* interests) {
    constexpr std::int64_t kLine = 16;  // floats
    for (std::int64_t t = end - 1; t >= 0; --t) {
        const float* item = embedding(model, clicks[t]);
        for (std::int64_t c = 0; c < model.d; c += kLine) V::prefetch(item + c);
    }
    for (std::int64_t c = 0; c < begin * model.width; c += kLine) V::prefetch(interests + c);
}

// Rows x_t = e(i_t) + p_min(t, P - 1) of clicks begin..end-1.
template <typename V>
void gather(const EncodeModel& model, const std::int32_t* clicks, std::int64_t begin, std::int64_t end, float* x) {
    const std::int64_t whole = model.d / V::kLanes * V::kLanes;
    for (std::int64_t t = begin; t < end; ++t) {
        const float* item = embedding(model, clicks[t]);
        const float* position = model.positions + (t < model.n_positions ? t : model.n_positions - 1) * model.width;
        float* row = x + t * model.width;
        for (std::int64_t c = 0; c < whole; c += V::kLanes) {
            V::store(row + c, V::add(V::load(item + c), V::load(position + c)));
        }
        for (std::int64_t c = whole; c < model.width; c += V::kLanes) {
            V::store(row + c, V::add(V::load_first(item + c, model.d - c, 0.0F), V::load(position + c)));
        }
    }
}

template <typename V>
MTAW_INLINE void copy_row(const float* row, std::int64_t width, float* out) {
    for (std::int64_t c = 0; c < width; c += V::kLanes) V::store(out + c, V::load(row + c));
}

template <typename V>
void track(const EncodeModel& model, const std::int32_t* clicks, std::int64_t begin, std::int64_t end, float* interests,
           float* work) {
    const float kNoFloor = -HUGE_VALF;
    const std::int64_t width = model.width, stride = whole_lanes(end);
    const std::int64_t chunk_rows = end - begin < kEncodeChunk ? end - begin : kEncodeChunk;
    float* const x = work;                                  // [end, width]
    float* const hidden = x + end * width;                  // [chunk_rows, width]: q, then the FFN's inner layer
    float* const tracked = hidden + chunk_rows * width;     // [chunk_rows, width]: l'
    float* const attention = tracked + chunk_rows * width;  // [chunk_rows, stride]
    prefetch<V>(model, clicks, begin, end, interests);
    gather<V>(model, clicks, begin, end, x);
    for (std::int64_t first = begin; first < end; first += kEncodeChunk) {
        const std::int64_t rows = end - first < kEncodeChunk ? end - first : kEncodeChunk;
        float* const out = interests + first * width;
        // A slice of one click is that click, to the bit: the softmax over one score is 1.
        const std::int64_t alone = first == 0 ? 1 : 0, attending = rows - alone, next = first + alone;
        if (alone > 0) copy_row<V>(x, width, tracked);
        linear<V>(model.itl_query, model, x + next * width, attending, 0.0F, nullptr, hidden);
        // The rows of earlier clicks are on their way from memory meanwhile.
        if (first == begin) gather<V>(model, clicks, 0, begin, x);
        scores<V>(model, hidden, x, next, attending, attention, stride);
        for (std::int64_t r = 0; r < attending; ++r) {
            softmax<V>(attention + r * stride, next + r + 1, whole_lanes(first + rows));
        }
        mix<V>(model, attention, stride, x, next, attending, tracked + alone * width);
        linear<V>(model.ffn_in, model, tracked, rows, 0.0F, nullptr, hidden);
        linear<V>(model.ffn_out, model, hidden, rows, kNoFloor, tracked, out);
        for (std::int64_t r = 0; r < rows; ++r) layer_norm<V>(model, out + r * width);
    }
}

// |row|^2 of n floats in float64, so that neither small nor large values lose it. The partial sums are lanes.
static inline double square_of(const float* row, std::int64_t n) {
    double sums[kEncodeLanes] = {};
    const std::int64_t whole = n / kEncodeLanes * kEncodeLanes;
    for (std::int64_t c = 0; c < whole; c += kEncodeLanes) {
        for (std::int64_t lane = 0; lane < kEncodeLanes; ++lane) {
            const double value = row[c + lane];
            sums[lane] += value * value;
        }
    }
    for (std::int64_t c = whole; c < n; ++c) sums[c - whole] += static_cast<double>(row[c]) * row[c];
    double square = 0;
    for (const double sum : sums) square += sum;
    return square;
}

// query += recent * r_m, where r_m mixes the directions of the last clicks' items.
template <typename V>
void add_recent(const EncodeModel& model, const std::int32_t* clicks, std::int64_t n_clicks, float* query) {
    const std::int64_t n = n_clicks < kRecentClicks ? n_clicks : kRecentClicks;
    const std::int64_t whole = model.d / V::kLanes * V::kLanes;
    for (std::int64_t k = 0; k < n; ++k) {
        const float* item = embedding(model, clicks[n_clicks - 1 - k]);
        const double length = V::root(square_of(item, model.d));
        const double share = model.recent[k] / model.recent_total[n - 1];
        const double divisor = length > kShortest ? length : kShortest;
        const typename V::Reg factor = V::broadcast(static_cast<float>(share / divisor));
        for (std::int64_t c = 0; c < whole; c += V::kLanes) {
            V::store(query + c, V::fma(factor, V::load(item + c), V::load(query + c)));
        }
        for (std::int64_t c = whole; c < model.width; c += V::kLanes) {
            V::store(query + c, V::fma(factor, V::load_first(item + c, model.d - c, 0.0F), V::load(query + c)));
        }
    }
}

template <typename V>
void enhance(const EncodeModel& model, const std::int32_t* clicks, const float* interests, std::int64_t n_clicks,
             float* out, float* work) {
    const std::int64_t width = model.width, filled = whole_lanes(n_clicks);
    float* const query = work;               // [width]
    float* const trend = query + width;      // [width]: o_m
    float* const attention = trend + width;  // [filled]
    if (n_clicks == 1) {
        copy_row<V>(interests, width, trend);
    } else {
        linear<V>(model.iel_query, model, interests + (n_clicks - 1) * width, 1, 0.0F, nullptr, query);
        scores<V>(model, query, interests, n_clicks - 1, 1, attention, filled);
        softmax<V>(attention, n_clicks, filled);
        mix<V>(model, attention, filled, interests, n_clicks - 1, 1, trend);
    }
    if (model.recent[0] > 0) add_recent<V>(model, clicks, n_clicks, trend);
    const double square = square_of(trend, width);
    const double inverse = square > 0 ? 1 / V::root(square) : 0;
    for (std::int64_t c = 0; c < model.d; ++c) out[c] = static_cast<float>(trend[c] * inverse);
}

template <typename V>
constexpr EncodeKernel encode_kernel() {
    return {V::kColumns * V::kLanes, V::kHalves, &track<V>, &enhance<V>};
}

}  // namespace mtaw
