#include "keys/session_handles.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace mtaw {

std::int64_t SessionHandles::add(std::uint64_t key) {
    const auto handle = static_cast<std::int64_t>(keys_.size());
    if (handle == std::numeric_limits<std::int32_t>::max()) throw std::length_error("there are 2147483647 sessions");
    const std::int64_t previous = latest_by_key_.find(key, keys_.data());
    if (keys_.size() == keys_.capacity()) {
        const std::size_t room = std::max<std::size_t>(64, keys_.size() + keys_.size() / 2);
        keys_.reserve(room);
        previous_.reserve(room);
    }
    keys_.push_back(key);
    previous_.push_back(static_cast<std::int32_t>(previous));
    latest_by_key_.put(key, handle, keys_.data());
    return handle;
}

std::vector<std::int64_t> SessionHandles::take(std::uint64_t key) {
    std::vector<std::int64_t> found;
    const std::int64_t latest = latest_by_key_.find(key, keys_.data());
    if (latest == IndexTable::kNone) return found;
    for (std::int64_t handle = latest; handle >= 0; handle = previous_[static_cast<std::size_t>(handle)])
        found.push_back(handle);
    latest_by_key_.erase(key, keys_.data());
    std::reverse(found.begin(), found.end());
    return found;
}

std::size_t SessionHandles::n_bytes() const {
    return keys_.capacity() * sizeof(std::uint64_t) + previous_.capacity() * sizeof(std::int32_t) +
           latest_by_key_.n_bytes();
}

}  // namespace mtaw
