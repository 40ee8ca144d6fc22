// Python's side of the id table: ids straight from a list's objects, and back. All of it needs the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "ids/id_table.hpp"

namespace mtaw {

// External ids behind those of a table, as Python's own objects, which must not change afterwards: a dict of str or int
// to internal ids, and a tuple with the id of internal id N + i at i. An id that the table knows too means the added
// item.
struct AddedIds {
    pybind11::dict internal_ids;
    pybind11::tuple items;
};

// The table as Python holds it: the views together with the arrays that they look into, and the ids that were added.
struct BoundIds {
    IdTable table;
    pybind11::tuple arrays;  // kept alive
    std::optional<AddedIds> added = std::nullopt;

    std::int64_t size() const { return table.size() + (added ? static_cast<std::int64_t>(added->items.size()) : 0); }
};

// The internal ids of a list's or tuple's objects, kUnknownId for others. An id of the table's own type alone can be
// known: str (UTF-8, lone surrogates passed), or int and numpy's integers within int64; a bool is no id. Never raises
// for an odd object. Should one of them change the list, then what it holds at each position when its turn comes
// counts.
std::vector<std::int32_t> find_objects(const BoundIds& ids, PyObject* sequence);

// A list of the external ids of `count` internal ones.
pybind11::list external_list(const BoundIds& ids, const std::int32_t* internal, std::int64_t count);

}  // namespace mtaw
