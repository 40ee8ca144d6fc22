// Past sessions that share items with the current one, and what they add to their items.
//
// A past session gains 0.85^back * log((S + 1) / (sessions of u + 1)) from each own item u that it holds (of an item
// only the latest sessions, those of the tables' postings). The heaviest give their weight to their items: to each of
// their clicks, consecutive ones on one item counted as one; of a session that counts a pair once, to each item once.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/kernels.hpp"
#include "memory/merged_tables.hpp"
#include "memory/own_items.hpp"
#include "memory/pool.hpp"

namespace mtaw {

struct SimilarScratch {
    float* weights;                     // [S and the delta's slots], all 0 between queries
    std::int32_t* touched;              // sessions with a weight; as many as all own items' postings, plus kPadding
    std::int32_t* keys;                 // as many as touched
    std::int32_t* ties;                 // as many as touched
    std::int32_t* chosen;               // [sessions + kPadding]
    float* recency;                     // [sessions + kPadding]
    float* chosen_weights;              // [sessions + kPadding]
    std::int32_t* slots;                // [longest past session]
    std::vector<std::int32_t>& firsts;  // of a past session
};

// Adds the lanes kKnn .. kKnnNext of the pool, from the `most` heaviest past sessions (ties to the later one).
// `largest` float32[kSignalLanes] takes each lane's largest value over the pool. The anchor of a past session is its
// last click on the latest own item that it holds. Lanes: weight; weight * exp(-age / (0.02 S)); weight / distance from
// the anchor (0 at it); weight if after it; weight if directly after it. The current session is never one of them.
void add_similar_sessions(const MergedTables& memory, const OwnItems& own, const CurrentSession& current,
                          std::int64_t max_sessions, const MemoryKernels& kernels, SimilarScratch& scratch, Pool& pool,
                          float* largest);

}  // namespace mtaw
