// The id table as Python holds it: the views together with the arrays that they look into, and the ids that were added.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>

#include "ids/id_table.hpp"

namespace mtaw {

// External ids behind those of a table, as Python's own objects, which must not change afterwards: a dict of str or int
// to internal ids, and a tuple with the id of internal id N + i at i. An id that the table knows too means the added
// item.
struct AddedIds {
    pybind11::dict internal_ids;
    pybind11::tuple items;
};

struct BoundIds {
    IdTable table;
    pybind11::tuple arrays;  // kept alive
    std::optional<AddedIds> added = std::nullopt;

    std::int64_t size() const { return table.size() + (added ? static_cast<std::int64_t>(added->items.size()) : 0); }
};

}  // namespace mtaw
