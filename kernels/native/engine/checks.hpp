// Checks of a caller's arguments before the engine uses them. The bindings call these checks, as
// must every other caller. All throw std::invalid_argument.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/engine.hpp"

namespace mtaw {

// Conditions of a call over n_items: `allowed`, if it is given, of n_allowed bytes, has a bit an item; the excluded ids
// ascend.
void check_conditions(const Conditions& conditions, std::optional<std::int64_t> n_allowed, std::int64_t n_items);

// The offsets of `sessions` rise from 0 to n_clicks, with no empty session.
void check_sessions(const PackedSessions& sessions, std::int64_t n_clicks);

// Checks that a growing session has n_clicks >= 1 clicks, of which the last `n_new` are new.
void check_growing(std::int64_t n_clicks, std::int64_t n_new);

}  // namespace mtaw
