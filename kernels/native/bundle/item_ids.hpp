// The id table of a bundle.
#pragma once

#include <cstdint>
#include <string_view>

#include "bundle/tensors.hpp"
#include "ids/id_table.hpp"

namespace mtaw {

// verify: whether all ids are checked too. Throws BundleError on arrays that are no id table of n_items.
IdTable read_ids(const TensorFile& file, std::int64_t n_items, bool verify);

// The internal id of an external one; kUnknownId for an unknown one, and one of the other kind.
std::int32_t find_id(const IdTable& table, std::string_view text);
std::int32_t find_id(const IdTable& table, std::int64_t number);

}  // namespace mtaw
