#include "keys/key_sets.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace mtaw {

RecentKeys::RecentKeys(std::size_t capacity) : capacity_(capacity) {
    if (capacity == 0) throw std::invalid_argument("recent keys: most must be at least 1");
}

bool RecentKeys::add(std::uint64_t key) {
    if (contains(key)) return false;
    std::size_t index = ring_.size();
    if (index < capacity_) {
        if (index == ring_.capacity()) ring_.reserve(std::min(capacity_, std::max<std::size_t>(64, index + index / 2)));
        ring_.push_back(key);
    } else {
        index = oldest_;
        oldest_ = (oldest_ + 1) % capacity_;
        indices_.erase(ring_[index], ring_.data());
        ring_[index] = key;
    }
    indices_.put(key, static_cast<std::int64_t>(index), ring_.data());
    return true;
}

bool RecentKeys::contains(std::uint64_t key) const { return indices_.find(key, ring_.data()) != IndexTable::kNone; }

std::vector<std::uint64_t> RecentKeys::latest(std::size_t count) const {
    std::vector<std::uint64_t> found;
    found.reserve(std::min(count, ring_.size()));
    for (std::size_t age = std::min(count, ring_.size()); age > 0; --age) {
        found.push_back(ring_[(oldest_ + ring_.size() - age) % ring_.size()]);
    }
    return found;
}

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
