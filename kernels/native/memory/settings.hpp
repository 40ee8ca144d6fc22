// How many candidates a query of the session memory takes, and from where.
#pragma once

#include <cstdint>

namespace mtaw {

struct MemoryQuerySettings {
    std::int64_t own;       // latest distinct items of the session itself, 1 .. kMaxOwn
    std::int64_t others;    // best of the items that past sessions hold together with its clicks
    std::int64_t sessions;  // past sessions most like it
    std::int64_t dense;     // best items by the query vector
    std::int64_t trends =
        0;  // best items by decayed sums, where a request comes with trends; and those that are popular
    // With trends: of all candidates but own items, the best by quick score get features and the ranker's score, and
    // those that a request always ranks; 0 = all.
    std::int64_t ranked = 0;
};

}  // namespace mtaw
