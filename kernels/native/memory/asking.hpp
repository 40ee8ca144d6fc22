// The session that asks, where the delta holds it: what it taught itself is left out of what it is told.
//
// Else a session that is learned while it grows would find its own clicks among the evidence, as no session did that
// the ranker was fitted on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "memory/delta_row.hpp"
#include "memory/own_items.hpp"

namespace mtaw {

struct AskingSession {
    std::int32_t slot = -1;  // -1 = the delta does not hold it
    std::int32_t stamp = -2;  // no session's
    std::int64_t place = std::numeric_limits<std::int64_t>::max();   // in the delta's order
    std::int64_t number = std::numeric_limits<std::int64_t>::max();  // behind the sessions of the tables

    [[nodiscard]] bool found() const { return slot >= 0; }
    // What another session's place or number is without this one.
    [[nodiscard]] std::int64_t place_without(std::int64_t other) const { return other - (other > place ? 1 : 0); }
    [[nodiscard]] std::int64_t number_without(std::int64_t other) const { return other - (other > number ? 1 : 0); }
};

// What it taught of one of its items: the part of the item's row that is its own.
struct TaughtRow {
    struct Pair {
        std::int32_t neighbor;
        double sums[kFixedKinds];
    };
    std::vector<Pair> pairs;
    double totals[kFixedKinds] = {};

    // Null where it taught nothing of them together.
    [[nodiscard]] const Pair* find(std::int32_t neighbor) const {
        for (const Pair& pair : pairs) {
            if (pair.neighbor == neighbor) return &pair;
        }
        return nullptr;
    }
};

// A row's total of one kind, without what the session that asks taught.
inline float total_without(float total, int kind, const TaughtRow* taught) {
    return taught == nullptr ? total : std::max(total - static_cast<float>(taught->totals[kind]), 0.0F);
}

// Of every own item u of clicks[m], into rows[u].
void list_taught(const std::int32_t* clicks, std::int64_t m, const OwnItems& own, const MemorySettings& settings,
                 std::vector<TaughtRow>& rows);

}  // namespace mtaw
