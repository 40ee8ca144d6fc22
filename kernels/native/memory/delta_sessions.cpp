#include "memory/delta_sessions.hpp"

#include <algorithm>
#include <cstddef>

namespace mtaw {
namespace {

std::uint64_t hash_with(std::uint64_t hash, std::int32_t item) {
    hash = (hash ^ (static_cast<std::uint64_t>(item) + 1)) * 0x9E3779B97F4A7C15U;
    return hash ^ (hash >> 29);
}

}  // namespace

std::int32_t DeltaSessions::find(std::int64_t handle) const {
    const auto found = slot_of_.find(handle);
    return found == slot_of_.end() ? -1 : found->second;
}

std::int32_t DeltaSessions::find_clicks(const std::int32_t* clicks, std::int64_t m) const {
    std::uint64_t hash = 0;
    for (std::int64_t t = 0; t < m; ++t) hash = hash_with(hash, clicks[t]);
    const auto found = latest_with_.find(hash);
    if (found == latest_with_.end()) return -1;
    const std::vector<std::int32_t>& held = at(found->second).clicks;
    return std::equal(held.begin(), held.end(), clicks, clicks + m) ? found->second : -1;
}

void DeltaSessions::link(std::int32_t slot) {
    Session& session = sessions_[static_cast<std::size_t>(slot)];
    std::int32_t& latest = latest_with_.try_emplace(session.hash, -1).first->second;
    session.newer = -1;
    session.older = latest;
    if (latest >= 0) sessions_[static_cast<std::size_t>(latest)].newer = slot;
    latest = slot;
}

void DeltaSessions::unlink(std::int32_t slot) {
    const Session& session = sessions_[static_cast<std::size_t>(slot)];
    if (session.clicks.empty()) return;
    if (session.older >= 0) sessions_[static_cast<std::size_t>(session.older)].newer = session.newer;
    if (session.newer >= 0) {
        sessions_[static_cast<std::size_t>(session.newer)].older = session.older;
    } else if (session.older >= 0) {
        latest_with_[session.hash] = session.older;
    } else {
        latest_with_.erase(session.hash);
    }
}

std::int32_t DeltaSessions::add(std::int64_t handle) {
    std::int32_t slot;
    if (free_.empty()) {
        slot = static_cast<std::int32_t>(sessions_.size());
        sessions_.push_back({handle, {}, {}, 0, -1, -1});
        facts_.push_back({0, 0});
    } else {
        slot = free_.back();
        free_.pop_back();
        sessions_[static_cast<std::size_t>(slot)] = {handle, {}, {}, 0, -1, -1};
        facts_[static_cast<std::size_t>(slot)] = {0, 0};
    }
    slot_of_.emplace(handle, slot);
    ++count_;
    come_last(slot);
    return slot;
}

void DeltaSessions::remove(std::int32_t slot) {
    const auto at = static_cast<std::size_t>(slot);
    Session& session = sessions_[at];
    leave(facts_[at].stamp);
    unlink(slot);
    --count_;
    n_clicks_ -= static_cast<std::int64_t>(session.clicks.size());
    slot_of_.erase(session.handle);
    session = {};
    free_.push_back(slot);
}

bool DeltaSessions::append(std::int32_t slot, std::int32_t item) {
    const auto at = static_cast<std::size_t>(slot);
    Session& session = sessions_[at];
    const bool is_first = std::none_of(session.firsts.begin(), session.firsts.end(), [&](std::int32_t place) {
        return session.clicks[static_cast<std::size_t>(place)] == item;
    });
    if (is_first) {
        session.firsts.push_back(static_cast<std::int32_t>(session.clicks.size()));
        ++facts_[at].distinct;
    }
    unlink(slot);
    session.clicks.push_back(item);
    session.hash = hash_with(session.hash, item);
    link(slot);
    ++n_clicks_;
    longest_ = std::max(longest_, static_cast<std::int64_t>(session.clicks.size()));
    leave(facts_[at].stamp);
    come_last(slot);
    return is_first;
}

std::int64_t DeltaSessions::before(std::int32_t mark) const { return mark == this->mark() ? count_ : place_of_stamp(mark); }

std::vector<std::int32_t> DeltaSessions::ordered() const {
    std::vector<std::int32_t> slots;
    slots.reserve(static_cast<std::size_t>(count_));
    for (const std::int32_t slot : holders_) {
        if (slot >= 0) slots.push_back(slot);
    }
    return slots;
}

void DeltaSessions::leave(std::int32_t stamp) {
    const auto word = static_cast<std::size_t>(stamp >> 6);
    holders_[static_cast<std::size_t>(stamp)] = -1;
    words_[word] &= ~(std::uint64_t{1} << (stamp & 63));
    for (std::size_t w = word + 1; w < before_word_.size(); ++w) --before_word_[w];
}

// The session's bit is not among the others'.
void DeltaSessions::come_last(std::int32_t slot) {
    const std::int32_t stamp = mark();
    if ((stamp & 63) == 0) {
        const bool none = words_.empty();
        before_word_.push_back(none ? 0 : static_cast<std::int32_t>(before_word_.back() + ones(words_.back())));
        words_.push_back(0);
    }
    words_.back() |= std::uint64_t{1} << (stamp & 63);
    holders_.push_back(slot);
    facts_[static_cast<std::size_t>(slot)].stamp = stamp;
}

void DeltaSessions::restamp(const std::vector<std::int32_t>& slots) {
    holders_.clear();
    words_.clear();
    before_word_.clear();
    for (const std::int32_t slot : slots) come_last(slot);
}

std::int64_t DeltaSessions::n_bytes() const {
    const auto bytes = [](const auto& array) {
        return static_cast<std::int64_t>(array.capacity() * sizeof(*array.data()));
    };
    std::int64_t total = bytes(sessions_) + bytes(facts_) + bytes(free_) + bytes(holders_) + bytes(words_) +
                         bytes(before_word_);
    for (const Session& session : sessions_) total += bytes(session.clicks) + bytes(session.firsts);
    // A node: the entry, a pointer and the allocator's word; a bucket: a pointer.
    constexpr std::int64_t kNode = sizeof(std::pair<std::int64_t, std::int32_t>) + 2 * sizeof(void*);
    const auto of_map = [](const auto& map) {
        return static_cast<std::int64_t>(map.size()) * kNode + static_cast<std::int64_t>(map.bucket_count() * sizeof(void*));
    };
    return total + of_map(slot_of_) + of_map(latest_with_);
}

}  // namespace mtaw
