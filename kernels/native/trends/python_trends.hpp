// The Python side of Trends: its arrays, its clicks, its queries.
#pragma once

#include <pybind11/pybind11.h>

#include "trends/tables.hpp"
#include "trends/trends.hpp"

namespace mtaw {

// A view of the arrays in a mapping by name. Throws ValueError naming an array that is missing or has the wrong type or
// shape. The view is valid as long as the arrays. With the arrays of context, if they are there.
TrendsView bound_trends(const pybind11::dict& arrays);

// Settings from [window, max_neighbors, half-lives ..].
TrendSettings trend_settings(const std::vector<std::int64_t>& half_lives, std::int64_t window,
                             std::int64_t max_neighbors);

}  // namespace mtaw
