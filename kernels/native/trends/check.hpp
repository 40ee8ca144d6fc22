// Checks that tables read from a file are ones that a reader can use without further checks.
#pragma once

#include "trends/tables.hpp"

namespace mtaw {

// Throws std::invalid_argument naming the array and the index unless offsets run from 0 up to the number of pairs,
// neighbors are items, no row is longer than the settings allow, sums are finite and not negative, and times fit each
// other and the clock. Reads every array once.
void check_trends(const TrendsView& tables, const TrendSettings& settings);

// Of columns with these largest codes. Throws std::invalid_argument on sizes out of range.
ContextShape context_shape(const std::int64_t* sizes, std::int64_t count);

}  // namespace mtaw
