#include "rules/arrange.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "score/score.hpp"

namespace mtaw {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool has(const std::uint8_t* bits, std::int32_t item) { return (bits[item >> 3] >> (item & 7) & 1) != 0; }

// Calls `visit` with each value of an item until it returns false.
template <typename Visit>
bool each_value(const Limit& limit, std::int32_t item, const Visit& visit) {
    if (item >= limit.n_rows) return true;
    if (limit.flags != nullptr) return limit.flags[item] < 0 || visit(limit.flags[item]);
    if (limit.offsets == nullptr) return limit.codes[item] < 0 || visit(limit.codes[item]);
    for (std::int64_t at = limit.offsets[item]; at < limit.offsets[item + 1]; ++at) {
        if (!visit(limit.codes[at])) return false;
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
    float near = 0;
    bool any = false;
    for (std::size_t i = count; i-- > 0;) {
        if (result.pinned[i] == 0) {
            near = result.scores[i];
            any = true;
        } else if (any) {
            result.scores[i] = near;
        }
    }
    if (!any) return;
    for (std::size_t i = count; i-- > 0 && result.pinned[i] != 0;) {
        std::size_t above = i;
        while (result.pinned[above] != 0) --above;
        result.scores[i] = result.scores[above];
    }
}

}  // namespace

Arrangement::Arrangement(std::int64_t n_items, std::vector<Boost> boosts, std::vector<Limit> limits)
    : n_items_(n_items), boosts_(std::move(boosts)), limits_(std::move(limits)), raised_(raised_by(n_items, boosts_)) {}

float Arrangement::boosted(const RankedPart& part, std::vector<Entry>& entries) const {
    entries.reserve(static_cast<std::size_t>(part.count));
    std::vector<std::int64_t> met(boosts_.size(), 0);
    for (std::int64_t i = 0; i < part.count; ++i) {
        Entry entry{part.scores[i], part.ids[i], 0};
        bool is_boosted = false;
        for (std::size_t b = 0; b < boosts_.size(); ++b) {
            if (!has(boosts_[b].bits, entry.id)) continue;
            entry.boost += boosts_[b].by;
            ++met[b];
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
    double most = 0;
    for (std::size_t b = 0; b < boosts_.size(); ++b) {
        if (boosts_[b].by > 0 && met[b] < boosts_[b].count) most += boosts_[b].by;
    }
    return static_cast<float>(static_cast<double>(part.scores[part.count - 1]) + most);
}

bool Arrangement::fits(std::int32_t item, Counts& taken) const {
    for (std::size_t l = 0; l < limits_.size(); ++l) {
        const bool free = each_value(limits_[l], item, [&](std::int32_t value) {
            const auto found = taken[l].find(value);
            return found == taken[l].end() || found->second < limits_[l].most;
        });
        if (!free) return false;
    }
    for (std::size_t l = 0; l < limits_.size(); ++l) {
        each_value(limits_[l], item, [&](std::int32_t value) {
            ++taken[l][value];
            return true;
        });
    }
    return true;
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
    const float behind = boosted(part, entries);
    Counts taken(limits_.size());
    const auto pin_next = [&](std::size_t p) {
        result.ids.push_back(pins[p].item);
        result.scores.push_back(0);
        result.boosts.push_back(0);
        result.pinned.push_back(1);
    };
    std::size_t next_pin = 0;
    const auto full = [&] { return static_cast<std::int64_t>(result.ids.size()) >= k; };
    const auto pins_here = [&] {
        while (!full() && next_pin < pins.size() &&
               pins[next_pin].place == static_cast<std::int64_t>(result.ids.size()) + 1) {
            pin_next(next_pin++);
        }
    };
    pins_here();
    for (const Entry& entry : entries) {
        if (full()) break;
        // An item behind the part may come before this one.
        if (!boosts_.empty() && !part.whole && !(entry.score > behind)) return false;
        if (!limits_.empty() && !fits(entry.id, taken)) continue;
        if (is_pinned(entry.id)) continue;
        result.ids.push_back(entry.id);
        result.scores.push_back(entry.score);
        result.boosts.push_back(entry.boost);
        result.pinned.push_back(0);
        pins_here();
    }
    if (!full() && !part.whole) return false;
    while (!full() && next_pin < pins.size()) pin_next(next_pin++);
    score_pins(result);
    return true;
}

}  // namespace mtaw
