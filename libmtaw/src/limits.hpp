// Limits that calls and events share, and the time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace mtaw {

constexpr std::size_t kMaxContextColumns = 8, kMaxContextCharacters = 200;  // as mtaw_fast/data/context.py

// Unix milliseconds.
inline std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace mtaw
