// What one binding file hands to another: the C++ object inside a Python one, alive as long as that is.
// Each throws py::cast_error where the object is of another class.
#pragma once

#include <pybind11/pybind11.h>

#include "encode/encoder.hpp"
#include "encode/session.hpp"
#include "ids/bound_ids.hpp"
#include "memory/delta.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"
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

}  // namespace mtaw
