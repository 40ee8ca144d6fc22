// A set of rules (docs/rules.md) as JSON: read, checked and counted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rules/arrange.hpp"
#include "rules/columns.hpp"
#include "rules/condition.hpp"
#include "text/json.hpp"

namespace mtaw {

// The JSON of rules, or of their name. Throws std::invalid_argument, naming `where`, if it is none or too long.
Json rules_json(std::string_view text, const std::string& where);

struct RuleSet {
    struct Filtered {
        Condition when;
        std::string where;  // its name in errors, as in the others
    };
    struct Boosted {
        Condition when;
        double by;
        std::string where;
    };
    struct Limited {
        std::string per;
        std::int64_t most;
        std::int64_t of;  // 0: of the whole list
        std::string where;
    };

    std::vector<Filtered> filters;
    std::vector<Boosted> boosts;
    std::vector<Limited> limits, spreads;
    std::vector<std::pair<std::int64_t, std::string>> pins;  // positions from 1, ascending, and external ids as texts
    std::string where;

    // where: how errors name the set. Throws std::invalid_argument on rules that no catalog could have.
    static RuleSet parse(const Json& rules, const std::string& where = "rules");

    // All conditions that an item must meet; none without filters.
    std::optional<Condition> filter() const;
    // The columns that conditions, limits and spreads name; of_current: whose values of the last click's item they use.
    std::vector<std::string> columns(bool of_current = false) const;
    // Throws std::invalid_argument unless the rules fit the columns; null: the items have none.
    void check(const Columns* columns, bool public_only = false) const;
};

// Limits of checked rules, over the columns.
std::vector<Limit> limits_of(const std::vector<RuleSet::Limited>& limits, const Columns& columns);

}  // namespace mtaw
