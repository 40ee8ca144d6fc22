#include "rank/applied_rules.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <unordered_set>

#include "bundle/bits.hpp"
#include "ids/id_table.hpp"

namespace mtaw {
namespace {

// The boosts that the filter leaves an item of.
std::vector<Boost> boosts_of(const RuleSet& rules, const RuleBits& bits, std::int64_t n_items) {
    std::vector<Boost> boosts;
    for (std::size_t b = 0; b < rules.boosts.size(); ++b) {
        std::int64_t count = 0;
        for (std::int64_t i = 0; i < (n_items + 7) / 8; ++i) {
            const unsigned filtered = bits.filter == nullptr ? 0xFFU : bits.filter[i];
            count += std::popcount(bits.boosts[b][i] & filtered);
        }
        if (count > 0) boosts.push_back({bits.boosts[b], rules.boosts[b].by, count});
    }
    return boosts;
}

}  // namespace

AppliedRules::AppliedRules(const RuleSet& rules, const Columns& columns, const RuleBits& bits,
                           const std::vector<std::int32_t>& pins, std::int64_t n_items, const std::uint8_t* present)
    : filter_(bits.filter),
      arrangement_(n_items, boosts_of(rules, bits, n_items), limits_of(rules.limits, columns),
                   limits_of(rules.spreads, columns)) {
    std::unordered_set<std::int32_t> known;  // "5" and "05" are one item: its first position counts
    for (std::size_t p = 0; p < pins.size(); ++p) {
        const std::int32_t item = pins[p];
        if (item == kUnknownId || !known.insert(item).second) continue;
        if (present != nullptr && !has_bit(present, item)) continue;
        if (filter_ == nullptr || has_bit(filter_, item)) pins_.push_back({rules.pins[p].first, item});
    }
}

std::int64_t AppliedRules::depth(std::int64_t k, std::int64_t n_shown) const {
    const std::int64_t n_wanted = arrangement_.reorders() ? 2 * k + 8 : k;
    return std::min(n_shown, n_wanted + static_cast<std::int64_t>(pins_.size()));
}

std::vector<Pin> AppliedRules::shown_pins(const Conditions& conditions, const std::int32_t* clicks,
                                          std::int64_t n_clicks) const {
    std::vector<Pin> shown = pins_;
    std::erase_if(shown, [&](const Pin& pin) {
        return (conditions.allowed != nullptr && !has_bit(conditions.allowed, pin.item)) ||
               std::binary_search(conditions.excluded, conditions.excluded + conditions.n_excluded, pin.item) ||
               (conditions.exclude_seen && std::find(clicks, clicks + n_clicks, pin.item) != clicks + n_clicks);
    });
    return shown;
}

std::optional<std::int64_t> whole_number(std::string_view text) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return number;
}

}  // namespace mtaw
