// Records of an event log: one line each, `<CRC-32 in 8 hex digits> <JSON>`, as mtaw_fast/online/log/segment.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mtaw {

// CRC-32 as in zlib.
std::uint32_t crc32(std::string_view text);

// Appends the record of an event's JSON, with its newline.
void add_record(std::string& out, std::string_view json);

// Bytes [begin, end) of a block.
struct Range {
    std::size_t begin, end;
};

// Clicks of a session go that end, with their newline, before its offset in the block.
using ForgottenSessions = std::unordered_map<std::string_view, std::int64_t>;

struct Redaction {
    std::int64_t count = 0;      // lines that were overwritten
    std::vector<Range> changed;  // what is to be written: few ranges, so that some hold whole lines that stay
    std::vector<Range> unclear;  // lines that only their JSON decides on
};

// Overwrites clicks of these sessions, and lines with a wrong checksum that end before `last`, with spaces. The block
// begins with a line, and its last line may lack the newline.
Redaction redact_lines(char* block, std::size_t size, const ForgottenSessions& forgotten, std::int64_t last);

}  // namespace mtaw
