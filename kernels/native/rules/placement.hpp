// The rule sets of a placement, and which of them a request gets: mtaw_fast/rules/placement.py for other languages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/rule_set.hpp"
#include "text/json.hpp"

namespace mtaw {

// Throws std::invalid_argument unless a placement can have the name.
void check_placement_name(const std::string& name);

class Placement {
   public:
    struct Set {
        std::string name;
        RuleSet rules;
        std::optional<std::int64_t> begin, end;  // Unix milliseconds
        std::optional<double> share;             // of the sessions; none: those that are left

        bool is_open(std::int64_t at) const { return (!begin || *begin <= at) && (!end || at < *end); }
    };

    // Throws std::invalid_argument, one line, on a content that is not as docs/how-to/placements.md says.
    Placement(const std::string& name, const Json& content);

    // The set of a request, by its position; none without one. at: Unix milliseconds. session: its id, if it is known.
    std::optional<std::size_t> placed(std::int64_t at, std::optional<std::string_view> session) const;

    const std::vector<Set>& sets() const { return sets_; }

   private:
    std::string name_;
    std::vector<Set> sets_;
};

}  // namespace mtaw
