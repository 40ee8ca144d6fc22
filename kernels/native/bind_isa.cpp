#include <pybind11/pybind11.h>

#include <string>

#include "bindings.hpp"
#include "isa.hpp"

namespace mtaw {

void bind_isa(pybind11::module_& module) {
    module.def("cpu_isa", [] { return std::string(isa_name(cpu_isa())); });
    module.def("active_isa", [] { return std::string(isa_name(active_isa())); });
}

}  // namespace mtaw
