#include "trends/python_trends.hpp"

#include <pybind11/stl.h>

#include <initializer_list>
#include <string>

#include "buffers.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

constexpr py::ssize_t kAny = -1;

template <typename T>
const T* named(const py::dict& arrays, const char* name, const char* type, std::initializer_list<py::ssize_t> shape) {
    if (!arrays.contains(name)) throw py::value_error(std::string("the array '") + name + "' is missing");
    const py::object object = arrays[name];
    if (!py::isinstance<py::array>(object)) throw py::value_error(std::string("'") + name + "' must be an array");
    const auto array = py::reinterpret_borrow<py::array>(object);
    const T* data = checked_data<T>(array, static_cast<int>(shape.size()), name, type);
    int axis = 0;
    for (const py::ssize_t extent : shape) {
        if (extent != kAny && array.shape(axis) != extent) {
            throw py::value_error(std::string(name) + " must have " + std::to_string(extent) + " entries on axis " +
                                  std::to_string(axis) + ", not " + std::to_string(array.shape(axis)));
        }
        ++axis;
    }
    return data;
}

std::int64_t length(const py::dict& arrays, const char* name) {
    return py::reinterpret_borrow<py::array>(arrays[name]).shape(0);
}

}  // namespace

TrendsView bound_trends(const py::dict& arrays) {
    TrendsView view{};
    view.row_offsets = named<std::int64_t>(arrays, "row_offsets", "int64", {kAny});
    view.n_items = length(arrays, "row_offsets") - 1;
    if (view.n_items < 0) throw py::value_error("row_offsets must hold at least the 0 that they begin with");
    view.neighbours = named<std::int32_t>(arrays, "neighbours", "int32", {kAny});
    view.n_pairs = length(arrays, "neighbours");
    view.values = named<std::uint16_t>(arrays, "values", "uint16", {view.n_pairs, kPairSums});
    view.totals = named<float>(arrays, "totals", "float32", {view.n_items, kPairSums});
    view.counts = named<float>(arrays, "counts", "float32", {view.n_items, kItemSums});
    view.times = named<std::int64_t>(arrays, "times", "int64", {view.n_items, 2});
    view.sums = named<double>(arrays, "sums", "float64", {kItemSums});
    view.clock = named<std::int64_t>(arrays, "clock", "int64", {kItemLanes + 1});
    return view;
}

TrendSettings trend_settings(const std::vector<std::int64_t>& half_lives, std::int64_t window,
                             std::int64_t max_neighbours) {
    if (half_lives.size() != kItemLanes) {
        throw py::value_error("there must be " + std::to_string(kItemLanes) + " half-lives, not " +
                              std::to_string(half_lives.size()));
    }
    TrendSettings settings{{}, window, max_neighbours};
    std::copy(half_lives.begin(), half_lives.end(), settings.half_lives.ms);
    return settings;
}

}  // namespace mtaw
