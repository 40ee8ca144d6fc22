#include "rerank.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace mtaw {
namespace {

struct Scored {
    float score;
    std::int32_t id;
};

bool better(const Scored& a, const Scored& b) {
    const bool a_nan = std::isnan(a.score);
    const bool b_nan = std::isnan(b.score);
    if (a_nan != b_nan) return b_nan;
    if (!a_nan && a.score != b.score) return a.score > b.score;
    return a.id < b.id;
}

constexpr std::size_t kTile = 8;

// Dots of one query with kTile rows. Each sum runs over i in ascending order, whatever the compiler
// vectorises: the lanes are candidates, not dimensions. A product of two float32 has at most 48
// significant bits and an exponent within float64's range, so it is exact in float64: a fused
// multiply-add rounds just as a product followed by an addition does, and every CPU gives the same bits.
std::array<double, kTile> dot_tile(const float* query, const std::array<const float*, kTile>& rows, std::int64_t d) {
    std::array<double, kTile> sums{};
    for (std::int64_t i = 0; i < d; ++i) {
        const double q = query[i];
        for (std::size_t lane = 0; lane < kTile; ++lane) {
            sums[lane] += q * static_cast<double>(rows[lane][i]);
        }
    }
    return sums;
}

void check_candidates(const RerankShape& shape, const std::int32_t* candidates) {
    const std::int64_t count = shape.n_queries * shape.n_candidates;
    for (std::int64_t place = 0; place < count; ++place) {
        if (candidates[place] < -1 || candidates[place] >= shape.n_items) {
            throw std::out_of_range("candidate " + std::to_string(candidates[place]) + " of query " +
                                    std::to_string(place / shape.n_candidates) + " lies outside -1.." +
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
        for (std::size_t begin = 0; begin < scored.size(); begin += kTile) {
            const std::size_t filled = std::min(kTile, scored.size() - begin);
            std::array<const float*, kTile> rows;
            for (std::size_t lane = 0; lane < kTile; ++lane) {
                // The lanes past the end repeat the tile's first row; their sums are not used.
                const std::int32_t id = scored[begin + (lane < filled ? lane : 0)].id;
                rows[lane] = catalog + static_cast<std::int64_t>(id) * shape.d;
            }
            const std::array<double, kTile> sums = dot_tile(query, rows, shape.d);
            for (std::size_t lane = 0; lane < filled; ++lane) {
                scored[begin + lane].score = static_cast<float>(scale * sums[lane]);
            }
        }
        const std::size_t kept = std::min(static_cast<std::size_t>(shape.k), scored.size());
        std::partial_sort(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(kept), scored.end(), better);
        std::int32_t* out_ids = ids + b * shape.k;
        float* out_scores = scores + b * shape.k;
        for (std::size_t place = 0; place < kept; ++place) {
            out_ids[place] = scored[place].id;
            out_scores[place] = scored[place].score;
        }
        std::fill(out_ids + kept, out_ids + shape.k, -1);
        std::fill(out_scores + kept, out_scores + shape.k, -std::numeric_limits<float>::infinity());
    }
}

}  // namespace mtaw
