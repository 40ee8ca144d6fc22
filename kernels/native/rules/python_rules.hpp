// What rules share with other bindings.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "rules/arrange.hpp"

namespace mtaw {

using PinPairs = std::vector<std::pair<std::int64_t, std::int32_t>>;  // positions from 1, and items

// The C++ object inside a Python one, alive as long as that is. Throws py::cast_error if it is of another class.
const Arrangement& arrangement_of(pybind11::handle object);

// Throws IndexError on an item outside the arrangement's.
std::vector<Pin> pins_of(const Arrangement& arrangement, const PinPairs& pin_pairs);

}  // namespace mtaw
