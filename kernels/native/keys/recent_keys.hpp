// The keys that came last, as a set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "keys/index_table.hpp"

namespace mtaw {

// About 16 bytes a key.
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

}  // namespace mtaw
