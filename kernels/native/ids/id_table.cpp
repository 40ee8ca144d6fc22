#include "ids/id_table.hpp"

#include <bit>
#include <cstring>

namespace mtaw {
namespace {

static_assert(std::endian::native == std::endian::little, "words are hashed as they lie in memory");

constexpr std::uint64_t kTag = 0xffffffff00000000;

std::uint64_t mix(std::uint64_t h) {
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccd;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53;
    return h ^ (h >> 33);
}

std::string_view text_at(const char* blob, const std::int64_t* offsets, std::int64_t place) {
    return {blob + offsets[place], static_cast<std::size_t>(offsets[place + 1] - offsets[place])};
}

// The first place of keys[n], ascending, that is not under `key`; n where all are. The halving has no branch to
// mispredict: which half is taken is as good as random.
std::int64_t first_not_under(const std::int64_t* keys, std::int64_t n, std::int64_t key) {
    const std::int64_t* base = keys;
    while (n > 1) {
        const std::int64_t half = n / 2;
        base += base[half - 1] < key ? half : 0;
        n -= half;
    }
    return base - keys + (n == 1 && *base < key ? 1 : 0);
}

// The internal id of `text` and the slot where it stands, or kUnknownId and the first free slot of its run (n_slots
// where a damaged table has none).
struct Place {
    std::int32_t internal;
    std::size_t slot;
};

Place place_of(std::string_view text, std::uint64_t hash, const char* blob, const std::int64_t* offsets,
               std::int64_t n_items, const std::uint64_t* slots, std::size_t n_slots) {
    for (std::size_t step = 0; step < n_slots; ++step) {
        const std::size_t slot = (hash + step) & (n_slots - 1);
        const std::uint64_t entry = slots[slot];
        if (entry == 0) return {kUnknownId, slot};
        if ((entry ^ hash) & kTag) continue;
        const std::int64_t internal = static_cast<std::int64_t>(entry & ~kTag) - 1;
        if (internal >= 0 && internal < n_items && text_at(blob, offsets, internal) == text) {
            return {static_cast<std::int32_t>(internal), slot};
        }
    }
    return {kUnknownId, n_slots};
}

}  // namespace

std::uint64_t text_hash(std::string_view text) {
    std::uint64_t hash = text.size();
    const char* bytes = text.data();
    std::size_t left = text.size();
    for (; left >= 8; left -= 8, bytes += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes, 8);
        hash = mix(hash ^ word);
    }
    if (left > 0) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes, left);
        hash = mix(hash ^ word);
    }
    return hash;
}

std::size_t slot_count(std::int64_t n_items) { return std::bit_ceil(static_cast<std::size_t>(2 * n_items + 1)); }

std::int32_t fill_slots(const char* blob, const std::int64_t* offsets, std::int64_t n_items, std::uint64_t* slots,
                        std::size_t n_slots) {
    for (std::int64_t internal = 0; internal < n_items; ++internal) {
        const std::string_view text = text_at(blob, offsets, internal);
        const std::uint64_t hash = text_hash(text);
        const Place place = place_of(text, hash, blob, offsets, n_items, slots, n_slots);
        if (place.internal != kUnknownId) return place.internal;
        slots[place.slot] = (hash & kTag) | static_cast<std::uint64_t>(internal + 1);
    }
    return kUnknownId;
}

IdTable IdTable::of_ints(const std::int64_t* values, const std::int64_t* sorted, const std::int32_t* order,
                         std::int64_t n_items) {
    IdTable table;
    table.n_items_ = n_items;
    table.values_ = values;
    table.sorted_ = sorted;
    table.order_ = order;
    return table;
}

IdTable IdTable::of_texts(const char* blob, const std::int64_t* offsets, std::int64_t n_items,
                          const std::uint64_t* slots, std::size_t n_slots) {
    IdTable table;
    table.n_items_ = n_items;
    table.blob_ = blob;
    table.offsets_ = offsets;
    table.slots_ = slots;
    table.n_slots_ = n_slots;
    return table;
}

std::int32_t IdTable::find(std::int64_t id) const {
    const std::int64_t place = first_not_under(sorted_, n_items_, id);
    if (place >= n_items_ || sorted_[place] != id) return kUnknownId;
    const std::int32_t internal = order_[place];
    return internal >= 0 && internal < n_items_ ? internal : kUnknownId;
}

std::int32_t IdTable::find(std::string_view id) const {
    return place_of(id, text_hash(id), blob_, offsets_, n_items_, slots_, n_slots_).internal;
}

std::string_view IdTable::text_of(std::int64_t internal) const { return text_at(blob_, offsets_, internal); }

}  // namespace mtaw
