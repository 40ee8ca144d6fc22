// Checks shapes and types, releases the GIL, calls the kernel.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "pack/pack.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

constexpr std::int64_t kMaxCapacity = 65536;

py::array_t<std::int32_t> copied(const std::vector<std::int32_t>& values) {
    py::array_t<std::int32_t> array(static_cast<py::ssize_t>(values.size()));
    std::copy(values.begin(), values.end(), array.mutable_data());
    return array;
}

py::tuple pack(const py::array& offsets, std::int64_t capacity, std::int64_t min_tiles) {
    const std::int64_t* data = checked_data<std::int64_t>(offsets, 1, "offsets", "int64");
    if (offsets.shape(0) < 1) throw py::value_error("offsets must have at least one entry, 0");
    if (capacity < 1 || capacity > kMaxCapacity) {
        throw py::value_error("capacity must be in 1.." + std::to_string(kMaxCapacity) + ", not " +
                              std::to_string(capacity));
    }
    TilePlan plan;
    {
        const Unlocked unlocked;
        plan = pack_tiles(data, offsets.shape(0) - 1, capacity, min_tiles);
    }
    return py::make_tuple(copied(plan.slot_click), copied(plan.slot_begin),
                          copied(plan.tile_range).reshape({py::ssize_t{-1}, py::ssize_t{2}}));
}

}  // namespace

void bind_pack(py::module_& module) {
    module.def("pack_tiles", &pack, py::arg("offsets"), py::arg("capacity"), py::arg("min_tiles"),
               "Packs whole sessions into tiles; see mtaw_fast.kernels.native.pack.pack_tiles.");
}

}  // namespace mtaw
