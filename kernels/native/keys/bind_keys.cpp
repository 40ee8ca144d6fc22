// Python bindings of the sets of 64-bit keys. All of it is called with the GIL.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <vector>

#include "bindings.hpp"
#include "keys/key_sets.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

py::array_t<std::uint64_t> array_of(const std::vector<std::uint64_t>& values) {
    return py::array_t<std::uint64_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace

void bind_keys(py::module_& module) {
    py::class_<RecentKeys>(module, "RecentKeys")
        .def(py::init<std::size_t>(), py::arg("most"))
        .def("add", &RecentKeys::add, py::arg("key"))
        .def(
            "latest", [](const RecentKeys& keys, std::size_t count) { return array_of(keys.latest(count)); },
            py::arg("count"))
        .def("__contains__", &RecentKeys::contains, py::arg("key"))
        .def("__len__", &RecentKeys::size)
        .def_property_readonly("n_bytes", &RecentKeys::n_bytes);
    py::class_<SessionHandles>(module, "SessionHandles")
        .def(py::init<>())
        .def("add", &SessionHandles::add, py::arg("key"))
        .def("take", &SessionHandles::take, py::arg("key"))
        .def("__len__", [](const SessionHandles& sessions) { return sessions.keys().size(); })
        .def_property_readonly("keys", [](const SessionHandles& sessions) { return array_of(sessions.keys()); })
        .def_property_readonly("n_bytes", &SessionHandles::n_bytes);
}

}  // namespace mtaw
