#include "keys/recent_keys.hpp"

#include <algorithm>
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

}  // namespace mtaw
