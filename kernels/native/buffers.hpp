// Checks on the arrays that Python hands over: type, rank, contiguity, alignment.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

namespace mtaw {

// The data of a C-contiguous array of `rank` axes and element type T. Throws ValueError naming `name`; `type` is T's
// name in words.
template <typename T>
const T* checked_data(const pybind11::array& array, int rank, const char* name, const char* type) {
    static constexpr const char* kRanks[] = {"scalar", "vector", "matrix", "array"};
    const auto expectation = [&] { return std::string(name) + " must be a C-contiguous " + type + " " + kRanks[rank]; };
    if (array.ndim() != rank) {
        throw pybind11::value_error(expectation() + ", not one of " + std::to_string(array.ndim()) + " dimensions");
    }
    if (!pybind11::isinstance<pybind11::array_t<T>>(array)) {
        throw pybind11::value_error(expectation() + ", not " +
                                    pybind11::cast<std::string>(pybind11::str(array.dtype())));
    }
    if ((array.flags() & pybind11::array::c_style) == 0) throw pybind11::value_error(expectation());
    // An empty one may be anywhere: nothing of it is read.
    if (array.size() > 0 && (array.flags() & pybind11::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) {
        throw pybind11::value_error(expectation() + ", aligned to its items in memory");
    }
    return static_cast<const T*>(array.data());
}

template <typename T>
const T* matrix(const pybind11::array& array, const char* name, const char* type) {
    return checked_data<T>(array, 2, name, type);
}

}  // namespace mtaw
