// Python's side of the id table: ids straight from a list's objects, and back. All of it needs the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "ids/bound_ids.hpp"

namespace mtaw {

// The internal ids of a list's or tuple's objects, kUnknownId for others. An id of the table's own type alone can be
// known: str (UTF-8, lone surrogates passed), or int and numpy's integers within int64; a bool is no id. Never raises
// for an odd object. Should one of them change the list, then what it holds at each position when its turn comes
// counts.
std::vector<std::int32_t> find_objects(const BoundIds& ids, PyObject* sequence);

// A list of the external ids of `count` internal ones.
pybind11::list external_list(const BoundIds& ids, const std::int32_t* internal, std::int64_t count);

}  // namespace mtaw
