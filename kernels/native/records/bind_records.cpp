// Python binding of the records of an event log.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "records/records.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

using Ranges = std::vector<std::pair<std::size_t, std::size_t>>;

Ranges ranges_of(const std::vector<Range>& ranges) {
    Ranges out;
    out.reserve(ranges.size());
    for (const Range& range : ranges) out.emplace_back(range.begin, range.end);
    return out;
}

// With the GIL: the block may be resized by others.
py::tuple redact(const py::bytearray& block, const std::vector<std::pair<std::string, std::int64_t>>& forgotten,
                 std::int64_t last) {
    ForgottenSessions sessions;
    for (const auto& [session, offset] : forgotten) sessions.emplace(session, offset);
    const Redaction out = redact_lines(PyByteArray_AS_STRING(block.ptr()),
                                       static_cast<std::size_t>(PyByteArray_GET_SIZE(block.ptr())), sessions, last);
    return py::make_tuple(out.count, ranges_of(out.changed), ranges_of(out.unclear));
}

}  // namespace

void bind_records(py::module_& module) {
    module.def("redact_lines", &redact, py::arg("block"), py::arg("forgotten"), py::arg("last"));
}

}  // namespace mtaw
