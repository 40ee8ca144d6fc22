// Rules over one state of a catalog, after a click on an item or none.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "rank/engine.hpp"
#include "rules/arrange.hpp"
#include "rules/rule_set.hpp"

namespace mtaw {

// The items that meet the conditions of a rule set, as bits.
struct RuleBits {
    const std::uint8_t* filter = nullptr;     // null: all items
    std::vector<const std::uint8_t*> boosts;  // one for each boost
};

class AppliedRules {
   public:
    // rules: checked against the columns. pins: the internal ids of its pins, kUnknownId for unknown ones. present: as
    // CatalogUpdate. The columns' arrays and the bits outlive it.
    AppliedRules(const RuleSet& rules, const Columns& columns, const RuleBits& bits,
                 const std::vector<std::int32_t>& pins, std::int64_t n_items, const std::uint8_t* present);

    const std::uint8_t* filter() const { return filter_; }
    const Arrangement& arrangement() const { return arrangement_; }
    // How much of the ranking to read at first for k items, of n_shown that can be recommended.
    std::int64_t depth(std::int64_t k, std::int64_t n_shown) const;
    // The pins of items that no condition of a session's ranking removes, ascending by position.
    std::vector<Pin> shown_pins(const Conditions& conditions, const std::int32_t* clicks, std::int64_t n_clicks) const;

   private:
    const std::uint8_t* filter_;
    std::vector<Pin> pins_;  // of items that neither the catalog nor the filter withholds
    Arrangement arrangement_;
};

// A pin's id as a number, if it is one.
std::optional<std::int64_t> whole_number(std::string_view text);

}  // namespace mtaw
