// What the clicks of one session say of an item and the items around it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "memory/tables.hpp"

namespace mtaw {

// The first clicks on each item of clicks[m], as a flag a click.
inline std::vector<std::uint8_t> first_clicks(const std::int32_t* clicks, std::int64_t m) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(m));
    for (std::int64_t t = 0; t < m; ++t) order[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return clicks[a] < clicks[b]; });
    std::vector<std::uint8_t> first(static_cast<std::size_t>(m), 0);
    for (std::size_t i = 0; i < order.size(); ++i) {
        first[static_cast<std::size_t>(order[i])] = i == 0 || clicks[order[i]] != clicks[order[i - 1]] ? 1 : 0;
    }
    return first;
}

// Calls near(other, distance) and same(other) for every click on `item`, as RowBuilder does, in order of time.
template <typename Near, typename Same>
void visit_session(std::int32_t item, const std::int32_t* clicks, std::int64_t m, const std::vector<std::uint8_t>& first,
                   const MemorySettings& settings, const Near& near, const Same& same) {
    for (std::int64_t t = 0; t < m; ++t) {
        if (clicks[t] != item) continue;
        for (std::int64_t j = std::max<std::int64_t>(0, t - settings.window); j < std::min(m, t + settings.window + 1); ++j) {
            if (clicks[j] != item) near(clicks[j], j - t);
        }
        if (first[static_cast<std::size_t>(t)] == 0) continue;
        for (std::int64_t j = std::max<std::int64_t>(0, t - settings.span); j < std::min(m, t + settings.span + 1); ++j) {
            if (first[static_cast<std::size_t>(j)] != 0 && clicks[j] != item) same(clicks[j]);
        }
    }
}

}  // namespace mtaw
