#include "score/score.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

#include "compiler.hpp"
#include "score/score_tiles.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kTile = 8;
constexpr std::int64_t kGroup = 32;        // of rows of 400 bytes: two groups fit in a core's first cache
constexpr std::int64_t kCounted = 64;      // items whose ranks are counted one by one
constexpr std::int64_t kMaxCounted = 256;  // and eight at a time
constexpr std::int64_t kLineFloats = 16;   // a cache line

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

// The rows are all over the catalog: all of a group are on their way from memory before the first is used.
void fetch_rows(const float* catalog, std::int64_t d, const Scored* items, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        const float* row = catalog + items[i].id * d;
        for (std::int64_t j = 0; j < d; j += kLineFloats) MTAW_PREFETCH(row + j);
        MTAW_PREFETCH(row + d - 1);
    }
}

void score_group(const float* query, const float* catalog, std::int64_t d, double scale, Scored* items,
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

// A number that is larger for a better item: the score's bits in the order of the numbers, then the lower id.
std::uint64_t key_of(const Scored& item) {
    const auto bits = std::bit_cast<std::uint32_t>(item.score + 0.0F);  // -0 and 0 tie
    const std::uint32_t ordered = std::isnan(item.score) ? 0 : bits ^ (bits >> 31 != 0 ? 0xFFFFFFFFU : 0x80000000U);
    return static_cast<std::uint64_t>(ordered) << 32 | (0xFFFFFFFFU - static_cast<std::uint32_t>(item.id));
}

}  // namespace

void score_items(const float* query, const float* catalog, std::int64_t d, double scale, Scored* items,
                 std::int64_t count, Isa isa) {
    fetch_rows(catalog, d, items, std::min(kGroup, count));
    for (std::int64_t done = 0; done < count; done += kGroup) {
        const std::int64_t next = std::min(done + kGroup, count);
        fetch_rows(catalog, d, items + next, std::min(kGroup, count - next));
        score_group(query, catalog, d, scale, items + done, next - done, isa);
    }
}

#if defined(__x86_64__)
namespace {

void place_best_by_counting(const Scored* items, std::int64_t count, std::int64_t n_best, std::int32_t* ids,
                            float* scores) {
    alignas(64) std::uint64_t keys[kMaxCounted];
    std::int64_t ranks[kMaxCounted];
    const std::int64_t whole = (count + 7) / 8 * 8;
    for (std::int64_t i = 0; i < count; ++i) keys[i] = key_of(items[i]);
    std::fill(keys + count, keys + whole, 0);
    count_larger_avx512(keys, whole, ranks);
    for (std::int64_t i = 0; i < count; ++i) {
        if (ranks[i] < n_best) {
            ids[ranks[i]] = items[i].id;
            scores[ranks[i]] = items[i].score;
        }
    }
}

}  // namespace
#endif

void place_best(Scored* items, std::int64_t count, std::int64_t n_best, std::int32_t* ids, float* scores) {
#if defined(__x86_64__)
    if (count > kCounted && count <= kMaxCounted && active_isa() >= Isa::avx512) {
        return place_best_by_counting(items, count, n_best, ids, scores);
    }
#endif
    if (count > kCounted) {
        std::partial_sort(items, items + n_best, items + count, Better{});
        for (std::int64_t rank = 0; rank < n_best; ++rank) {
            ids[rank] = items[rank].id;
            scores[rank] = items[rank].score;
        }
        return;
    }
    // Few: an item's rank is how many are better, counted without a branch to mispredict.
    std::uint64_t keys[kCounted];
    for (std::int64_t i = 0; i < count; ++i) keys[i] = key_of(items[i]);
    for (std::int64_t i = 0; i < count; ++i) {
        std::int64_t rank = 0;
        for (std::int64_t j = 0; j < count; ++j) rank += keys[j] > keys[i] ? 1 : 0;
        if (rank < n_best) {
            ids[rank] = items[i].id;
            scores[rank] = items[i].score;
        }
    }
}

}  // namespace mtaw
