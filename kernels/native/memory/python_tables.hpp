// The tables in numpy arrays, as Python holds them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "memory/tables.hpp"

namespace mtaw {

// What a mapping of the tables' names to arrays holds, where its lengths agree. The view lives as long as the arrays.
struct BoundTables {
    TablesView view;
    std::int64_t n_pairs, n_postings, n_clicks;
};

// Throws ValueError naming an array that is missing or of the wrong type or shape. What the arrays say is not looked
// at; check_tables does that.
BoundTables bound_tables(const pybind11::dict& arrays);

// From kernels.native.memory_tables.TableSettings.
MemorySettings memory_settings_of(const pybind11::tuple& settings);

}  // namespace mtaw
