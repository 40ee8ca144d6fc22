#include "rules/rule_set.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <string_view>

#include "text/utf8.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kMaxPosition = 10'000;
constexpr std::int64_t kMaxRow = 100;
constexpr std::size_t kMaxBytes = 4096;
constexpr double kMaxBoost = 1e6;

// A value, or a list of values.
std::vector<const Json*> elements_of(const Json* value) {
    std::vector<const Json*> found;
    if (value == nullptr || value->is(Json::Kind::null)) return found;
    if (!value->is(Json::Kind::list)) return {value};
    for (const Json& element : value->list()) found.push_back(&element);
    return found;
}

std::string numbered(const std::string& where, const char* name, std::size_t count, std::size_t index) {
    return where + ": " + name + (count > 1 ? " " + std::to_string(index + 1) : "");
}

bool has_members(const Json& value, std::initializer_list<const char*> names) {
    return value.members().size() == names.size() &&
           std::all_of(names.begin(), names.end(), [&](const char* name) { return value.find(name) != nullptr; });
}

Condition condition_of(const Json& given, const std::string& where, std::int64_t& clauses_left) {
    if (!given.is(Json::Kind::text))
        throw std::invalid_argument(where + R"(: a condition is a text, such as: brand == "x" and price < 80; not )" +
                                    shown_json(given));
    return Condition::parse(given.text(), where, clauses_left);
}

RuleSet::Boosted boost_of(const Json& given, const std::string& where, std::int64_t& clauses_left) {
    if (!has_members(given, {"when", "by"}))
        throw std::invalid_argument(where + R"(: a boost is {"when": CONDITION, "by": NUMBER}, not )" +
                                    shown_json(given));
    const Json& by = *given.find("by");
    if (!(std::abs(by.number()) <= kMaxBoost))
        throw std::invalid_argument(where + ": by must be a number from -1e+06 to 1e+06, not " + shown_json(by));
    return {condition_of(*given.find("when"), where + ": when", clauses_left), by.number(), where + ": when"};
}

std::int64_t whole_of(const Json& limit, const char* name, std::int64_t least, std::int64_t largest,
                      const std::string& where) {
    const std::optional<std::int64_t> number = limit.find(name)->whole();
    if (!number || *number < least || *number > largest)
        throw std::invalid_argument(where + ": " + name + " must be a whole number from " + std::to_string(least) +
                                    " to " + std::to_string(largest) + ", not " + shown_json(*limit.find(name)));
    return *number;
}

// A limit of the whole list, or of items in a row.
RuleSet::Limited limit_of(const Json& given, const std::string& where, bool in_a_row) {
    if (in_a_row ? !has_members(given, {"per", "most", "of"}) : !has_members(given, {"per", "most"}))
        throw std::invalid_argument(where +
                                    (in_a_row ? R"(: it is {"per": COLUMN, "most": NUMBER, "of": NUMBER}, not )"
                                              : R"(: a limit is {"per": COLUMN, "most": NUMBER}, not )") +
                                    shown_json(given));
    const Json& per = *given.find("per");
    if (!per.is(Json::Kind::text))
        throw std::invalid_argument(where + ": per must be the name of a column, not " + shown_json(per));
    const std::int64_t of = in_a_row ? whole_of(given, "of", 2, kMaxRow, where) : 0;
    return {per.text(), whole_of(given, "most", 1, in_a_row ? of - 1 : kMaxPosition, where), of, where};
}

std::vector<std::pair<std::int64_t, std::string>> pins_of(const Json* given, const std::string& where) {
    if (given == nullptr || given->is(Json::Kind::null)) return {};
    if (!given->is(Json::Kind::object))
        throw std::invalid_argument(
            where + R"(: pins are an object of items and positions, such as {"sku-1": 3}, not )" + shown_json(*given));
    std::map<std::int64_t, std::string> item_by_position;
    for (const auto& [item, position] : given->members()) {
        const std::int64_t number = position.whole().value_or(0);
        if (number < 1 || number > kMaxPosition) {
            throw std::invalid_argument(where + ": the position of " + shown(item) +
                                        " must be a whole number from 1 to " + std::to_string(kMaxPosition) + ", not " +
                                        shown_json(position));
        }
        const auto [other, is_free] = item_by_position.emplace(number, item);
        if (!is_free)
            throw std::invalid_argument(where + ": " + shown(other->second) + " and " + shown(item) +
                                        " have the same position " + std::to_string(number));
    }
    return {item_by_position.begin(), item_by_position.end()};
}

}  // namespace

Json rules_json(std::string_view text, const std::string& where) {
    if (text.size() > kMaxBytes)
        throw std::invalid_argument(where + ": the rules have " + std::to_string(text.size()) + " bytes, the most is " +
                                    std::to_string(kMaxBytes) + "; write fewer or shorter ones");
    try {
        return Json::parse(text);
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(where + ": not JSON: " + error.what());
    }
}

RuleSet RuleSet::parse(const Json& rules, const std::string& where) {
    if (!rules.is(Json::Kind::object))
        throw std::invalid_argument(where + R"(: rules are an object such as {"filter": "price < 80"}, not )" +
                                    shown_json(rules));
    for (const auto& [key, value] : rules.members()) {
        if (key != "filter" && key != "boost" && key != "limit" && key != "diversify" && key != "pin") {
            throw std::invalid_argument(where + ": there is no " + shown(key) +
                                        "; the keys are filter, boost, limit, diversify, pin");
        }
    }
    RuleSet rule_set;
    rule_set.where = where;
    std::int64_t clauses_left = kMaxClauses;
    const std::vector<const Json*> filters = elements_of(rules.find("filter")),
                                   boosts = elements_of(rules.find("boost")), limits = elements_of(rules.find("limit")),
                                   spreads = elements_of(rules.find("diversify"));
    for (std::size_t i = 0; i < filters.size(); ++i) {
        std::string named = numbered(where, "filter", filters.size(), i);
        rule_set.filters.push_back({condition_of(*filters[i], named, clauses_left), std::move(named)});
    }
    for (std::size_t i = 0; i < boosts.size(); ++i)
        rule_set.boosts.push_back(boost_of(*boosts[i], numbered(where, "boost", boosts.size(), i), clauses_left));
    for (std::size_t i = 0; i < limits.size(); ++i)
        rule_set.limits.push_back(limit_of(*limits[i], numbered(where, "limit", limits.size(), i), false));
    for (std::size_t i = 0; i < spreads.size(); ++i)
        rule_set.spreads.push_back(limit_of(*spreads[i], numbered(where, "diversify", spreads.size(), i), true));
    rule_set.pins = pins_of(rules.find("pin"), where + ": pin");
    const auto count =
        static_cast<std::int64_t>(limits.size() + spreads.size() + rule_set.pins.size()) + kMaxClauses - clauses_left;
    if (count > kMaxClauses) {
        throw std::invalid_argument(where + ": there are " + std::to_string(count) + " clauses, the most is " +
                                    std::to_string(kMaxClauses) + "; write fewer comparisons");
    }
    return rule_set;
}

std::optional<Condition> RuleSet::filter() const {
    if (filters.empty()) return std::nullopt;
    if (filters.size() == 1) return filters.front().when;
    Condition all;
    all.kind = Condition::Kind::all;
    for (const Filtered& filtered : filters) all.parts.push_back(filtered.when);
    return all;
}

std::vector<std::string> RuleSet::columns(bool of_current) const {
    std::vector<std::string> found;
    const auto add = [&](const Condition& condition) {
        for (ColumnName& name : condition.names(of_current)) found.push_back(std::move(name.name));
    };
    for (const Filtered& filtered : filters) add(filtered.when);
    for (const Boosted& boosted : boosts) add(boosted.when);
    if (!of_current) {
        for (const auto* limited_by : {&limits, &spreads}) {
            for (const Limited& limited : *limited_by) found.push_back(limited.per);
        }
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

void RuleSet::check(const Columns* columns, bool public_only) const {
    if (columns == nullptr) {
        const std::vector<std::string> named = this->columns();
        if (named.empty()) return;
        throw std::invalid_argument(where + ": the items have no columns, so there is no " + shown(named.front()) +
                                    "; add an item table: mtaw-fast items BUNDLE items.parquet");
    }
    for (const Filtered& filtered : filters) filtered.when.check(*columns, filtered.where, public_only);
    for (const Boosted& boosted : boosts) boosted.when.check(*columns, boosted.where, public_only);
    for (const auto* limited_by : {&limits, &spreads}) {
        for (const Limited& limited : *limited_by) {
            const Column& column = checked_column({limited.per}, *columns, limited.where, public_only);
            if (column.kind != ColumnKind::category && column.kind != ColumnKind::categories &&
                column.kind != ColumnKind::boolean) {
                throw std::invalid_argument(limited.where + ": column " + shown(column.name) + " is of kind " +
                                            name_of(column.kind) + "; a limit counts category, categories, boolean");
            }
        }
    }
}

std::vector<Limit> limits_of(const std::vector<RuleSet::Limited>& limits, const Columns& columns) {
    std::vector<Limit> found;
    for (const RuleSet::Limited& limited : limits) {
        const Column& column = *find_column(columns, limited.per);
        found.push_back({column.codes, column.offsets, column.flags, column.n_rows, limited.most, limited.of});
    }
    return found;
}

}  // namespace mtaw
