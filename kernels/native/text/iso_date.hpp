// Unix milliseconds of an ISO 8601 date.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mtaw {

// As Python's datetime.fromisoformat: YYYY-MM-DD, YYYYMMDD, YYYY-Www-D or YYYYWwwD, perhaps a T or another character
// and HH, HH:MM, HH:MM:SS or HH:MM:SS.fraction, with or without colons, and Z or an offset such as +01:00; UTC without
// one.
std::optional<std::int64_t> milliseconds_of(std::string_view text);

}  // namespace mtaw
