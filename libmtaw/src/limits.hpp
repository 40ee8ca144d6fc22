// Limits that calls and events share, and the time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace mtaw {

constexpr std::int64_t kLatestMoment = 4'102'444'800'000;                   // the year 2100, in Unix milliseconds
constexpr std::size_t kMaxContextColumns = 8, kMaxContextCharacters = 200;  // as mtaw_fast/data/context.py

// From 2001 on as Unix seconds; as milliseconds, days of January 1970.
inline bool looks_like_seconds(std::int64_t time) { return time >= 1'000'000'000 && time < kLatestMoment / 1000; }

// Unix milliseconds.
inline std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace mtaw
