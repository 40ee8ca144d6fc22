// The exact score of items, the same bits on every CPU, and the order of results.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "isa.hpp"

namespace mtaw {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Scored {
    float score;
    std::int32_t id;
};

// Best first: the higher score, then the lower id; NaN after every number.
struct Better {
    bool operator()(const Scored& a, const Scored& b) const {
        if (a.score == b.score) return a.id < b.id;
        if (a.score > b.score || a.score < b.score) return a.score > b.score;
        const bool a_nan = std::isnan(a.score);
        return a_nan == std::isnan(b.score) ? a.id < b.id : !a_nan;
    }
};

// Sets the scores of `count` items by their ids, which the caller has checked: of query float32[d] and catalog
// float32[N, d], float32(scale * sum over i ascending of double(q_i) * double(e_i)).
//
// Each sum runs over i in ascending order on every instruction set: the lanes are items, not dimensions. A product of
// two float32 has at most 48 significant bits and an exponent within float64's range, so it is exact in float64: a
// fused multiply-add rounds just as a product followed by an addition does, and every CPU gives the same bits.
void score_items(const float* query, const float* catalog, std::int64_t d, double scale, Scored* items,
                 std::int64_t count, Isa isa = active_isa());

// Writes the `kept` best of `count` items in order; may reorder `items`.
void place_best(Scored* items, std::int64_t count, std::int64_t n_best, std::int32_t* ids, float* scores);

}  // namespace mtaw
