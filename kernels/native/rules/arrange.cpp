#include "rules/arrange.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "score/score.hpp"

namespace mtaw {
namespace {

bool has(const std::uint8_t* bits, std::int32_t item) { return (bits[item >> 3] >> (item & 7) & 1) != 0; }

// Calls `visit` with each value of an item until it returns false.
template <typename Visit>
bool for_each_value(const Limit& limit, std::int32_t item, const Visit& visit) {
    if (item >= limit.n_rows) return true;
    if (limit.flags != nullptr) return limit.flags[item] < 0 || visit(limit.flags[item]);
    if (limit.offsets == nullptr) return limit.codes[item] < 0 || visit(limit.codes[item]);
    for (std::int64_t p = limit.offsets[item]; p < limit.offsets[item + 1]; ++p) {
        if (!visit(limit.codes[p])) return false;
    }
    return true;
}

// Bits of the items whose boosts add up to more than 0, empty if there is no boost above 0.
std::vector<std::uint8_t> raised_by(std::int64_t n_items, const std::vector<Boost>& boosts) {
    std::vector<std::uint8_t> raised, lowered(static_cast<std::size_t>((n_items + 7) / 8), 0);
    for (const Boost& boost : boosts) {
        if (boost.by > 0) raised.resize(lowered.size(), 0);
        std::vector<std::uint8_t>& bits = boost.by > 0 ? raised : lowered;
        for (std::size_t i = 0; i < bits.size(); ++i) bits[i] |= boost.bits[i];
    }
    for (std::size_t i = 0; i < raised.size(); ++i) {
        if ((raised[i] & lowered[i]) == 0) continue;
        for (int bit = 0; bit < 8; ++bit) {
            double sum = 0;
            for (const Boost& boost : boosts) sum += (boost.bits[i] >> bit & 1) != 0 ? boost.by : 0.0;
            if (!(sum > 0)) raised[i] &= static_cast<std::uint8_t>(~(1U << bit));
        }
    }
    return raised;
}

// A pinned item has the score of the next item that is not pinned, else of the one before, so that scores never rise
// down a list that they do not rise in without pins.
void score_pins(Arranged& result) {
    const std::size_t count = result.ids.size();
    float next_score = 0;
    bool has_unpinned = false;
    for (std::size_t i = count; i-- > 0;) {
        if (result.pinned[i] == 0) {
            next_score = result.scores[i];
            has_unpinned = true;
        } else if (has_unpinned) {
            result.scores[i] = next_score;
        }
    }
    if (!has_unpinned) return;
    for (std::size_t i = count; i-- > 0 && result.pinned[i] != 0;) {
        std::size_t above = i;
        while (result.pinned[above] != 0) --above;
        result.scores[i] = result.scores[above];
    }
}

}  // namespace

Arrangement::Arrangement(std::int64_t n_items, std::vector<Boost> boosts, std::vector<Limit> limits)
    : n_items_(n_items), boosts_(std::move(boosts)), limits_(std::move(limits)), raised_(raised_by(n_items, boosts_)) {}

float Arrangement::apply_boosts(const RankedPart& part, std::vector<Entry>& entries) const {
    entries.reserve(static_cast<std::size_t>(part.count));
    std::vector<std::int64_t> n_boosted(boosts_.size(), 0);
    for (std::int64_t i = 0; i < part.count; ++i) {
        Entry entry{part.scores[i], part.ids[i], 0};
        bool is_boosted = false;
        for (std::size_t b = 0; b < boosts_.size(); ++b) {
            if (!has(boosts_[b].bits, entry.id)) continue;
            entry.boost += boosts_[b].by;
            ++n_boosted[b];
            is_boosted = true;
        }
        if (is_boosted) entry.score = static_cast<float>(static_cast<double>(entry.score) + entry.boost);
        entries.push_back(entry);
    }
    if (boosts_.empty()) return -kInfinity;
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return Better{}({a.score, a.id}, {b.score, b.id}); });
    if (part.whole || part.count == 0) return part.whole ? -kInfinity : kInfinity;
    // Added in the order of an item's own boosts: rounding keeps the order, so no item's sum exceeds this one.
    double max_boost = 0;
    for (std::size_t b = 0; b < boosts_.size(); ++b) {
        if (boosts_[b].by > 0 && n_boosted[b] < boosts_[b].count) max_boost += boosts_[b].by;
    }
    return static_cast<float>(static_cast<double>(part.scores[part.count - 1]) + max_boost);
}

bool Arrangement::take_if_within_limits(std::int32_t item, Counts& value_counts) const {
    for (std::size_t i = 0; i < limits_.size(); ++i) {
        const bool is_below_limit = for_each_value(limits_[i], item, [&](std::int32_t value) {
            const auto found = value_counts[i].find(value);
            return found == value_counts[i].end() || found->second < limits_[i].most;
        });
        if (!is_below_limit) return false;
    }
    count_values(item, value_counts);
    return true;
}

void Arrangement::count_values(std::int32_t item, Counts& value_counts) const {
    for (std::size_t i = 0; i < limits_.size(); ++i) {
        for_each_value(limits_[i], item, [&](std::int32_t value) {
            ++value_counts[i][value];
            return true;
        });
    }
}

std::vector<std::int32_t> Arrangement::within_limits(const std::vector<std::int32_t>& kept,
                                                     const std::vector<std::int32_t>& candidates,
                                                     std::size_t count) const {
    Counts value_counts(limits_.size());
    for (const std::int32_t item : kept) count_values(item, value_counts);
    std::vector<std::int32_t> chosen;
    for (std::size_t i = 0; i < candidates.size() && chosen.size() < count; ++i) {
        if (take_if_within_limits(candidates[i], value_counts)) chosen.push_back(candidates[i]);
    }
    return chosen;
}

bool Arrangement::arrange(const RankedPart& part, std::int64_t k, const std::vector<Pin>& pins,
                          Arranged& result) const {
    for (std::int64_t i = 0; i < part.count; ++i) {
        if (part.ids[i] < 0 || part.ids[i] >= n_items_) {
            throw std::out_of_range("item " + std::to_string(part.ids[i]) + " is outside 0.." +
                                    std::to_string(n_items_ - 1));
        }
    }
    result.ids.clear();
    result.scores.clear();
    result.boosts.clear();
    result.pinned.clear();
    const auto is_pinned = [&](std::int32_t item) {
        return std::any_of(pins.begin(), pins.end(), [&](const Pin& pin) { return pin.item == item; });
    };
    std::vector<Entry> entries;
    const float max_score_behind = apply_boosts(part, entries);
    Counts value_counts(limits_.size());
    const auto add_pin = [&](std::size_t p) {
        result.ids.push_back(pins[p].item);
        result.scores.push_back(0);
        result.boosts.push_back(0);
        result.pinned.push_back(1);
    };
    std::size_t next_pin = 0;
    const auto is_full = [&] { return static_cast<std::int64_t>(result.ids.size()) >= k; };
    const auto add_due_pins = [&] {
        while (!is_full() && next_pin < pins.size() &&
               pins[next_pin].position == static_cast<std::int64_t>(result.ids.size()) + 1) {
            add_pin(next_pin++);
        }
    };
    add_due_pins();
    for (const Entry& entry : entries) {
        if (is_full()) break;
        // An item behind the part may come before this one.
        if (!boosts_.empty() && !part.whole && !(entry.score > max_score_behind)) return false;
        if (!limits_.empty() && !take_if_within_limits(entry.id, value_counts)) continue;
        if (is_pinned(entry.id)) continue;
        result.ids.push_back(entry.id);
        result.scores.push_back(entry.score);
        result.boosts.push_back(entry.boost);
        result.pinned.push_back(0);
        add_due_pins();
    }
    if (!is_full() && !part.whole) return false;
    while (!is_full() && next_pin < pins.size()) add_pin(next_pin++);
    score_pins(result);
    return true;
}

}  // namespace mtaw
