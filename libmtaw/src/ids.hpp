// External ids as mtaw.h has them.
#pragma once

#include <cstdint>
#include <vector>

#include "ids/id_table.hpp"
#include "mtaw.h"

namespace mtaw {

// A list of a caller.
struct IdList {
    const mtaw_id* ids;
    std::size_t count;
};

// Throws Failure on a list without a pointer. `name` names it.
IdList id_list(const char* name, const mtaw_id* ids, std::size_t count);

// Internal ids, kUnknownId for unknown ones.
std::vector<std::int32_t> lookup(const IdTable& table, IdList ids);
// The distinct internal ids of the known ones, ascending.
std::vector<std::int32_t> known(const IdTable& table, IdList ids);

}  // namespace mtaw
