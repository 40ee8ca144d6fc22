#include "memory/python_tables.hpp"

#include <initializer_list>
#include <string>

#include "buffers.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

constexpr py::ssize_t kAny = -1;

// The array of that name, of this shape; kAny stands for any extent of the first axis.
template <typename T>
const T* named(const py::dict& arrays, const char* name, const char* type, std::initializer_list<py::ssize_t> shape) {
    if (!arrays.contains(name)) throw py::value_error(std::string("the array '") + name + "' is missing");
    const py::object object = arrays[name];
    // Anything else would be converted to an array that is gone when its data is read.
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

BoundTables bound_tables(const py::dict& arrays) {
    BoundTables bound{};
    TablesView& view = bound.view;
    view.row_offsets = named<std::int64_t>(arrays, "row_offsets", "int64", {kAny});
    view.session_offsets = named<std::int64_t>(arrays, "session_offsets", "int64", {kAny});
    view.n_items = length(arrays, "row_offsets") - 1;
    view.n_sessions = length(arrays, "session_offsets") - 1;
    if (view.n_items < 0) throw py::value_error("row_offsets must hold at least the 0 that they begin with");
    if (view.n_sessions < 0) throw py::value_error("session_offsets must hold at least the 0 that they begin with");
    view.neighbours = named<std::int32_t>(arrays, "neighbours", "int32", {kAny});
    bound.n_pairs = length(arrays, "neighbours");
    view.latest = named<std::int32_t>(arrays, "latest", "int32", {bound.n_pairs});
    view.values = named<std::uint16_t>(arrays, "values", "uint16", {bound.n_pairs, kPairKinds});
    view.totals = named<float>(arrays, "totals", "float32", {view.n_items, kPairKinds});
    view.counts = named<std::int32_t>(arrays, "counts", "int32", {view.n_items, kCountKinds});
    view.post_offsets = named<std::int64_t>(arrays, "post_offsets", "int64", {view.n_items + 1});
    view.postings = named<std::int32_t>(arrays, "postings", "int32", {kAny});
    bound.n_postings = length(arrays, "postings");
    view.session_items = named<std::int32_t>(arrays, "session_items", "int32", {kAny});
    bound.n_clicks = length(arrays, "session_items");
    return bound;
}

}  // namespace mtaw
