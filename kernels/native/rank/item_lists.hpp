// Rankings without the encoder: the most clicked items, rising items, and items similar to one.
#pragma once

#include <cstdint>

#include "rank/engine.hpp"

namespace mtaw {

// The clicks of a catalog's items. order: all items, most clicks first, those that were removed too.
struct ItemClicks {
    const std::int32_t* order;
    const std::int64_t* counts;  // by item
};

// All write ids int32[k] and scores float32[k], best first, padded with -1 / -infinity. `exclude_seen` has no meaning
// here. With trends, `rank_popular` lists the items that rise at `now`, then the others, each with a score 1 lower than
// the item before it, which only expresses their order; without, the scores are the clicks. Throws std::out_of_range if
// the order has an id outside the catalog.
void rank_popular(const Engine& engine, const ItemClicks& clicks, std::int64_t k, const Conditions& conditions,
                  std::int32_t* ids, float* scores);

// By the vector of an item of the catalog, with the cosines.
void rank_by_vector(const Engine& engine, std::int32_t item, std::int64_t k, const Conditions& conditions,
                    std::int32_t* ids, float* scores, EngineScratch& scratch);

// By the past sessions with both items, with the cosines of CoClicked. Throws std::invalid_argument without a memory.
void rank_by_sessions(const Engine& engine, std::int32_t item, std::int64_t k, const Conditions& conditions,
                      std::int32_t* ids, float* scores);

}  // namespace mtaw
