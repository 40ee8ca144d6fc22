#include "records/records.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>

namespace mtaw {
namespace {

constexpr std::size_t kFrame = 9;       // bytes before the JSON
constexpr std::size_t kNearby = 4'096;  // bytes between two ranges that are written as one: the disk writes whole pages
constexpr std::string_view kSession = "{\"session\":\"";

using CrcTables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr CrcTables crc_tables() {
    CrcTables tables{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = (value & 1U) != 0 ? value >> 1 ^ 0xEDB88320U : value >> 1;
        tables[0][i] = value;
    }
    for (std::size_t k = 1; k < 8; ++k) {
        for (std::size_t i = 0; i < 256; ++i)
            tables[k][i] = tables[k - 1][i] >> 8 ^ tables[0][tables[k - 1][i] & 0xFFU];
    }
    return tables;
}

// Whether the checksum is one, and which: 8 lowercase digits.
std::optional<std::uint32_t> checksum_of(std::string_view line) {
    std::uint32_t value = 0;
    if (line.size() < kFrame || line[kFrame - 1] != ' ') return std::nullopt;
    for (const char c : line.substr(0, kFrame - 1)) {
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return std::nullopt;
        value = value << 4 | static_cast<std::uint32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return value;
}

// The id in the JSON of a click, if it needs no escapes; null data otherwise.
std::string_view session_of(std::string_view json) {
    if (!json.starts_with(kSession)) return {};
    const std::string_view rest = json.substr(kSession.size());
    const std::size_t end = rest.find_first_of("\"\\");
    return end == std::string_view::npos || rest[end] != '"' ? std::string_view{} : rest.substr(0, end);
}

}  // namespace

std::uint32_t crc32(std::string_view text) {
    static constexpr CrcTables kTables = crc_tables();
    std::uint32_t value = 0xFFFFFFFFU;
    std::size_t i = 0;
    // Eight bytes at a time: one at a time takes four times as long.
    for (; i + 8 <= text.size(); i += 8) {
        std::uint32_t next = 0;
        std::array<unsigned char, 8> bytes;
        std::memcpy(bytes.data(), text.data() + i, 8);
        for (std::size_t k = 0; k < 4; ++k) bytes[k] ^= static_cast<unsigned char>(value >> (8 * k));
        for (std::size_t k = 0; k < 8; ++k) next ^= kTables[7 - k][bytes[k]];
        value = next;
    }
    for (; i < text.size(); ++i) value = value >> 8 ^ kTables[0][(value ^ static_cast<unsigned char>(text[i])) & 0xFFU];
    return ~value;
}

void add_record(std::string& out, std::string_view json) {
    std::array<char, kFrame + 1> frame;
    std::snprintf(frame.data(), frame.size(), "%08x ", static_cast<unsigned>(crc32(json)));
    out.append(frame.data(), kFrame);
    out += json;
    out += '\n';
}

Redaction redact_lines(char* block, std::size_t size, const ForgottenSessions& forgotten, std::int64_t last) {
    Redaction out;
    for (std::size_t begin = 0; begin < size;) {
        const void* const newline = std::memchr(block + begin, '\n', size - begin);
        const std::size_t end =
            newline == nullptr ? size : static_cast<std::size_t>(static_cast<const char*>(newline) - block);
        const auto after = static_cast<std::int64_t>(end) + 1;
        if (after >= last) break;
        const std::string_view line(block + begin, end - begin);
        const Range range{begin, end};
        begin = end + 1;
        if (line.find_first_not_of(' ') == std::string_view::npos) continue;
        const std::optional<std::uint32_t> checksum = checksum_of(line);
        const std::string_view session = checksum ? session_of(line.substr(kFrame)) : std::string_view{};
        if (session.data() == nullptr) {
            out.unclear.push_back(range);
            continue;
        }
        const auto found = forgotten.find(session);
        if ((found == forgotten.end() || after >= found->second) && crc32(line.substr(kFrame)) == *checksum) continue;
        std::memset(block + range.begin, ' ', line.size());
        ++out.count;
        if (!out.changed.empty() && range.begin < out.changed.back().end + kNearby) {
            out.changed.back().end = range.end;
        } else {
            out.changed.push_back(range);
        }
    }
    return out;
}

}  // namespace mtaw
