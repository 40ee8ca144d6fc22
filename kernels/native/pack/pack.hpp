// Bin packing of whole sessions into tiles of a fixed number of clicks, for kernels that hold a tile on chip.
#pragma once

#include <cstdint>
#include <vector>

namespace mtaw {

// A slot holds a click; tile k has the slots k * capacity .. (k + 1) * capacity - 1.
struct TilePlan {
    // The click in each slot, -1 in an empty one.
    std::vector<std::int32_t> slot_click;
    // The slot where the slot's session begins; its own number in an empty slot.
    std::vector<std::int32_t> slot_begin;
    // Pairs: the first and the last tile of the session that runs over the tile's edges, both the tile itself where
    // none does.
    std::vector<std::int32_t> tile_range;
};

// offsets int64[n_sessions + 1] of packed sessions, ascending from 0. capacity: slots a tile, 1..65536.
//
// Sessions are placed from the longest to the shortest, those of one length in their order. One longer than a tile
// takes new tiles, one after the other, and leaves the rest of its last tile to others. Any other goes whole into the
// tile with the fewest free slots that suffice, the lowest of several, or into a new one. The clicks of a session are
// in consecutive slots, in their order. Empty tiles are added up to `min_tiles`.
//
// Throws std::invalid_argument if offsets are no such offsets or there are more slots than int32 can number.
TilePlan pack_tiles(const std::int64_t* offsets, std::int64_t n_sessions, std::int64_t capacity,
                    std::int64_t min_tiles);

}  // namespace mtaw
