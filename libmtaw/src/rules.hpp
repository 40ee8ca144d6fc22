// Rules on a ranking (docs/rules.md): filters, boosts, limits and pins, bound to a bundle.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bundle.hpp"
#include "condition.hpp"
#include "rules/arrange.hpp"

namespace mtaw {

// Rules after a click on an item.
struct AppliedRules {
    std::vector<std::uint8_t> filter;  // bits of the items that may be shown; empty: all
    std::vector<std::vector<std::uint8_t>> boost_bits;
    std::vector<Pin> pins;  // of items that neither the bundle nor the filter withholds, ascending by place
    bool reorders = false;  // so that the first k may need more than k items of the ranking
    std::optional<Arrangement> arrangement;

    std::int64_t depth(std::int64_t k, std::int64_t n_eligible) const;
};

class Rules {
 public:
    // Throws Failure on rules that are not those of docs/rules.md, or do not fit the item table.
    Rules(std::shared_ptr<const Bundle> bundle, std::string_view json);

    const Bundle& bundle() const { return *bundle_; }
    // item: of the session's last known click.
    std::shared_ptr<const AppliedRules> applied(std::optional<std::int32_t> item) const;

 private:
    struct Boosted {
        Condition when;
        double by;
    };
    struct Limited {
        const Column* per;
        std::int64_t most;
    };

    void read_boosts(const Json& given);
    void read_limits(const Json& given);
    void read_pins(const Json& given);
    void check_clauses() const;
    AppliedRules bound(std::optional<std::int32_t> item) const;

    std::shared_ptr<const Bundle> bundle_;
    std::optional<Condition> filter_;
    std::vector<Boosted> boosts_;
    std::vector<Limited> limits_;
    std::vector<Pin> pins_;
    std::size_t n_pins_ = 0;  // with those of unknown items
    std::shared_ptr<const AppliedRules> always_;  // where nothing depends on the last click
};

}  // namespace mtaw
