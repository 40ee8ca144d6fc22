// What the clicks of one session say of an item and the items around it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "memory/tables.hpp"

namespace mtaw {

// The first clicks on each item of clicks[n_clicks], as a flag a click.
inline std::vector<std::uint8_t> first_clicks(const std::int32_t* clicks, std::int64_t n_clicks) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(n_clicks));
    for (std::int64_t t = 0; t < n_clicks; ++t) order[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return clicks[a] < clicks[b]; });
    std::vector<std::uint8_t> first(static_cast<std::size_t>(n_clicks), 0);
    for (std::size_t i = 0; i < order.size(); ++i) {
        first[static_cast<std::size_t>(order[i])] = i == 0 || clicks[order[i]] != clicks[order[i - 1]] ? 1 : 0;
    }
    return first;
}

// Calls near(other, distance), in order of time, for the first clicks around the one at t of clicks [begin, end), which
// is a first click too. Distances count first clicks.
template <typename First, typename Near>
void visit_firsts(std::int64_t begin, std::int64_t t, std::int64_t end, std::int64_t window, const First& is_first,
                  const Near& near) {
    std::int64_t j = t, distance = 0;
    while (j > begin && distance < window) distance += is_first(--j) ? 1 : 0;
    for (; j < t; ++j) {
        if (is_first(j)) near(j, -distance--);
    }
    for (j = t + 1; j < end && distance < window; ++j) {
        if (is_first(j)) near(j, ++distance);
    }
}

// Calls near(other, distance) and same(other) for every click on `item`, as RowBuilder does, in order of time. once:
// whether the session counts a pair once.
template <typename Near, typename Same>
void visit_session(std::int32_t item, const std::int32_t* clicks, std::int64_t n_clicks,
                   const std::vector<std::uint8_t>& first, const MemorySettings& settings, bool once, const Near& near,
                   const Same& same) {
    const auto is_first = [&](std::int64_t t) { return first[static_cast<std::size_t>(t)] != 0; };
    for (std::int64_t t = 0; t < n_clicks; ++t) {
        if (clicks[t] != item) continue;
        if (once) {
            if (is_first(t)) {
                visit_firsts(0, t, n_clicks, settings.window, is_first,
                             [&](std::int64_t j, std::int64_t distance) { near(clicks[j], distance); });
            }
        } else {
            const std::int64_t end = std::min(n_clicks, t + settings.window + 1);
            for (std::int64_t j = std::max<std::int64_t>(0, t - settings.window); j < end; ++j) {
                if (clicks[j] != item) near(clicks[j], j - t);
            }
        }
        if (first[static_cast<std::size_t>(t)] == 0) continue;
        for (std::int64_t j = std::max<std::int64_t>(0, t - settings.span);
             j < std::min(n_clicks, t + settings.span + 1); ++j) {
            if (first[static_cast<std::size_t>(j)] != 0 && clicks[j] != item) same(clicks[j]);
        }
    }
}

}  // namespace mtaw
