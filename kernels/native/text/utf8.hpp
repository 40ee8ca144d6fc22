// UTF-8, and how messages show it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mtaw {

// Whether the bytes are UTF-8. surrogates: as Python's "surrogatepass", which item ids may have been written with.
bool is_utf8(std::string_view bytes, bool surrogates = false);

// Characters of UTF-8 text.
std::size_t count_characters(std::string_view text);

void append_utf8(std::string& out, std::uint32_t character);

// In quotes, cut if it is long, without what would break a line.
std::string shown(std::string_view text, std::size_t max_length = 60);

}  // namespace mtaw
