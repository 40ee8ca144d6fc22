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
    return static_cast<std::int32_t>(slot_by_handle_.find(static_cast<std::uint64_t>(handle), handles_.data()));
}

std::int32_t DeltaSessions::find_clicks(const std::int32_t* clicks, std::int64_t n_clicks) const {
    std::uint64_t hash = 0;
    for (std::int64_t t = 0; t < n_clicks; ++t) hash = hash_with(hash, clicks[t]);
    const auto found = static_cast<std::int32_t>(slot_by_hash_.find(hash, hashes_.data()));
    if (found < 0) return -1;
    const ShortArray<std::int32_t>& session_clicks = at(found).clicks;
    return std::equal(session_clicks.begin(), session_clicks.end(), clicks, clicks + n_clicks) ? found : -1;
}

void DeltaSessions::link(std::int32_t slot) {
    Session& session = sessions_[static_cast<std::size_t>(slot)];
    const std::uint64_t hash = hashes_[static_cast<std::size_t>(slot)];
    session.newer = -1;
    session.older = static_cast<std::int32_t>(slot_by_hash_.find(hash, hashes_.data()));
    if (session.older >= 0) sessions_[static_cast<std::size_t>(session.older)].newer = slot;
    slot_by_hash_.put(hash, slot, hashes_.data());
}

void DeltaSessions::unlink(std::int32_t slot) {
    const Session& session = sessions_[static_cast<std::size_t>(slot)];
    if (session.clicks.empty()) return;
    const std::uint64_t hash = hashes_[static_cast<std::size_t>(slot)];
    if (session.older >= 0) sessions_[static_cast<std::size_t>(session.older)].newer = session.newer;
    if (session.newer >= 0) {
        sessions_[static_cast<std::size_t>(session.newer)].older = session.older;
    } else if (session.older >= 0) {
        slot_by_hash_.put(hash, session.older, hashes_.data());
    } else {
        slot_by_hash_.erase(hash, hashes_.data());
    }
}

std::int32_t DeltaSessions::add(std::int64_t handle) {
    std::int32_t slot;
    if (free_slots_.empty()) {
        slot = static_cast<std::int32_t>(sessions_.size());
        sessions_.emplace_back();
        facts_.push_back({0, 0});
        handles_.push_back(0);
        hashes_.push_back(0);
    } else {
        slot = free_slots_.back();
        free_slots_.pop_back();
    }
    const auto index = static_cast<std::size_t>(slot);
    sessions_[index] = {};
    facts_[index] = {0, 0};
    handles_[index] = static_cast<std::uint64_t>(handle);
    hashes_[index] = 0;
    slot_by_handle_.put(handles_[index], slot, handles_.data());
    ++count_;
    assign_stamp(slot);
    return slot;
}

void DeltaSessions::remove(std::int32_t slot) {
    const auto index = static_cast<std::size_t>(slot);
    Session& session = sessions_[index];
    release_stamp(facts_[index].stamp);
    unlink(slot);
    --count_;
    n_clicks_ -= static_cast<std::int64_t>(session.clicks.size());
    slot_by_handle_.erase(handles_[index], handles_.data());
    session = {};
    free_slots_.push_back(slot);
}

bool DeltaSessions::append(std::int32_t slot, std::int32_t item) {
    const auto index = static_cast<std::size_t>(slot);
    Session& session = sessions_[index];
    const bool is_first = std::none_of(session.firsts.begin(), session.firsts.end(), [&](std::int32_t position) {
        return session.clicks[static_cast<std::size_t>(position)] == item;
    });
    if (is_first) {
        session.firsts.push_back(static_cast<std::int32_t>(session.clicks.size()));
        ++facts_[index].distinct;
    }
    unlink(slot);
    session.clicks.push_back(item);
    hashes_[index] = hash_with(hashes_[index], item);
    link(slot);
    ++n_clicks_;
    release_stamp(facts_[index].stamp);
    assign_stamp(slot);
    return is_first;
}

std::int64_t DeltaSessions::before(std::int32_t mark) const {
    return mark == this->mark() ? count_ : position_of_stamp(mark);
}

std::vector<std::int32_t> DeltaSessions::ordered() const {
    std::vector<std::int32_t> slots;
    slots.reserve(static_cast<std::size_t>(count_));
    for (const std::int32_t slot : slot_by_stamp_) {
        if (slot >= 0) slots.push_back(slot);
    }
    return slots;
}

void DeltaSessions::release_stamp(std::int32_t stamp) {
    const auto word = static_cast<std::size_t>(stamp >> 6);
    slot_by_stamp_[static_cast<std::size_t>(stamp)] = -1;
    stamp_bits_[word] &= ~(std::uint64_t{1} << (stamp & 63));
    for (std::size_t w = word + 1; w < ones_before_word_.size(); ++w) --ones_before_word_[w];
}

// The session's bit is not among the others'.
void DeltaSessions::assign_stamp(std::int32_t slot) {
    const std::int32_t stamp = mark();
    if ((stamp & 63) == 0) {
        const bool is_empty = stamp_bits_.empty();
        ones_before_word_.push_back(
            is_empty ? 0 : static_cast<std::int32_t>(ones_before_word_.back() + count_ones(stamp_bits_.back())));
        stamp_bits_.push_back(0);
    }
    stamp_bits_.back() |= std::uint64_t{1} << (stamp & 63);
    slot_by_stamp_.push_back(slot);
    facts_[static_cast<std::size_t>(slot)].stamp = stamp;
}

void DeltaSessions::restamp(const std::vector<std::int32_t>& slots) {
    slot_by_stamp_.clear();
    stamp_bits_.clear();
    ones_before_word_.clear();
    for (const std::int32_t slot : slots) assign_stamp(slot);
}

std::int64_t DeltaSessions::n_bytes() const {
    const auto bytes = [](const auto& array) {
        return static_cast<std::int64_t>(array.capacity() * sizeof(*array.data()));
    };
    std::int64_t total = bytes(sessions_) + bytes(facts_) + bytes(handles_) + bytes(hashes_) + bytes(free_slots_) +
                         bytes(slot_by_stamp_) + bytes(stamp_bits_) + bytes(ones_before_word_);
    for (const Session& session : sessions_) total += session.clicks.n_bytes() + session.firsts.n_bytes();
    return total + static_cast<std::int64_t>(slot_by_handle_.n_bytes() + slot_by_hash_.n_bytes());
}

}  // namespace mtaw
