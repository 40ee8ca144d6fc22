// The vectorized forms of score_items.
#pragma once

#include "score/score.hpp"

namespace mtaw {

#if defined(__x86_64__)
// Scores all `count` items, 16 at a time.
void score_items_avx512(const float* query, const float* catalog, std::int64_t d, double scale, Scored* items,
                        std::int64_t count);

// ranks[i]: how many of the keys are larger than keys[i]. `count` a multiple of 8, on a cache line.
void count_larger_avx512(const std::uint64_t* keys, std::int64_t count, std::int64_t* ranks);
#endif

}  // namespace mtaw
