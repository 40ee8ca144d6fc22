// Python bindings of the id table: made over numpy arrays, queried with lists of any objects.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "ids/python_ids.hpp"
#include "python_objects.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

template <typename T>
const T* vector_of(const py::array& array, std::int64_t length, const char* name, const char* type) {
    const T* data = checked_data<T>(array, 1, name, type);
    if (array.shape(0) != length) {
        throw py::value_error(std::string(name) + " must have " + std::to_string(length) + " entries, not " +
                              std::to_string(array.shape(0)));
    }
    return data;
}

BoundIds ids_of_ints(const py::array& values, const py::array& sorted, const py::array& order) {
    const std::int64_t n_items = order.size();
    return {IdTable::of_ints(vector_of<std::int64_t>(values, n_items, "values", "int64"),
                             vector_of<std::int64_t>(sorted, n_items, "sorted", "int64"),
                             vector_of<std::int32_t>(order, n_items, "order", "int32"), n_items),
            py::make_tuple(values, sorted, order)};
}

// The UTF-8 bytes of N texts, end to end, and where each begins.
struct Texts {
    const char* blob;
    const std::int64_t* offsets;
    std::int64_t n_items;
};

Texts texts_of(const py::array& blob, const py::array& offsets) {
    const auto* bytes = checked_data<std::uint8_t>(blob, 1, "blob", "uint8");
    const auto* ends = checked_data<std::int64_t>(offsets, 1, "offsets", "int64");
    const std::int64_t n_items = offsets.size() - 1;
    check_texts(ends, n_items, blob.size());
    return {reinterpret_cast<const char*>(bytes), ends, n_items};
}

BoundIds ids_of_texts(const py::array& blob, const py::array& offsets, const py::array& slots) {
    const Texts texts = texts_of(blob, offsets);
    const auto* entries = checked_data<std::uint64_t>(slots, 1, "slots", "uint64");
    const auto n_slots = static_cast<std::size_t>(slots.size());
    if (!std::has_single_bit(n_slots)) throw py::value_error("slots must be a power of two in number");
    return {IdTable::of_texts(texts.blob, texts.offsets, texts.n_items, entries, n_slots),
            py::make_tuple(blob, offsets, slots)};
}

py::array_t<std::uint64_t> slots_of(const py::array& blob, const py::array& offsets) {
    const Texts texts = texts_of(blob, offsets);
    const std::size_t n_slots = slot_count(texts.n_items);
    py::array_t<std::uint64_t> slots(static_cast<py::ssize_t>(n_slots));
    std::uint64_t* entries = slots.mutable_data();
    std::fill_n(entries, n_slots, 0);
    if (fill_slots(texts.blob, texts.offsets, texts.n_items, entries, n_slots) != kUnknownId) {
        throw py::value_error("an id occurs twice");
    }
    return slots;
}

// A list or tuple as it is, anything else copied into a list.
py::object fast_sequence(const py::sequence& external_ids) {
    auto fast = py::reinterpret_steal<py::object>(PySequence_Fast(external_ids.ptr(), "ids must be a sequence"));
    if (!fast) throw py::error_already_set();
    return fast;
}

py::array_t<std::int32_t> lookup(const BoundIds& ids, const py::sequence& external_ids) {
    const std::vector<std::int32_t> found = find_objects(ids, fast_sequence(external_ids).ptr());
    return py::array_t<std::int32_t>(static_cast<py::ssize_t>(found.size()), found.data());
}

py::array_t<std::int32_t> known(const BoundIds& ids, const py::sequence& external_ids) {
    std::vector<std::int32_t> found = find_objects(ids, fast_sequence(external_ids).ptr());
    std::erase(found, kUnknownId);
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return py::array_t<std::int32_t>(static_cast<py::ssize_t>(found.size()), found.data());
}

py::list external(const BoundIds& ids, const py::array& internal) {
    const auto* data = checked_data<std::int32_t>(internal, 1, "internal", "int32");
    for (py::ssize_t i = 0; i < internal.size(); ++i) {
        if (data[i] < 0 || data[i] >= ids.size()) {
            throw py::index_error("internal id " + std::to_string(data[i]) + " is outside 0.." +
                                  std::to_string(ids.size() - 1));
        }
    }
    return external_list(ids, data, internal.size());
}

BoundIds extended(const BoundIds& ids, const py::dict& internal_ids, const py::tuple& items) {
    if (internal_ids.size() > items.size())
        throw py::value_error("each of the internal ids must be that of one of the items");
    return {ids.table, ids.arrays, AddedIds{internal_ids, items}};
}

}  // namespace

const BoundIds& bound_ids_of(py::handle object) { return py::cast<const BoundIds&>(object); }

void bind_ids(py::module_& module) {
    py::class_<BoundIds>(module, "IdTable")
        .def_static("of_ints", &ids_of_ints, py::arg("values"), py::arg("sorted"), py::arg("order"))
        .def_static("of_texts", &ids_of_texts, py::arg("blob"), py::arg("offsets"), py::arg("slots"))
        .def_static("slots_of", &slots_of, py::arg("blob"), py::arg("offsets"))
        .def("extended", &extended, py::arg("internal_ids"), py::arg("items"),
             "The same table with other ids behind its own: a dict and a tuple that must not change afterwards.")
        .def("__len__", [](const BoundIds& ids) { return ids.size(); })
        .def("lookup", &lookup, py::arg("ids"), "int32[n]: internal ids of external ones, -1 where unknown.")
        .def("known", &known, py::arg("ids"), "int32[..]: the distinct internal ids of known external ones, ascending.")
        .def("external", &external, py::arg("internal"), "External ids of internal ones int32[n].");
}

}  // namespace mtaw
