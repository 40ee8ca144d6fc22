#include "pack/pack.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>
#include <queue>
#include <stdexcept>
#include <string>
#include <utility>

namespace mtaw {
namespace {

constexpr std::int64_t kMaxSlots = std::numeric_limits<std::int32_t>::max();

void check_offsets(const std::int64_t* offsets, std::int64_t n_sessions) {
    if (offsets[0] != 0) throw std::invalid_argument("offsets must begin with 0, not " + std::to_string(offsets[0]));
    for (std::int64_t b = 0; b < n_sessions; ++b) {
        if (offsets[b + 1] < offsets[b]) {
            throw std::invalid_argument("offsets must not descend, but session " + std::to_string(b) + " has " +
                                        std::to_string(offsets[b]) + " .. " + std::to_string(offsets[b + 1]));
        }
    }
    if (offsets[n_sessions] > kMaxSlots) {
        throw std::invalid_argument(std::to_string(offsets[n_sessions]) +
                                    " clicks are more than int32 can number: pack fewer sessions at once");
    }
}

// Tiles with free slots, by how many are free; equally free tiles come by rising number.
class Rooms {
   public:
    explicit Rooms(std::int64_t capacity) : tiles_(static_cast<std::size_t>(capacity) + 1) {}

    void put(std::int64_t tile, std::int64_t free) {
        if (free > 0) tiles_[static_cast<std::size_t>(free)].push(tile);
    }

    // Removes and returns the tile with the fewest free slots, at least `length`, and their number; {-1, 0} if there is
    // none.
    std::pair<std::int64_t, std::int64_t> take(std::int64_t length) {
        for (std::size_t free = static_cast<std::size_t>(length); free < tiles_.size(); ++free) {
            if (tiles_[free].empty()) continue;
            const std::int64_t tile = tiles_[free].top();
            tiles_[free].pop();
            return {tile, static_cast<std::int64_t>(free)};
        }
        return {-1, 0};
    }

   private:
    using Lowest = std::priority_queue<std::int64_t, std::vector<std::int64_t>, std::greater<>>;
    std::vector<Lowest> tiles_;
};

class Packer {
   public:
    explicit Packer(std::int64_t capacity) : capacity_(capacity), open_tiles_(capacity) {}

    void place(std::int64_t first_click, std::int64_t length) {
        if (length <= capacity_) {
            const auto [tile, free] = open_tiles_.take(length);
            if (tile >= 0) {
                fill((tile + 1) * capacity_ - free, first_click, length);
                open_tiles_.put(tile, free - length);
                return;
            }
        }
        const std::int64_t first = n_tiles();
        const std::int64_t added = (length + capacity_ - 1) / capacity_;
        add_tiles(added);
        fill(first * capacity_, first_click, length);
        if (added > 1) span(first, first + added - 1);
        open_tiles_.put(first + added - 1, added * capacity_ - length);
    }

    void add_tiles(std::int64_t count) {
        const std::int64_t first_slot = n_tiles() * capacity_;
        if (count > (kMaxSlots - first_slot) / capacity_) {
            throw std::invalid_argument(std::to_string(n_tiles() + count) + " tiles of " + std::to_string(capacity_) +
                                        " slots are more than int32 can number: pack fewer sessions at once");
        }
        const std::int64_t slots = first_slot + count * capacity_;
        for (std::int64_t tile = n_tiles(), end = tile + count; tile < end; ++tile) {
            plan_.tile_range.insert(plan_.tile_range.end(), 2, static_cast<std::int32_t>(tile));
        }
        plan_.slot_click.resize(static_cast<std::size_t>(slots), -1);
        plan_.slot_begin.resize(static_cast<std::size_t>(slots));
        std::iota(plan_.slot_begin.begin() + first_slot, plan_.slot_begin.end(), static_cast<std::int32_t>(first_slot));
    }

    [[nodiscard]] std::int64_t n_tiles() const { return static_cast<std::int64_t>(plan_.tile_range.size() / 2); }
    TilePlan finish() { return std::move(plan_); }

   private:
    void fill(std::int64_t begin, std::int64_t first_click, std::int64_t length) {
        const auto clicks = plan_.slot_click.begin() + begin;
        std::iota(clicks, clicks + length, static_cast<std::int32_t>(first_click));
        std::fill_n(plan_.slot_begin.begin() + begin, length, static_cast<std::int32_t>(begin));
    }

    void span(std::int64_t first, std::int64_t last) {
        for (std::int64_t tile = first; tile <= last; ++tile) {
            plan_.tile_range[static_cast<std::size_t>(2 * tile)] = static_cast<std::int32_t>(first);
            plan_.tile_range[static_cast<std::size_t>(2 * tile + 1)] = static_cast<std::int32_t>(last);
        }
    }

    std::int64_t capacity_;
    Rooms open_tiles_;
    TilePlan plan_;
};

}  // namespace

TilePlan pack_tiles(const std::int64_t* offsets, std::int64_t n_sessions, std::int64_t capacity,
                    std::int64_t min_tiles) {
    check_offsets(offsets, n_sessions);
    const auto length = [&](std::int64_t b) { return offsets[b + 1] - offsets[b]; };
    std::vector<std::int64_t> order(static_cast<std::size_t>(n_sessions));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return length(a) > length(b); });

    Packer packer(capacity);
    for (const std::int64_t b : order) {
        if (length(b) == 0) break;  // the rest is empty too
        packer.place(offsets[b], length(b));
    }
    if (packer.n_tiles() < min_tiles) packer.add_tiles(min_tiles - packer.n_tiles());
    return packer.finish();
}

}  // namespace mtaw
