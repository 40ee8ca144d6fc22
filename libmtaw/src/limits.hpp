// Limits that calls and events share, and the time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace mtaw {

constexpr std::int64_t kLatestMoment = 4'102'444'800'000;                   // the year 2100, in Unix milliseconds
constexpr std::size_t kMaxContextColumns = 8, kMaxContextCharacters = 200;  // as mtaw_fast/data/context.py

// As other_unit of mtaw_fast/errors/__init__.py.
inline std::string other_unit(std::int64_t time) {
    const auto in = [](const char* unit, std::int64_t milliseconds) {
        return std::string(" is in ") + unit + "; write it in milliseconds, " + std::to_string(milliseconds);
    };
    const auto fits = [](std::int64_t time) { return time >= 1'000'000'000'000 && time <= kLatestMoment; };
    if (time > 0 && time <= kLatestMoment / 1000 && fits(time * 1000)) return in("seconds", time * 1000);
    if (fits(time / 1000)) return in("microseconds", time / 1000);
    if (fits(time / 1'000'000)) return in("nanoseconds", time / 1'000'000);
    return "";
}

// Unix milliseconds.
inline std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace mtaw
