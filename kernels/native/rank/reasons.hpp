// Why the items of a ranking were recommended.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/query.hpp"
#include "rules/arrange.hpp"

namespace mtaw {

struct Reason {
    // In the session; past sessions contain it together with `items` of the session; or close to the session's vector.
    enum class Kind : std::uint8_t { session, together, encoder } kind = Kind::encoder;
    enum class Rule : std::uint8_t { unchanged, boosted, buried, pinned } rule = Rule::unchanged;
    std::vector<std::int32_t> items;  // the closest first, at most kMaxReasons
};

// One for each item of `answer`, to `clicks`, oldest first. memory: null without one. An answer without rules has no
// boosts and pins.
std::vector<Reason> reasons_of(const SessionMemory* memory, const std::vector<std::int32_t>& clicks,
                               const Arranged& answer);

}  // namespace mtaw
