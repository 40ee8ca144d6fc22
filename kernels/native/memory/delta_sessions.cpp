#include "memory/delta_sessions.hpp"

#include <algorithm>
#include <cstddef>

namespace mtaw {

std::int32_t DeltaSessions::find(std::int64_t handle) const {
    const auto found = slot_of_.find(handle);
    return found == slot_of_.end() ? -1 : found->second;
}

std::int32_t DeltaSessions::add(std::int64_t handle) {
    std::int32_t slot;
    if (free_.empty()) {
        slot = static_cast<std::int32_t>(sessions_.size());
        sessions_.push_back({handle, {}, {}});
        facts_.push_back({0, 0});
    } else {
        slot = free_.back();
        free_.pop_back();
        sessions_[static_cast<std::size_t>(slot)] = {handle, {}, {}};
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
    session.clicks.push_back(item);
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
    return total + static_cast<std::int64_t>(slot_of_.size()) * kNode +
           static_cast<std::int64_t>(slot_of_.bucket_count() * sizeof(void*));
}

}  // namespace mtaw
