// Rules on a ranking, bound to a bundle.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "bundle/bundle.hpp"
#include "rank/applied_rules.hpp"
#include "rules/rule_set.hpp"

namespace mtaw {

// Rules after a click on an item, and the bits that they read.
struct BoundRules {
    std::optional<std::vector<std::uint8_t>> filter;
    std::vector<std::vector<std::uint8_t>> boosts;
    std::optional<AppliedRules> rules;
};

class Rules {
   public:
    // Throws Failure or std::invalid_argument on rules that are not those of docs/rules.md, or do not fit the table.
    Rules(std::shared_ptr<const Bundle> bundle, std::string_view json);
    // Throws std::invalid_argument on rules that do not fit the table.
    Rules(std::shared_ptr<const Bundle> bundle, RuleSet rules);

    const Bundle& bundle() const { return *bundle_; }
    // item: of the session's last known click.
    std::shared_ptr<const BoundRules> bound(std::optional<std::int32_t> item) const;

   private:
    std::shared_ptr<const BoundRules> bind(std::optional<std::int32_t> item) const;

    std::shared_ptr<const Bundle> bundle_;
    RuleSet rules_;
    std::optional<Condition> filter_;
    std::vector<std::int32_t> pins_;
    std::shared_ptr<const BoundRules> always_;  // where nothing depends on the last click
};

}  // namespace mtaw
