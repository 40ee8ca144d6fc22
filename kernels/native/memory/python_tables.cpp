#include "memory/python_tables.hpp"

#include "named_arrays.hpp"

namespace py = pybind11;

namespace mtaw {
BoundTables bound_tables(const py::dict& arrays) {
    BoundTables bound{};
    TablesView& view = bound.view;
    view.row_offsets = named<std::int64_t>(arrays, "row_offsets", "int64", {kAny});
    view.session_offsets = named<std::int64_t>(arrays, "session_offsets", "int64", {kAny});
    view.n_items = length(arrays, "row_offsets") - 1;
    view.n_sessions = length(arrays, "session_offsets") - 1;
    if (view.n_items < 0) throw py::value_error("row_offsets must have at least one entry, 0");
    if (view.n_sessions < 0) throw py::value_error("session_offsets must have at least one entry, 0");
    view.neighbors = named<std::int32_t>(arrays, "neighbors", "int32", {kAny});
    bound.n_pairs = length(arrays, "neighbors");
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
