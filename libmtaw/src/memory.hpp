// The allocator of everything that the library makes.
#pragma once

#include "mtaw.h"

namespace mtaw {

// False if something was allocated already.
bool set_allocator(const mtaw_allocator& allocator);

}  // namespace mtaw
