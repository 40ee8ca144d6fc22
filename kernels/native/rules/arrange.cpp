#include "rules/arrange.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

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

void add_values(const Limit& limit, std::int32_t item, std::int64_t by,
                std::unordered_map<std::int32_t, std::int64_t>& counts) {
    for_each_value(limit, item, [&](std::int32_t value) {
        counts[value] += by;
        return true;
    });
}

using FullValue = std::pair<std::size_t, std::int32_t>;  // a limit, and a value that is at it

// The first value of an item that is at a limit.
std::optional<FullValue> full_value(const std::vector<Limit>& limits, std::int32_t item, const ValueCounts& counts) {
    std::optional<FullValue> full;
    for (std::size_t i = 0; i < limits.size() && !full; ++i) {
        for_each_value(limits[i], item, [&](std::int32_t value) {
            const auto found = counts[i].find(value);
            if (found != counts[i].end() && found->second >= limits[i].most) full.emplace(i, value);
            return !full;
        });
    }
    return full;
}

// The items that wait because one of their values is at its limit among the last ones taken.
class Waiting {
   public:
    explicit Waiting(const std::vector<Limit>& spreads) : spreads_(spreads), counts_(spreads.size()) {}

    // Notes that an item, the `place`-th of the ranking, is next in turn; returns whether it waits.
    bool must_wait(std::int32_t item, std::size_t place) {
        const std::optional<FullValue> full = full_value(spreads_, item, counts_);
        if (!full) return false;
        std::set<std::size_t>& places = places_[*full];
        places.insert(places.end(), place);  // most come in their order
        return true;
    }

    void take(std::int32_t item) {
        taken_.push_back(item);
        for (std::size_t i = 0; i < spreads_.size(); ++i) {
            const auto before = static_cast<std::int64_t>(taken_.size()) - spreads_[i].of;
            if (before >= 0) {
                const std::int32_t left = taken_[static_cast<std::size_t>(before)];
                add_values(spreads_[i], left, -1, counts_[i]);
                for_each_value(spreads_[i], left, [&](std::int32_t value) {
                    freed_.insert({i, value});
                    return true;
                });
            }
            add_values(spreads_[i], item, 1, counts_[i]);
        }
    }

    // Removes and returns the first place whose item need not wait for the value that it waited for.
    std::optional<std::size_t> next() {
        auto first = places_.end();
        for (auto value = freed_.begin(); value != freed_.end();) {
            const auto places = places_.find(*value);
            if (places == places_.end() || counts_[value->first][value->second] >= spreads_[value->first].most) {
                value = freed_.erase(value);
                continue;
            }
            if (first == places_.end() || *places->second.begin() < *first->second.begin()) first = places;
            ++value;
        }
        if (first == places_.end()) return std::nullopt;
        const std::size_t place = *first->second.begin();
        first->second.erase(first->second.begin());
        if (first->second.empty()) places_.erase(first);
        return place;
    }

   private:
    const std::vector<Limit>& spreads_;
    ValueCounts counts_;  // among the last items taken that the next one joins
    std::vector<std::int32_t> taken_;
    std::map<FullValue, std::set<std::size_t>> places_;  // of the items that wait, by what they wait for
    std::set<FullValue> freed_;                          // that may be below the limit again
};

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

Arrangement::Arrangement(std::int64_t n_items, std::vector<Boost> boosts, std::vector<Limit> limits,
                         std::vector<Limit> spreads)
    : n_items_(n_items),
      boosts_(std::move(boosts)),
      limits_(std::move(limits)),
      spreads_(std::move(spreads)),
      raised_(raised_by(n_items, boosts_)) {}

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

bool Arrangement::take_if_within_limits(std::int32_t item, ValueCounts& value_counts) const {
    if (full_value(limits_, item, value_counts)) return false;
    for (std::size_t i = 0; i < limits_.size(); ++i) add_values(limits_[i], item, 1, value_counts[i]);
    return true;
}

std::vector<std::int32_t> Arrangement::within_limits(const std::vector<std::int32_t>& kept,
                                                     const std::vector<std::int32_t>& candidates,
                                                     std::size_t count) const {
    ValueCounts value_counts(limits_.size());
    for (const std::int32_t item : kept) {
        for (std::size_t i = 0; i < limits_.size(); ++i) add_values(limits_[i], item, 1, value_counts[i]);
    }
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
    ValueCounts value_counts(limits_.size());
    Waiting waiting(spreads_);
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
    const auto place_item = [&](std::size_t place) {
        const Entry& entry = entries[place];
        const bool pinned = is_pinned(entry.id);
        if (!pinned && waiting.must_wait(entry.id, place)) return;
        if (!take_if_within_limits(entry.id, value_counts) || pinned) return;
        waiting.take(entry.id);
        result.ids.push_back(entry.id);
        result.scores.push_back(entry.score);
        result.boosts.push_back(entry.boost);
        result.pinned.push_back(0);
        add_due_pins();
    };
    for (std::size_t place = 0; place < entries.size() && !is_full(); ++place) {
        // An item behind the part may come before this one.
        if (!boosts_.empty() && !part.whole && !(entries[place].score > max_score_behind)) return false;
        place_item(place);
        if (spreads_.empty()) continue;
        while (!is_full()) {
            const std::optional<std::size_t> next = waiting.next();
            if (!next) break;
            place_item(*next);
        }
    }
    if (!is_full() && !part.whole) return false;
    while (!is_full() && next_pin < pins.size()) add_pin(next_pin++);
    score_pins(result);
    return true;
}

}  // namespace mtaw
