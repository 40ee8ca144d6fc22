// Arrays in a dict, by name: those that Python hands over, and those that it gets.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "buffers.hpp"

namespace mtaw {

constexpr pybind11::ssize_t kAny = -1;

// The array of that name, of this shape; kAny = any extent of an axis.
template <typename T>
const T* named(const pybind11::dict& arrays, const char* name, const char* type,
               std::initializer_list<pybind11::ssize_t> shape) {
    namespace py = pybind11;
    if (!arrays.contains(name)) throw py::value_error(std::string("the array '") + name + "' is missing");
    const py::object object = arrays[name];
    // Anything else would be converted to an array that is gone when its data is read.
    if (!py::isinstance<py::array>(object)) throw py::value_error(std::string("'") + name + "' must be an array");
    const auto array = py::reinterpret_borrow<py::array>(object);
    const T* data = checked_data<T>(array, static_cast<int>(shape.size()), name, type);
    int axis = 0;
    for (const py::ssize_t extent : shape) {
        if (extent != kAny && array.shape(axis) != extent) {
            throw py::value_error(std::string(name) + " must have " + std::to_string(extent) + " entries on axis " +
                                  std::to_string(axis) + ", not " + std::to_string(array.shape(axis)));
        }
        ++axis;
    }
    return data;
}

// A new array in `arrays`, and where to write its data.
template <typename T>
T* new_array(pybind11::dict& arrays, const char* name, pybind11::array::ShapeContainer shape) {
    const pybind11::array_t<T> array(std::move(shape));
    arrays[name] = array;
    return const_cast<T*>(array.data());
}

// The extent of the first axis of an array that `named` has checked.
inline std::int64_t length(const pybind11::dict& arrays, const char* name) {
    return pybind11::reinterpret_borrow<pybind11::array>(arrays[name]).shape(0);
}

}  // namespace mtaw
