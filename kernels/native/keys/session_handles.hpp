// Numbers sessions as they begin, and finds those of one id.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "keys/index_table.hpp"

namespace mtaw {

// Handles are 0, 1, 2, ..; several may have one key. About 20 bytes a session.
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
