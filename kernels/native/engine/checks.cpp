#include "engine/checks.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace mtaw {

void check_conditions(const Conditions& conditions, std::optional<std::int64_t> n_allowed, std::int64_t n_items) {
    if (!std::is_sorted(conditions.excluded, conditions.excluded + conditions.n_excluded)) {
        throw std::invalid_argument("excluded ids must ascend");
    }
    if (n_allowed && *n_allowed != (n_items + 7) / 8) {
        throw std::invalid_argument("allowed has " + std::to_string(*n_allowed) + " bytes, not one bit for " +
                                    std::to_string(n_items) + " items");
    }
}

void check_sessions(const PackedSessions& sessions, std::int64_t n_clicks) {
    const std::int64_t count = sessions.count;
    bool fits = count >= 0 && sessions.offsets[0] == 0 && sessions.offsets[count] == n_clicks;
    for (std::int64_t b = 0; fits && b < count; ++b) fits = sessions.offsets[b] < sessions.offsets[b + 1];
    if (!fits) {
        throw std::invalid_argument("offsets must rise from 0 to the number of items, with no empty session");
    }
}

void check_growing(std::int64_t n_clicks, std::int64_t n_new) {
    if (n_clicks < 1 || n_new < 0 || n_new > n_clicks) {
        throw std::invalid_argument("a growing session needs at least one click, and 0..all of its clicks can be new");
    }
}

}  // namespace mtaw
