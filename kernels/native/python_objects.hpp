// What one binding file hands to another: the C++ object inside a Python one, alive as long as that is.
// Each throws py::cast_error where the object is of another class.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "encode/encoder.hpp"
#include "encode/session.hpp"
#include "ids/python_ids.hpp"
#include "memory/delta.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"
#include "memory/tables.hpp"
#include "rank/applied_rules.hpp"
#include "scan/scanner.hpp"
#include "trends/trends.hpp"

namespace mtaw {

const BoundIds& bound_ids_of(pybind11::handle object);
const Encoder& encoder_of(pybind11::handle object);
SessionState& session_state_of(pybind11::handle object);
const Scanner& scanner_of(pybind11::handle object);
const MemoryDelta& memory_delta_of(pybind11::handle object);
const SessionMemory& session_memory_of(pybind11::handle object);
const RankerNet& ranker_of(pybind11::handle object);
// Only ever used without the GIL, so that nothing that Python runs in between can come back to it.
MemoryScratch& thread_memory_scratch();
const Trends& trends_of(pybind11::handle object);
const ItemContent* item_content_of(pybind11::handle object);  // null if it is None
TrendsScratch& thread_trends_scratch();
const AppliedRules& applied_rules_of(pybind11::handle object);

// What a mapping of the session memory's names to arrays holds. The view lives as long as the arrays.
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
