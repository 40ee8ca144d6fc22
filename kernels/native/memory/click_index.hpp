// The clicks of every item, and what a row's builder must know of each session.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/tables.hpp"

namespace mtaw {

struct ItemClick {
    std::int32_t index;  // in the packed items
    std::int32_t session;
};

struct ClickIndex {
    std::vector<std::int64_t> offsets;   // [N + 1]
    std::vector<ItemClick> clicks;       // [T] item by item, in order of time
    std::vector<std::uint8_t> first;     // [T] whether it is its session's first click on the item
    std::vector<std::int32_t> distinct;  // [S] items of each session
    std::vector<std::int32_t> sessions;  // [N] that hold the item
};

// The offsets run from 0 to T. Throws std::invalid_argument if they descend in between or there are more than
// 2^31 - 1 clicks or sessions, std::out_of_range on an item outside 0..N-1.
ClickIndex index_clicks(const PastSessions& sessions);

}  // namespace mtaw
