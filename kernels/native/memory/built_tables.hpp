// Tables of past sessions in arrays of their own, made by one thread in one pass: for readers that have the sessions
// alone. `build.hpp` knows the sizes first, and fills arrays of the caller by many threads.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/tables.hpp"

namespace mtaw {

struct BuiltTables {
    std::vector<std::int64_t> row_offsets, post_offsets;
    std::vector<std::int32_t> neighbors, latest, counts, postings;
    std::vector<std::uint16_t> values;
    std::vector<float> totals;

    // With the sessions that they were built from.
    [[nodiscard]] TablesView view(const PastSessions& sessions) const;
};

// The bits that TableBuild gives. The offsets run from 0 to T; throws what TableBuild throws.
BuiltTables build_tables(const PastSessions& sessions, const MemorySettings& settings);

}  // namespace mtaw
