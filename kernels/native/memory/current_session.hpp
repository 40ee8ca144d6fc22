// The session being ranked, if the delta contains it: its own clicks never count as evidence for it.
//
// Without this, a session that is learned while it grows would find its own clicks in the tables. The ranker was
// trained without that.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "memory/delta_row.hpp"
#include "memory/own_items.hpp"

namespace mtaw {

struct CurrentSession {
    std::int32_t slot = -1;                                            // -1 = not in the delta
    std::int32_t stamp = -2;                                           // no session's
    std::int64_t position = std::numeric_limits<std::int64_t>::max();  // in the delta's order
    std::int64_t number = std::numeric_limits<std::int64_t>::max();    // behind the sessions of the tables

    [[nodiscard]] bool found() const { return slot >= 0; }
    // Another session's position or number once this one is taken out.
    [[nodiscard]] std::int64_t position_without(std::int64_t other) const { return other - (other > position ? 1 : 0); }
    [[nodiscard]] std::int64_t number_without(std::int64_t other) const { return other - (other > number ? 1 : 0); }
};

// The current session's part of the row of one of its items.
struct OwnEvidence {
    struct Pair {
        std::int32_t neighbor;
        double sums[kFixedKinds];
    };
    std::vector<Pair> pairs;
    double totals[kFixedKinds] = {};

    // Null if the session adds nothing to the pair.
    [[nodiscard]] const Pair* find(std::int32_t neighbor) const {
        for (const Pair& pair : pairs) {
            if (pair.neighbor == neighbor) return &pair;
        }
        return nullptr;
    }
};

// A row's total of one kind, without the current session's part.
inline float total_without(float total, int kind, const OwnEvidence* own_evidence) {
    return own_evidence == nullptr ? total : std::max(total - static_cast<float>(own_evidence->totals[kind]), 0.0F);
}

// Computes it for every own item u of clicks[n_clicks], into rows[u]. once: whether the session counts a pair once.
void list_own_evidence(const std::int32_t* clicks, std::int64_t n_clicks, const OwnItems& own,
                       const MemorySettings& settings, bool once, std::vector<OwnEvidence>& rows);

}  // namespace mtaw
