// Checks shapes and types, makes the arrays, releases the GIL, calls the builder.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "memory/build.hpp"
#include "memory/co_clicked.hpp"
#include "memory/delta.hpp"
#include "memory/tables.hpp"
#include "named_arrays.hpp"
#include "python_objects.hpp"
#include "unlocked.hpp"

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

MemorySettings memory_settings_of(const py::tuple& settings) {
    const auto whole = [&](std::size_t k) { return settings[k].cast<std::int64_t>(); };
    return {whole(0), whole(1), settings[2].cast<double>(),
            whole(3), whole(4), settings[5].is_none() ? kNoSession : whole(5)};
}

namespace {

PastSessions packed_sessions(const py::array& items, const py::array& offsets, std::int64_t n_items) {
    if (n_items < 0 || n_items > std::numeric_limits<std::int32_t>::max()) {
        throw py::value_error("n_items must be in 0..2147483647, not " + std::to_string(n_items));
    }
    const std::int32_t* clicks = checked_data<std::int32_t>(items, 1, "items", "int32");
    const std::int64_t* bounds = checked_data<std::int64_t>(offsets, 1, "offsets", "int64");
    if (offsets.shape(0) < 1) throw py::value_error("offsets must have at least one entry, 0");
    const std::int64_t count = offsets.shape(0) - 1;
    if (bounds[0] != 0 || bounds[count] != items.shape(0)) {
        throw py::value_error("offsets must run from 0 to " + std::to_string(items.shape(0)) +
                              ", the number of clicks, not from " + std::to_string(bounds[0]) + " to " +
                              std::to_string(bounds[count]));
    }
    return {clicks, bounds, count, n_items};
}

// The tables of sessions whose arrays are in `arrays` already.
void add_tables(py::dict& arrays, const PastSessions& sessions, const MemorySettings& settings, int threads,
                const OlderTables* older, ItemRange items) {
    std::unique_ptr<TableBuild> build;
    {
        const Unlocked unlocked;
        build = std::make_unique<TableBuild>(sessions, settings, threads, older, items);
    }
    TablesOut out{};
    out.n_items = sessions.n_items;
    out.n_sessions = sessions.count;
    out.row_offsets = new_array<std::int64_t>(arrays, "row_offsets", {sessions.n_items + 1});
    out.neighbors = new_array<std::int32_t>(arrays, "neighbors", {build->n_pairs()});
    out.latest = new_array<std::int32_t>(arrays, "latest", {build->n_pairs()});
    out.values = new_array<std::uint16_t>(arrays, "values", {build->n_pairs(), std::int64_t{kPairKinds}});
    out.totals = new_array<float>(arrays, "totals", {sessions.n_items, std::int64_t{kPairKinds}});
    out.counts = new_array<std::int32_t>(arrays, "counts", {sessions.n_items, std::int64_t{kCountKinds}});
    out.post_offsets = new_array<std::int64_t>(arrays, "post_offsets", {sessions.n_items + 1});
    out.postings = new_array<std::int32_t>(arrays, "postings", {build->n_postings()});
    const Unlocked unlocked;
    build->write(out);
    build.reset();
}

py::dict memory_build(const py::array& items, const py::array& offsets, std::int64_t n_items, const py::tuple& settings,
                      int threads, std::int64_t first, std::int64_t last) {
    const PastSessions sessions = packed_sessions(items, offsets, n_items);
    py::dict arrays;
    add_tables(arrays, sessions, memory_settings_of(settings), threads, nullptr, {first, last});
    arrays["session_items"] = items;
    arrays["session_offsets"] = offsets;
    return arrays;
}

py::dict memory_update(const py::dict& tables, const py::array& items, const py::array& offsets, std::int64_t expire,
                       const py::tuple& settings, int threads) {
    const BoundTables before = bound_tables(tables);
    const TablesView& view = before.view;
    const PastSessions new_sessions = packed_sessions(items, offsets, view.n_items);
    if (expire < 0 || expire > view.n_sessions) {
        throw py::value_error("expire must be in 0.." + std::to_string(view.n_sessions) + ", not " +
                              std::to_string(expire));
    }
    py::dict arrays;
    const std::int64_t n_dropped_clicks = view.session_offsets[expire], n_kept = view.n_sessions - expire;
    const std::int64_t n_kept_clicks = before.n_clicks - n_dropped_clicks;
    auto* all_items = new_array<std::int32_t>(arrays, "session_items", {n_kept_clicks + items.shape(0)});
    auto* all_offsets = new_array<std::int64_t>(arrays, "session_offsets", {n_kept + new_sessions.count + 1});
    {
        const std::int64_t n_new_clicks = items.shape(0);
        const Unlocked unlocked;
        std::copy_n(view.session_items + n_dropped_clicks, n_kept_clicks, all_items);
        std::copy_n(new_sessions.items, n_new_clicks, all_items + n_kept_clicks);
        for (std::int64_t s = 0; s <= n_kept; ++s) all_offsets[s] = view.session_offsets[expire + s] - n_dropped_clicks;
        for (std::int64_t s = 1; s <= new_sessions.count; ++s) {
            all_offsets[n_kept + s] = n_kept_clicks + new_sessions.offsets[s];
        }
    }
    const OlderTables older{view, expire};
    add_tables(arrays, {all_items, all_offsets, n_kept + new_sessions.count, view.n_items},
               memory_settings_of(settings), threads, &older, {0, view.n_items});
    return arrays;
}

void memory_check(const py::dict& tables, std::int64_t max_neighbors, std::int64_t max_postings) {
    const BoundTables bound = bound_tables(tables);
    const MemorySettings settings{0, 0, 0, max_neighbors, max_postings};
    const Unlocked unlocked;
    check_tables(bound.view, settings, bound.n_pairs, bound.n_postings, bound.n_clicks);
}

void check_item(std::int64_t item) {
    if (item < 0) throw py::index_error("item " + std::to_string(item) + " is below 0");
}

// What `read` returns for the tables, without what the delta (perhaps None) has forgotten.
template <typename Read>
auto with_tables(const py::dict& arrays, const py::object& delta, const Read& read) {
    const TablesView view = bound_tables(arrays).view;
    const MemoryDelta* const memory_delta = delta.is_none() ? nullptr : &memory_delta_of(delta);
    const Unlocked unlocked;
    return read(CoClicked(view, memory_delta));
}

py::tuple neighbors(const py::dict& tables, const py::object& delta, std::int64_t item) {
    check_item(item);
    const auto found =
        with_tables(tables, delta, [&](const CoClicked& co_clicked) { return co_clicked.neighbors(item); });
    const auto count = static_cast<py::ssize_t>(found.items.size());
    return py::make_tuple(py::array_t<std::int32_t>(count, found.items.data()),
                          py::array_t<float>(count, found.cosines.data()));
}

double cosine(const py::dict& tables, const py::object& delta, std::int64_t item, std::int64_t other) {
    check_item(item);
    check_item(other);
    return with_tables(tables, delta, [&](const CoClicked& co_clicked) { return co_clicked.cosine(item, other); });
}

}  // namespace

void bind_memory_tables(py::module_& module) {
    module.def("memory_build", &memory_build, py::arg("items"), py::arg("offsets"), py::arg("n_items"),
               py::arg("settings"), py::arg("threads"), py::arg("first"), py::arg("last"),
               "The tables of past sessions; see mtaw_fast.kernels.native.memory_tables.build_tables.");
    module.def("memory_update", &memory_update, py::arg("tables"), py::arg("items"), py::arg("offsets"),
               py::arg("expire"), py::arg("settings"), py::arg("threads"),
               "Tables with sessions gone and added; see mtaw_fast.kernels.native.memory_tables.update_tables.");
    module.def("memory_check", &memory_check, py::arg("tables"), py::arg("max_neighbors"), py::arg("max_postings"),
               "Refuses tables that a reader cannot follow blindly.");
}

void bind_co_clicked(py::module_& module) {
    module.def("co_clicked_neighbors", &neighbors, py::arg("tables"), py::arg("delta"), py::arg("item"));
    module.def("co_clicked_cosine", &cosine, py::arg("tables"), py::arg("delta"), py::arg("item"), py::arg("other"));
}

}  // namespace mtaw
