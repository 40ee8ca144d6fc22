// Rules on a ranking, bound to a bundle.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "bundle/bundle.hpp"
#include "rules/arrange.hpp"
#include "rules/rule_set.hpp"

namespace mtaw {

// Rules after a click on an item.
struct AppliedRules {
    std::vector<std::uint8_t> filter;  // bits of the items that may be shown; empty: all
    std::vector<std::vector<std::uint8_t>> boost_bits;
    std::vector<Pin> pins;  // of items that neither the bundle nor the filter withholds, ascending by position
    bool reorders = false;  // so that the first k may need more than k items of the ranking
    std::optional<Arrangement> arrangement;

    std::int64_t depth(std::int64_t k, std::int64_t n_eligible) const;
};

class Rules {
   public:
    // Throws Failure or std::invalid_argument on rules that are not those of docs/rules.md, or do not fit the table.
    Rules(std::shared_ptr<const Bundle> bundle, std::string_view json);

    const Bundle& bundle() const { return *bundle_; }
    // item: of the session's last known click.
    std::shared_ptr<const AppliedRules> applied(std::optional<std::int32_t> item) const;

   private:
    std::vector<Pin> known_pins() const;
    AppliedRules bound(std::optional<std::int32_t> item) const;

    std::shared_ptr<const Bundle> bundle_;
    RuleSet rules_;
    std::optional<Condition> filter_;
    std::vector<Pin> pins_;
    std::shared_ptr<const AppliedRules> always_;  // where nothing depends on the last click
};

}  // namespace mtaw
