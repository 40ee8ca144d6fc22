#include "memory/delta_sessions.hpp"

#include <algorithm>
#include <cstddef>

#include "memory/make_room.hpp"

namespace mtaw {
namespace {

std::uint64_t hash_with(std::uint64_t hash, std::int32_t item) {
    hash = (hash ^ (static_cast<std::uint64_t>(item) + 1)) * 0x9E3779B97F4A7C15U;
    return hash ^ (hash >> 29);
}

}  // namespace

std::int32_t DeltaSessions::find(std::int64_t handle) const {
    return static_cast<std::int32_t>(slot_of_.find(static_cast<std::uint64_t>(handle), handles_.data()));
}

std::int32_t DeltaSessions::find_clicks(const std::int32_t* clicks, std::int64_t n_clicks) const {
    std::uint64_t hash = 0;
    for (std::int64_t t = 0; t < n_clicks; ++t) hash = hash_with(hash, clicks[t]);
    const auto found = static_cast<std::int32_t>(latest_with_.find(hash, hashes_.data()));
    if (found < 0) return -1;
    const std::vector<std::int32_t>& held = at(found).clicks;
    return std::equal(held.begin(), held.end(), clicks, clicks + n_clicks) ? found : -1;
}

void DeltaSessions::link(std::int32_t slot) {
    Session& session = sessions_[static_cast<std::size_t>(slot)];
    const std::uint64_t hash = hashes_[static_cast<std::size_t>(slot)];
    session.newer = -1;
    session.older = static_cast<std::int32_t>(latest_with_.find(hash, hashes_.data()));
    if (session.older >= 0) sessions_[static_cast<std::size_t>(session.older)].newer = slot;
    latest_with_.put(hash, slot, hashes_.data());
}

void DeltaSessions::unlink(std::int32_t slot) {
    const Session& session = sessions_[static_cast<std::size_t>(slot)];
    if (session.clicks.empty()) return;
    const std::uint64_t hash = hashes_[static_cast<std::size_t>(slot)];
    if (session.older >= 0) sessions_[static_cast<std::size_t>(session.older)].newer = session.newer;
    if (session.newer >= 0) {
        sessions_[static_cast<std::size_t>(session.newer)].older = session.older;
    } else if (session.older >= 0) {
        latest_with_.put(hash, session.older, hashes_.data());
    } else {
        latest_with_.erase(hash, hashes_.data());
    }
}

std::int32_t DeltaSessions::add(std::int64_t handle) {
    std::int32_t slot;
    if (free_.empty()) {
        slot = static_cast<std::int32_t>(sessions_.size());
        sessions_.emplace_back();
        facts_.push_back({0, 0});
        handles_.push_back(0);
        hashes_.push_back(0);
    } else {
        slot = free_.back();
        free_.pop_back();
    }
    const auto at = static_cast<std::size_t>(slot);
    sessions_[at] = {};
    facts_[at] = {0, 0};
    handles_[at] = static_cast<std::uint64_t>(handle);
    hashes_[at] = 0;
    slot_of_.put(handles_[at], slot, handles_.data());
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
    slot_of_.erase(handles_[at], handles_.data());
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
        make_room(session.firsts);
        session.firsts.push_back(static_cast<std::int32_t>(session.clicks.size()));
        ++facts_[at].distinct;
    }
    unlink(slot);
    make_room(session.clicks);
    session.clicks.push_back(item);
    hashes_[at] = hash_with(hashes_[at], item);
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
    std::int64_t total = bytes(sessions_) + bytes(facts_) + bytes(handles_) + bytes(hashes_) + bytes(free_) + bytes(holders_) + bytes(words_) +
                         bytes(before_word_);
    for (const Session& session : sessions_) total += bytes(session.clicks) + bytes(session.firsts);
    return total + static_cast<std::int64_t>(slot_of_.n_bytes() + latest_with_.n_bytes());
}

}  // namespace mtaw
