// Times in Unix milliseconds, and what was meant for one.
#pragma once

#include <cstdint>
#include <string>

namespace mtaw {

constexpr std::int64_t kLatestMoment = 4'102'444'800'000;  // the year 2100

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

}  // namespace mtaw
