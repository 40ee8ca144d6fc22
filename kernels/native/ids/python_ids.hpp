// Python's side of the id table: ids straight from a list's objects, and back. All of it needs the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "ids/id_table.hpp"

namespace mtaw {

// The internal id of any Python object, or kUnknownId. An id of the table's own type alone can be known: str (UTF-8,
// lone surrogates passed), or int and numpy's integers within int64; a bool is no id. Never raises for an odd object.
std::int32_t find_object(const IdTable& table, PyObject* id);

// The external id (int or str) of internal id 0..N-1: a new reference.
pybind11::object external_object(const IdTable& table, std::int32_t internal);

// A list of the external ids of `count` internal ones.
pybind11::list external_list(const IdTable& table, const std::int32_t* internal, std::int64_t count);

}  // namespace mtaw
