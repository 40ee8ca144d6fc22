// What a query of the session memory met on the way to its ranking, for explanations.
#pragma once

#include <cstdint>
#include <vector>

namespace mtaw {

// Filled by SessionMemory::rank where a request has one. By item of the pool, in the order in which they were met, the
// session's own first:
struct QueryTrace {
    std::int64_t n_own = 0;
    std::vector<std::int32_t> items;
    std::vector<float> reached;            // of the session's items, those that were clicked together with it
    std::vector<float> together;           // the pre-score
    std::vector<float> second;             // by two steps from the latest item
    std::vector<float> trending;           // the pre-score of the trends, 0 = it is none of their candidates
    std::vector<std::int32_t> dense_rank;  // from 1 in the dense list, 0 = not in it
    std::vector<float> quick;              // the quick score
    std::vector<std::uint8_t> is_allowed;
    std::vector<std::uint8_t> is_candidate;

    // The candidates that got the ranker's score, with the features of each in the order of RankerWeights.
    std::vector<std::int32_t> ranked;
    std::vector<float> scores;
    std::vector<float> features;
};

}  // namespace mtaw
