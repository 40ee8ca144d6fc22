// The vectors of items from their attributes (mtaw_fast/items/content_vectors.py).
#pragma once

#include <cstdint>

#include "bundle/tensors.hpp"

namespace mtaw {

// Throws BundleError unless it gives vectors of d numbers.
void check_content(const TensorFile& file, std::int64_t d);

}  // namespace mtaw
