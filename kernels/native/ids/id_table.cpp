#include "ids/id_table.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace mtaw {
namespace {

static_assert(std::endian::native == std::endian::little, "words are hashed as they lie in memory");

constexpr std::uint64_t kTag = 0xffffffff00000000;

std::uint64_t mix(std::uint64_t h) {
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccd;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53;
    return h ^ (h >> 33);
}

std::string_view text_at(const char* blob, const std::int64_t* offsets, std::int64_t internal) {
    return {blob + offsets[internal], static_cast<std::size_t>(offsets[internal + 1] - offsets[internal])};
}

// The internal id of `text` and its slot, or kUnknownId and the first free slot of its run (n_slots
// where a damaged table has none).
struct Lookup {
    std::int32_t internal;
    std::size_t slot;
};

Lookup find_text(std::string_view text, std::uint64_t hash, const char* blob, const std::int64_t* offsets,
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
    std::size_t n_left = text.size();
    for (; n_left >= 8; n_left -= 8, bytes += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes, 8);
        hash = mix(hash ^ word);
    }
    if (n_left > 0) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes, n_left);
        hash = mix(hash ^ word);
    }
    return hash;
}

void check_texts(const std::int64_t* offsets, std::int64_t n_items, std::int64_t blob_size) {
    bool fits = n_items >= 0 && offsets[0] == 0 && offsets[n_items] == blob_size;
    for (std::int64_t i = 0; fits && i < n_items; ++i) fits = offsets[i] <= offsets[i + 1];
    if (!fits) throw std::invalid_argument("offsets must rise from 0 to the size of blob");
    if (n_items > std::numeric_limits<std::int32_t>::max()) throw std::invalid_argument("ids must be fewer than 2^31");
}

std::size_t slot_count(std::int64_t n_items) { return std::bit_ceil(static_cast<std::size_t>(2 * n_items + 1)); }

std::int32_t fill_slots(const char* blob, const std::int64_t* offsets, std::int64_t n_items, std::uint64_t* slots,
                        std::size_t n_slots) {
    for (std::int64_t internal = 0; internal < n_items; ++internal) {
        const std::string_view text = text_at(blob, offsets, internal);
        const std::uint64_t hash = text_hash(text);
        const Lookup found = find_text(text, hash, blob, offsets, n_items, slots, n_slots);
        if (found.internal != kUnknownId) return found.internal;
        slots[found.slot] = (hash & kTag) | static_cast<std::uint64_t>(internal + 1);
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

void IdTable::find(const std::int64_t* ids, std::size_t count, std::int32_t* found) const {
    // Binary searches in step: each halving is one round trip to memory for all of them, and it has no branch to
    // mispredict: which half is taken is as good as random.
    const std::int64_t* base[kGroup];
    std::fill_n(base, count, sorted_);
    for (std::int64_t n = n_items_; n > 1; n -= n / 2) {
        const std::int64_t half = n / 2;
        for (std::size_t i = 0; i < count; ++i) base[i] += base[i][half - 1] < ids[i] ? half : 0;
    }
    for (std::size_t i = 0; i < count; ++i) {
        const bool known = n_items_ > 0 && *base[i] == ids[i];
        const std::int32_t internal = known ? order_[base[i] - sorted_] : kUnknownId;
        found[i] = internal >= 0 && internal < n_items_ ? internal : kUnknownId;
    }
}

void IdTable::find(const std::string_view* ids, std::size_t count, std::int32_t* found) const {
    std::uint64_t hashes[kGroup];
    for (std::size_t i = 0; i < count; ++i) {
        hashes[i] = text_hash(ids[i]);
        __builtin_prefetch(slots_ + (hashes[i] & (n_slots_ - 1)));
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t entry = slots_[hashes[i] & (n_slots_ - 1)];
        const auto internal = static_cast<std::int64_t>(entry & ~kTag) - 1;
        if (internal >= 0 && internal < n_items_) __builtin_prefetch(offsets_ + internal);
    }
    for (std::size_t i = 0; i < count; ++i) {
        found[i] = find_text(ids[i], hashes[i], blob_, offsets_, n_items_, slots_, n_slots_).internal;
    }
}

void IdTable::prefetch(std::int64_t internal) const {
    __builtin_prefetch(text() ? static_cast<const void*>(offsets_ + internal) : values_ + internal);
}

std::string_view IdTable::text_of(std::int64_t internal) const { return text_at(blob_, offsets_, internal); }

}  // namespace mtaw
