// Python bindings of items that are clicked together.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "memory/co_clicked.hpp"
#include "memory/delta.hpp"
#include "memory/python_tables.hpp"
#include "python_objects.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

void check_item(std::int64_t item) {
    if (item < 0) throw py::index_error("item " + std::to_string(item) + " is below 0");
}

// What `read` returns for the tables, without what the delta (perhaps None) has forgotten.
template <typename Read>
auto with_tables(const py::dict& arrays, const py::object& delta, const Read& read) {
    const TablesView view = bound_tables(arrays).view;
    const MemoryDelta* const memory_delta = delta.is_none() ? nullptr : &memory_delta_of(delta);
    const Unlocked unlocked;
    if (memory_delta == nullptr) return read(CoClicked(view));
    const auto lock = memory_delta->read();
    return read(CoClicked(view, &memory_delta->base()));
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

std::vector<std::vector<std::int32_t>> closest(const py::dict& tables, const py::object& delta, const py::array& own,
                                               const py::array& items) {
    const auto* const own_data = checked_data<std::int32_t>(own, 1, "own", "int32");
    const auto* const item_data = checked_data<std::int32_t>(items, 1, "items", "int32");
    const std::vector<std::int32_t> clicks(own_data, own_data + own.size());
    for (const std::int32_t item : clicks) check_item(item);
    for (std::int64_t i = 0; i < items.size(); ++i) check_item(item_data[i]);
    return with_tables(tables, delta, [&](const CoClicked& co_clicked) {
        std::vector<std::vector<std::int32_t>> found(static_cast<std::size_t>(items.size()));
        for (std::size_t i = 0; i < found.size(); ++i) {
            for (const std::size_t index : co_clicked.closest(item_data[i], clicks)) found[i].push_back(clicks[index]);
        }
        return found;
    });
}

}  // namespace

void bind_co_clicked(py::module_& module) {
    module.def("co_clicked_neighbors", &neighbors, py::arg("tables"), py::arg("delta"), py::arg("item"));
    module.def("co_clicked_cosine", &cosine, py::arg("tables"), py::arg("delta"), py::arg("item"), py::arg("other"));
    module.def("co_clicked_closest", &closest, py::arg("tables"), py::arg("delta"), py::arg("own"), py::arg("items"));
}

}  // namespace mtaw
