// How far a bundle has learned from a log of events (mtaw_fast/memory/log_progress.py).
#pragma once

#include <cstdint>

#include "bundle/tensors.hpp"

namespace mtaw {

// Throws BundleError unless everything points into a model of so many items and sessions.
void check_learned(const TensorFile& file, std::int64_t n_items, std::int64_t n_sessions);

}  // namespace mtaw
