// Sets of 64-bit keys: those that came last, and the sessions that have each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "keys/index_table.hpp"

namespace mtaw {

// The keys that came last; about 16 bytes a key.
class RecentKeys {
   public:
    // capacity: keys that are kept; one more replaces the oldest. Throws std::invalid_argument if it is 0.
    explicit RecentKeys(std::size_t capacity);

    // Whether the key is new; if not, its age stays what it is.
    bool add(std::uint64_t key);
    [[nodiscard]] bool contains(std::uint64_t key) const;
    // The last `count` keys at most, oldest first.
    [[nodiscard]] std::vector<std::uint64_t> latest(std::size_t count) const;
    [[nodiscard]] std::size_t size() const { return ring_.size(); }
    [[nodiscard]] std::size_t n_bytes() const { return ring_.capacity() * sizeof(std::uint64_t) + indices_.n_bytes(); }

   private:
    std::size_t capacity_;
    std::vector<std::uint64_t> ring_;
    std::size_t oldest_ = 0;  // its index, once the ring is full
    IndexTable indices_;
};

// Numbers sessions as they begin, and finds those of one id. Handles are 0, 1, 2, ..; several may have one key. About
// 20 bytes a session.
class SessionHandles {
   public:
    // A new handle.
    std::int64_t add(std::uint64_t key);
    // The handles of a key, ascending, which then has none.
    std::vector<std::int64_t> take(std::uint64_t key);
    [[nodiscard]] const std::vector<std::uint64_t>& keys() const { return keys_; }  // by handle
    [[nodiscard]] std::size_t n_bytes() const;

   private:
    std::vector<std::uint64_t> keys_;
    std::vector<std::int32_t> previous_;  // by handle: the one before with the same key, -1 = none
    IndexTable latest_by_key_;
};

}  // namespace mtaw
