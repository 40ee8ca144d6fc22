// The id table as Python holds it: the views together with the arrays that they look into.
#pragma once

#include <pybind11/pybind11.h>

#include "ids/id_table.hpp"

namespace mtaw {

struct BoundIds {
    IdTable table;
    pybind11::tuple arrays;  // kept alive
};

}  // namespace mtaw
