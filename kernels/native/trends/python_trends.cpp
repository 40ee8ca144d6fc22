#include "trends/python_trends.hpp"

#include <pybind11/stl.h>

#include <string>

#include "named_arrays.hpp"
#include "trends/check.hpp"

namespace py = pybind11;

namespace mtaw {

TrendsView bound_trends(const py::dict& arrays) {
    TrendsView view{};
    view.row_offsets = named<std::int64_t>(arrays, "row_offsets", "int64", {kAny});
    view.n_items = length(arrays, "row_offsets") - 1;
    if (view.n_items < 0) throw py::value_error("row_offsets must have at least one entry, 0");
    view.neighbors = named<std::int32_t>(arrays, "neighbors", "int32", {kAny});
    view.n_pairs = length(arrays, "neighbors");
    view.values = named<std::uint16_t>(arrays, "values", "uint16", {view.n_pairs, kPairSums});
    view.totals = named<float>(arrays, "totals", "float32", {view.n_items, kPairSums});
    view.counts = named<float>(arrays, "counts", "float32", {view.n_items, kItemSums});
    view.times = named<std::int64_t>(arrays, "times", "int64", {view.n_items, 2});
    view.sums = named<double>(arrays, "sums", "float64", {kItemSums});
    view.clock = named<std::int64_t>(arrays, "clock", "int64", {kItemLanes + 1});
    if (!arrays.contains("context_sizes")) return view;
    const std::int64_t* const sizes = named<std::int64_t>(arrays, "context_sizes", "int64", {kAny});
    ContextView& context = view.context;
    context.shape = context_shape(sizes, length(arrays, "context_sizes"));
    context.offsets = named<std::int64_t>(arrays, "context_offsets", "int64", {view.n_items + 1});
    context.values = named<std::uint16_t>(arrays, "context_values", "uint16", {kAny});
    context.n_sums = length(arrays, "context_values");
    context.sums = named<float>(arrays, "context_sums", "float32", {context.n_sums});
    context.totals = named<double>(arrays, "context_totals", "float64", {context.shape.n_values()});
    return view;
}

TrendSettings trend_settings(const std::vector<std::int64_t>& half_lives, std::int64_t window,
                             std::int64_t max_neighbors) {
    if (half_lives.size() != kItemLanes) {
        throw py::value_error("there must be " + std::to_string(kItemLanes) + " half-lives, not " +
                              std::to_string(half_lives.size()));
    }
    TrendSettings settings{{}, window, max_neighbors};
    std::copy(half_lives.begin(), half_lives.end(), settings.half_lives.ms);
    return settings;
}

}  // namespace mtaw
