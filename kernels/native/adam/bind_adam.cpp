// Checks shapes and types, releases the GIL, calls the kernel.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "adam/adam.hpp"
#include "bindings.hpp"
#include "buffers.hpp"
#include "isa.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

const float* vector_of(const py::array& array, const std::string& name, std::int64_t count, bool is_written) {
    const float* data = checked_data<float>(array, 1, name.c_str(), "float32");
    if (array.shape(0) != count) {
        throw py::value_error(name + " must have the weights' length " + std::to_string(count) + ", not " +
                              std::to_string(array.shape(0)));
    }
    if (is_written && !array.writeable()) throw py::value_error(name + " must be writeable");
    return data;
}

double step_of(const std::vector<std::vector<py::array>>& groups, double beta1, double beta2, double eps,
               double weight_decay, double clip_norm, std::int64_t step, double learning_rate, int threads,
               const std::optional<std::string>& isa) {
    std::vector<AdamGroup> found;
    for (std::size_t g = 0; g < groups.size(); ++g) {
        static constexpr const char* kNames[] = {"weights", "gradients", "first_moments", "second_moments"};
        if (groups[g].size() != 4) throw py::value_error("a group must have four arrays");
        const std::int64_t count = groups[g][0].size();
        const float* data[4];
        for (std::size_t k = 0; k < 4; ++k) {
            data[k] = vector_of(groups[g][k], "group " + std::to_string(g) + ": " + kNames[k], count, k != 1);
        }
        found.push_back(
            {count, const_cast<float*>(data[0]), data[1], const_cast<float*>(data[2]), const_cast<float*>(data[3])});
    }
    const Isa chosen = isa ? isa_named(isa->c_str()) : active_isa();
    const Unlocked unlocked;
    return adam_step(found, {beta1, beta2, eps, weight_decay, clip_norm}, step, learning_rate, chosen, threads);
}

}  // namespace

void bind_adam(py::module_& module) {
    module.def("adam_step", &step_of, py::arg("groups"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"),
               py::arg("weight_decay"), py::arg("clip_norm"), py::arg("step"), py::arg("learning_rate"),
               py::arg("threads"), py::arg("isa") = py::none(), "One AdamW step; see mtaw_fast.kernels.native.adam.");
}

}  // namespace mtaw
