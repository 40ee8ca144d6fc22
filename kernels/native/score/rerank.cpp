#include "score/rerank.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "score/score.hpp"

namespace mtaw {
namespace {

void check_candidates(const RerankShape& shape, const std::int32_t* candidates) {
    const std::int64_t count = shape.n_queries * shape.n_candidates;
    for (std::int64_t i = 0; i < count; ++i) {
        if (candidates[i] < -1 || candidates[i] >= shape.n_items) {
            throw std::out_of_range("candidate " + std::to_string(candidates[i]) + " of query " +
                                    std::to_string(i / shape.n_candidates) + " is outside -1.." +
                                    std::to_string(shape.n_items - 1));
        }
    }
}

}  // namespace

void rerank_topk(const RerankShape& shape, const float* queries, const float* catalog, const std::int32_t* candidates,
                 double scale, std::int32_t* ids, float* scores) {
    check_candidates(shape, candidates);
    std::vector<Scored> scored;
    scored.reserve(static_cast<std::size_t>(shape.n_candidates));
    for (std::int64_t b = 0; b < shape.n_queries; ++b) {
        const float* query = queries + b * shape.d;
        scored.clear();
        for (std::int64_t c = 0; c < shape.n_candidates; ++c) {
            const std::int32_t id = candidates[b * shape.n_candidates + c];
            if (id >= 0) scored.push_back({0.0F, id});
        }
        score_items(query, catalog, shape.d, scale, scored.data(), static_cast<std::int64_t>(scored.size()));
        std::fill_n(ids + b * shape.k, shape.k, -1);  // of one id twice an entry stays as it is
        std::fill_n(scores + b * shape.k, shape.k, -std::numeric_limits<float>::infinity());
        const std::size_t kept = std::min(static_cast<std::size_t>(shape.k), scored.size());
        std::int32_t* out_ids = ids + b * shape.k;
        float* out_scores = scores + b * shape.k;
        place_best(scored.data(), static_cast<std::int64_t>(scored.size()), static_cast<std::int64_t>(kept), out_ids,
                   out_scores);
    }
}

}  // namespace mtaw
