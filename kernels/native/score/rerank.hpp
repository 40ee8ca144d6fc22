// Exact top-K of candidate lists: the last step of every index.
#pragma once

#include <cstdint>

namespace mtaw {

// Axes: n_queries B, n_items N, d, n_candidates C a query, k results a query.
struct RerankShape {
    std::int64_t n_queries;
    std::int64_t n_items;
    std::int64_t d;
    std::int64_t n_candidates;
    std::int64_t k;
};

// queries float32[B, d], catalog float32[N, d], candidates int32[B, C] (-1 = no candidate), all
// row-major. Writes ids int32[B, k] and scores float32[B, k], best first, padded with -1 / -inf.
//
// score = float32(scale * sum over i ascending of double(q_i) * double(e_i)). Ties go to the lower id;
// NaN scores come after every number, by id. Throws std::out_of_range on a candidate outside -1..N-1.
void rerank_topk(const RerankShape& shape, const float* queries, const float* catalog, const std::int32_t* candidates,
                 double scale, std::int32_t* ids, float* scores);

}  // namespace mtaw
