// The Python side of Trends: its arrays, its clicks, its queries.
#pragma once

#include <pybind11/pybind11.h>

#include "trends/tables.hpp"
#include "trends/trends.hpp"

namespace mtaw {

// What a mapping of the tables' names to arrays holds, where its lengths agree; throws ValueError naming one that is
// missing or of the wrong type or shape. The view lives as long as the arrays.
TrendsView bound_trends(const pybind11::dict& arrays);

// Settings from [window, max_neighbors, half-lives ..].
TrendSettings trend_settings(const std::vector<std::int64_t>& half_lives, std::int64_t window, std::int64_t max_neighbors);

}  // namespace mtaw
