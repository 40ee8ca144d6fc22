// A hash table from 64-bit keys to indices in an array that has the keys: 4 bytes a slot, at most half of them taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mtaw {

// The array of keys is given to each call: its owner may move it. No key is in the table twice. Slots depend on a
// random number of the table's own: whoever chooses ids cannot choose that they collide.
class IndexTable {
   public:
    static constexpr std::int64_t kNone = -1;

    IndexTable();

    // The index of a key, kNone if it is not in the table.
    [[nodiscard]] std::int64_t find(std::uint64_t key, const std::uint64_t* keys) const;
    // Sets the index of a key, whether or not it had one; keys[index] is the key. Throws std::length_error from 2^32 -
    // 1 on.
    void put(std::uint64_t key, std::int64_t index, const std::uint64_t* keys);
    // Removes a key that is in the table.
    void erase(std::uint64_t key, const std::uint64_t* keys);

    [[nodiscard]] std::size_t n_bytes() const { return slots_.capacity() * sizeof(std::uint32_t); }

   private:
    [[nodiscard]] std::size_t home(std::uint64_t key) const;
    [[nodiscard]] std::size_t slot_of(std::uint64_t key, const std::uint64_t* keys) const;
    void grow(const std::uint64_t* keys);

    std::vector<std::uint32_t> slots_;  // 1 + index, 0 = empty
    std::size_t count_ = 0;
    std::uint64_t seed_;
};

}  // namespace mtaw
