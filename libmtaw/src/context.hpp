// The context of a visit as mtaw.h has it.
#pragma once

#include <cstdint>
#include <vector>

#include "bundle/bundle.hpp"
#include "mtaw.h"

namespace mtaw {

// One code a column; throws Failure on a column that there is not, or a value that is too long.
std::vector<std::uint16_t> context_codes(const ContextColumns& context, const mtaw_context* fields, std::size_t count);

}  // namespace mtaw
