// Checks that tables read from a file are ones that a reader can use without further checks.
#pragma once

#include "memory/tables.hpp"

namespace mtaw {

// Throws std::invalid_argument naming the array and the index unless all offsets run from 0 up to the ends of their
// arrays; neighbors and clicks are items, `latest` and postings sessions, postings ascending; rows and postings are
// no longer than the settings allow; counts fit each other; values and totals are finite and not negative.
// Reads every array once.
void check_tables(const TablesView& tables, const MemorySettings& settings, std::int64_t n_pairs,
                  std::int64_t n_postings, std::int64_t n_clicks);

}  // namespace mtaw
