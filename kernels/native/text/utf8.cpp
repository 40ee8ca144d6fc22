#include "text/utf8.hpp"

#include <algorithm>

namespace mtaw {

bool is_utf8(std::string_view bytes, bool surrogates) {
    for (std::size_t i = 0; i < bytes.size();) {
        const auto first = static_cast<std::uint8_t>(bytes[i]);
        if (first < 0x80) {
            ++i;
            continue;
        }
        const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
        if (first < 0xC2 || first > 0xF4 || i + length > bytes.size()) return false;
        std::uint32_t character = first & (0x7FU >> length);
        for (std::size_t j = 1; j < length; ++j) {
            const auto next = static_cast<std::uint8_t>(bytes[i + j]);
            if ((next & 0xC0U) != 0x80) return false;
            character = character << 6 | (next & 0x3FU);
        }
        const bool surrogate = character >= 0xD800 && character < 0xE000;
        if ((surrogate && !surrogates) || character > 0x10FFFF || (length == 3 && character < 0x800) ||
            (length == 4 && character < 0x10000)) {
            return false;
        }
        i += length;
    }
    return true;
}

std::size_t count_characters(std::string_view text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<std::uint8_t>(c) & 0xC0U) != 0x80; }));
}

void append_utf8(std::string& out, std::uint32_t character) {
    const auto tail = [&](int shift) { out += static_cast<char>(0x80U | (character >> shift & 0x3FU)); };
    if (character < 0x80) {
        out += static_cast<char>(character);
    } else if (character < 0x800) {
        out += static_cast<char>(0xC0U | character >> 6);
        tail(0);
    } else if (character < 0x10000) {
        out += static_cast<char>(0xE0U | character >> 12);
        tail(6);
        tail(0);
    } else {
        out += static_cast<char>(0xF0U | character >> 18);
        tail(12);
        tail(6);
        tail(0);
    }
}

std::string shown(std::string_view text, std::size_t max_length) {
    if (!is_utf8(text)) return "(not UTF-8)";
    std::string out = "'";
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (out.size() > max_length) {
            while (!out.empty() && (static_cast<std::uint8_t>(out.back()) & 0xC0U) == 0x80) out.pop_back();
            if (static_cast<std::uint8_t>(out.back()) >= 0xC0) out.pop_back();
            return out + "'..";
        }
        // Characters that end a line beyond ASCII: U+0085, U+2028, U+2029.
        const std::string_view next = text.substr(i, 3);
        const bool is_break = next == "\u2028" || next == "\u2029";
        if (is_break || next.starts_with("\xC2\x85")) {
            out += ' ';
            i += is_break ? 2 : 1;
        } else {
            out += static_cast<std::uint8_t>(c) < 0x20 || c == 0x7F ? ' ' : c;
        }
    }
    return out + "'";
}

}  // namespace mtaw
