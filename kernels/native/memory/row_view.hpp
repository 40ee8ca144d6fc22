// Rows and sessions as the kernels read them, wherever they are stored. No functions: the builds for instruction sets
// share this file.
#pragma once

#include <cstdint>

namespace mtaw {

// A row of the tables, or its replacement.
struct RowView {
    const std::int32_t* neighbors;
    const std::int32_t* latest;
    const std::uint16_t* values;  // [count, kPairKinds]
    std::int64_t count;
    const float* totals;  // [kPairKinds]; null if there is no row
};

// What comes to a row of the tables.
struct DeltaRowView {
    const std::int32_t* neighbors;
    const std::int32_t* latest;  // 1 + the latest session, 0 = none
    const float* values;         // [count, 8]: what comes to each value; 1 if the tables lack the pair; 0
    std::int64_t count;
};

struct SessionClicks {
    const std::int32_t* clicks;
    std::int64_t count;
};

}  // namespace mtaw
