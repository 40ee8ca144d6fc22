// The tables of the session memory as a query reads them.
#pragma once

#include "memory/tables.hpp"

namespace mtaw {

// The arrays are the caller's, and check_tables has passed them.
struct MemoryView : TablesView {
    double recency;  // MemorySettings', as the next one
    std::int64_t once_from = kNoSession;
};

}  // namespace mtaw
