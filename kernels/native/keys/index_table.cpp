#include "keys/index_table.hpp"

#include <limits>
#include <random>
#include <stdexcept>

namespace mtaw {
namespace {

constexpr std::size_t kMinSlots = 64;

}  // namespace

IndexTable::IndexTable() : slots_(kMinSlots, 0) {
    std::random_device random;
    seed_ = std::uint64_t{random()} << 32 | random();
}

std::int64_t IndexTable::find(std::uint64_t key, const std::uint64_t* keys) const {
    return std::int64_t{slots_[slot_of(key, keys)]} - 1;
}

void IndexTable::put(std::uint64_t key, std::int64_t index, const std::uint64_t* keys) {
    if (index >= std::int64_t{std::numeric_limits<std::uint32_t>::max()}) {
        throw std::length_error("a table of keys holds at most 4294967295");
    }
    std::size_t slot = slot_of(key, keys);
    if (slots_[slot] == 0 && 2 * ++count_ > slots_.size()) {
        grow(keys);
        slot = slot_of(key, keys);
    }
    slots_[slot] = static_cast<std::uint32_t>(index + 1);
}

// Moves the entries behind the gap up, as far as their homes allow, so that no search ends at it too early.
void IndexTable::erase(std::uint64_t key, const std::uint64_t* keys) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t gap = slot_of(key, keys);
    for (std::size_t slot = (gap + 1) & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
        const std::size_t home_slot = home(keys[slots_[slot] - 1]);
        if (((slot - home_slot) & mask) < ((slot - gap) & mask)) continue;
        slots_[gap] = slots_[slot];
        gap = slot;
    }
    slots_[gap] = 0;
    --count_;
}

std::size_t IndexTable::home(std::uint64_t key) const {
    std::uint64_t mixed = key ^ seed_;
    mixed = (mixed ^ (mixed >> 33)) * 0xFF51AFD7ED558CCDU;
    mixed = (mixed ^ (mixed >> 33)) * 0xC4CEB9FE1A85EC53U;
    return static_cast<std::size_t>(mixed ^ (mixed >> 33)) & (slots_.size() - 1);
}

// Where the key is, or where it would go.
std::size_t IndexTable::slot_of(std::uint64_t key, const std::uint64_t* keys) const {
    std::size_t slot = home(key);
    while (slots_[slot] != 0 && keys[slots_[slot] - 1] != key) slot = (slot + 1) & (slots_.size() - 1);
    return slot;
}

void IndexTable::grow(const std::uint64_t* keys) {
    std::vector<std::uint32_t> old_slots(2 * slots_.size(), 0);
    old_slots.swap(slots_);
    for (const std::uint32_t entry : old_slots) {
        if (entry != 0) slots_[slot_of(keys[entry - 1], keys)] = entry;
    }
}

}  // namespace mtaw
