// Where a session falls when sessions are split by shares.
#pragma once

#include <string_view>

namespace mtaw {

// A number 0 <= x < 1 for a text, as point_of of mtaw_fast/data/session_point.py: BLAKE2b (RFC 7693) of 8 bytes.
double point_of(std::string_view text);

}  // namespace mtaw
