// Unix milliseconds of an ISO 8601 date.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mtaw {

// YYYY-MM-DD, or that with a T or a blank and HH:MM, HH:MM:SS or HH:MM:SS.fraction, and Z or an offset such as +01:00;
// UTC without one.
std::optional<std::int64_t> milliseconds_of(std::string_view text);

}  // namespace mtaw
