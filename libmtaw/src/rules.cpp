#include "rules.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <set>
#include <stdexcept>

#include "bits.hpp"
#include "failure.hpp"

namespace mtaw {
namespace {

constexpr std::size_t kMostBytes = 1 << 16;
constexpr std::int64_t kMostClauses = 32, kMostPlace = 10'000;
constexpr double kMostBoost = 1e6;

// A value, or a list of values.
std::vector<const Json*> listed(const Json& value) {
    std::vector<const Json*> found;
    if (value.is(Json::Kind::null)) return found;
    if (!value.is(Json::Kind::list)) return {&value};
    for (const Json& one : value.list()) found.push_back(&one);
    return found;
}

std::string numbered(const char* name, std::size_t count, std::size_t place) {
    return std::string("rules: ") + name + (count > 1 ? " " + std::to_string(place + 1) : "");
}

// The table that a condition reads. Without one there is no column that a condition could name.
const ItemTable& table_of(const Bundle& bundle, const std::string& where) {
    if (bundle.items() == nullptr) throw usage(where + ": the items have no columns; add an item table: mtaw-fast items BUNDLE items.parquet");
    return *bundle.items();
}

Condition checked(const Json& tree, const Bundle& bundle, const std::string& where) {
    Condition condition = Condition::of(tree, where);
    condition.check(table_of(bundle, where), where);
    return condition;
}

}  // namespace

Rules::Rules(std::shared_ptr<const Bundle> bundle, std::string_view json) : bundle_(std::move(bundle)) {
    if (json.size() > kMostBytes) throw usage("rules: they have " + std::to_string(json.size()) + " bytes, the most is " + std::to_string(kMostBytes));
    Json given;
    try {
        given = Json::parse(json);
    } catch (const std::invalid_argument& error) {
        throw usage(std::string("rules: not JSON: ") + error.what());
    }
    if (!given.is(Json::Kind::object)) throw usage("rules: rules are an object with the keys filter, boost, limit and pin");
    for (const auto& [key, value] : given.members()) {
        if (key != "filter" && key != "boost" && key != "limit" && key != "pin") {
            throw usage("rules: there is no " + shown(key) + "; the keys are filter, boost, limit, pin");
        }
    }
    const Json none;
    const auto part = [&](const char* key) -> const Json& {
        const Json* const found = given.find(key);
        return found == nullptr ? none : *found;
    };
    const std::vector<const Json*> filters = listed(part("filter"));
    Condition all;
    all.kind = Condition::Kind::all;
    for (std::size_t i = 0; i < filters.size(); ++i) all.parts.push_back(checked(*filters[i], *bundle_, numbered("filter", filters.size(), i)));
    if (!filters.empty()) filter_ = std::move(all);
    read_boosts(part("boost"));
    read_limits(part("limit"));
    read_pins(part("pin"));
    check_clauses();
    const bool moves = (filter_ && filter_->uses_current()) ||
                       std::any_of(boosts_.begin(), boosts_.end(), [](const Boosted& one) { return one.when.uses_current(); });
    if (!moves) always_ = std::make_shared<const AppliedRules>(bound(std::nullopt));
}

void Rules::read_boosts(const Json& given) {
    const std::vector<const Json*> list = listed(given);
    for (std::size_t i = 0; i < list.size(); ++i) {
        const std::string where = numbered("boost", list.size(), i);
        const Json *const when = list[i]->find("when"), *const by = list[i]->find("by");
        if (when == nullptr || by == nullptr || list[i]->members().size() != 2) throw usage(where + R"(: a boost is {"when": CONDITION, "by": NUMBER})");
        if (!(std::abs(by->number()) <= kMostBoost)) throw usage(where + ": by must be a number from -1e+06 to 1e+06");
        boosts_.push_back({checked(*when, *bundle_, where + ": when"), by->number()});
    }
}

void Rules::read_limits(const Json& given) {
    const std::vector<const Json*> list = listed(given);
    for (std::size_t i = 0; i < list.size(); ++i) {
        const std::string where = numbered("limit", list.size(), i);
        const Json *const per = list[i]->find("per"), *const most = list[i]->find("most");
        if (per == nullptr || most == nullptr || list[i]->members().size() != 2) throw usage(where + R"(: a limit is {"per": COLUMN, "most": NUMBER})");
        if (!per->is(Json::Kind::text)) throw usage(where + ": per must be the name of a column");
        const std::int64_t count = most->whole().value_or(0);
        if (count < 1 || count > kMostPlace) throw usage(where + ": most must be a whole number from 1 to 10000");
        const Column& column = checked_column(per->text(), &table_of(*bundle_, where), where);
        if (column.kind != ColumnKind::category && column.kind != ColumnKind::categories && column.kind != ColumnKind::boolean) {
            throw usage(where + ": column " + shown(column.name) + " is of kind " + name_of(column.kind) + "; a limit counts category, categories, boolean");
        }
        limits_.push_back({&column, count});
    }
}

void Rules::read_pins(const Json& given) {
    if (given.is(Json::Kind::null)) return;
    if (!given.is(Json::Kind::object)) throw usage(R"(rules: pin: pins are an object of items and places, such as {"sku-1": 3})");
    std::set<std::int64_t> taken;
    std::vector<std::pair<std::int64_t, std::string_view>> places;
    for (const auto& [item, place] : given.members()) {
        const std::int64_t at = place.whole().value_or(0);
        if (at < 1 || at > kMostPlace) throw usage("rules: pin: the place of " + shown(item) + " must be a whole number from 1 to 10000");
        if (!taken.insert(at).second) throw usage("rules: pin: two items have the same place " + std::to_string(at));
        places.emplace_back(at, item);
    }
    std::sort(places.begin(), places.end());
    n_pins_ = places.size();
    std::set<std::int32_t> known;  // "5" and "05" are one item: its first place counts
    for (const auto& [place, name] : places) {
        std::int32_t item = bundle_->ids().lookup(name);
        std::int64_t number = 0;
        const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
        if (error == std::errc() && end == name.data() + name.size()) {
            if (!bundle_->ids().text()) item = bundle_->ids().lookup(number);
        }
        if (item != kUnknownId && known.insert(item).second) pins_.push_back({place, item});
    }
}

void Rules::check_clauses() const {
    auto count = static_cast<std::int64_t>(limits_.size() + n_pins_) + (filter_ ? filter_->clauses() : 0);
    for (const Boosted& one : boosts_) count += one.when.clauses();
    if (count > kMostClauses) throw usage("rules: there are " + std::to_string(count) + " clauses, the most is 32; write fewer comparisons");
}

std::shared_ptr<const AppliedRules> Rules::applied(std::optional<std::int32_t> item) const {
    return always_ != nullptr ? always_ : std::make_shared<const AppliedRules>(bound(item));
}

AppliedRules Rules::bound(std::optional<std::int32_t> item) const {
    const std::int64_t n = bundle_->size();
    AppliedRules out;
    if (filter_) out.filter = bits_of(*filter_, *bundle_->items(), item, n);
    std::vector<Boost> boosts;
    for (const Boosted& one : boosts_) {
        std::vector<std::uint8_t> bits = bits_of(one.when, *bundle_->items(), item, n);
        std::int64_t count = 0;
        for (std::size_t i = 0; i < bits.size(); ++i) count += std::popcount(static_cast<unsigned>(out.filter.empty() ? bits[i] : bits[i] & out.filter[i]));
        if (count == 0) continue;
        out.boost_bits.push_back(std::move(bits));  // the bytes stay where they are when the list grows
        boosts.push_back({out.boost_bits.back().data(), one.by, count});
    }
    std::vector<Limit> limits;
    for (const Limited& one : limits_) {
        Limit limit;
        limit.codes = one.per->codes;
        limit.offsets = one.per->offsets;
        limit.flags = one.per->flags;
        limit.n_rows = one.per->n_rows;
        limit.most = one.most;
        limits.push_back(limit);
    }
    for (const Pin& pin : pins_) {
        const bool filtered = !out.filter.empty() && !has_bit(out.filter.data(), pin.item);
        if (!bundle_->is_unavailable(pin.item) && !filtered) out.pins.push_back(pin);
    }
    out.reorders = !boosts.empty() || !limits.empty();
    out.arrangement.emplace(n, std::move(boosts), std::move(limits));
    return out;
}

std::int64_t AppliedRules::depth(std::int64_t k, std::int64_t n_eligible) const {
    const std::int64_t wanted = reorders ? 2 * k + 8 : k;
    return std::min(n_eligible, wanted + static_cast<std::int64_t>(pins.size()));
}

}  // namespace mtaw
