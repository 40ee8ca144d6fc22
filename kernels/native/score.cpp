#include "score.hpp"

#include <algorithm>
#include <cstddef>

#include "score_tiles.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kTile = 8;

void score_tile(const float* query, const float* catalog, std::int64_t d, double scale, Scored* items,
                std::int64_t filled) {
    const float* rows[kTile];
    for (std::int64_t lane = 0; lane < kTile; ++lane) {
        // The lanes past the end repeat the tile's first row; their sums are not used.
        rows[lane] = catalog + items[lane < filled ? lane : 0].id * d;
    }
    double sums[kTile] = {};
    for (std::int64_t i = 0; i < d; ++i) {
        const double q = query[i];
        for (std::int64_t lane = 0; lane < kTile; ++lane) sums[lane] += q * static_cast<double>(rows[lane][i]);
    }
    for (std::int64_t lane = 0; lane < filled; ++lane) items[lane].score = static_cast<float>(scale * sums[lane]);
}

}  // namespace

void score_items(const float* query, const float* catalog, std::int64_t d, double scale, Scored* items,
                 std::int64_t count, Isa isa) {
#if defined(__x86_64__)
    if (isa >= Isa::avx512) return score_items_avx512(query, catalog, d, scale, items, count);
#else
    (void)isa;
#endif
    for (std::int64_t done = 0; done < count; done += kTile) {
        score_tile(query, catalog, d, scale, items + done, std::min(kTile, count - done));
    }
}

}  // namespace mtaw
