// Prefetches memory before it is used.
#pragma once

#include <algorithm>
#include <cstdint>

#include "compiler.hpp"

namespace mtaw {

constexpr std::int64_t kWarm = 8;  // cache lines that are prefetched, of a row
constexpr std::int64_t kLineBytes = 64;

// The first kWarm lines of begin[count].
template <typename T>
void prefetch(const T* begin, std::int64_t count) {
    const auto* const bytes = reinterpret_cast<const char*>(begin);
    const std::int64_t end = std::min(count * static_cast<std::int64_t>(sizeof(T)), kWarm * kLineBytes);
    for (std::int64_t at = 0; at < end; at += kLineBytes) MTAW_PREFETCH(bytes + at);
}

}  // namespace mtaw
