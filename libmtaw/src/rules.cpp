#include "rules.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <set>
#include <stdexcept>

#include "bundle/bits.hpp"
#include "failure.hpp"
#include "text/json.hpp"
#include "text/utf8.hpp"

namespace mtaw {
namespace {

// json: of the rules, or of the name of kept ones.
RuleSet rule_set_of(const Bundle& bundle, std::string_view json) {
    const Json given = rules_json(json, "rules");
    if (!given.is(Json::Kind::text)) return RuleSet::parse(given);
    static const Json kNone;
    const Json& kept = bundle.items() == nullptr ? kNone : bundle.items()->rules();
    if (const Json* const found = kept.find(given.text()))
        return RuleSet::parse(*found, "rules " + shown(given.text()));
    std::set<std::string> names;
    for (const auto& [name, rules] : kept.members()) names.insert(name);
    std::string listing;
    std::size_t count = 0;
    for (const std::string& name : names) {
        if (++count <= 10) listing += (count > 1 ? ", " : "") + name;
    }
    throw usage("rules: no rules are kept under the name " + shown(given.text()) +
                "; there are: " + (count == 0 ? "none" : listing + (count > 10 ? ", .." : "")));
}

}  // namespace

Rules::Rules(std::shared_ptr<const Bundle> bundle, std::string_view json)
    : bundle_(std::move(bundle)), rules_(rule_set_of(*bundle_, json)), filter_(rules_.filter()) {
    rules_.check(bundle_->items() == nullptr ? nullptr : &bundle_->items()->columns());
    pins_ = known_pins();
    if (rules_.columns(true).empty()) always_ = std::make_shared<const AppliedRules>(bound(std::nullopt));
}

std::vector<Pin> Rules::known_pins() const {
    std::vector<Pin> pins;
    std::set<std::int32_t> known;  // "5" and "05" are one item: its first position counts
    for (const auto& [position, name] : rules_.pins) {
        std::int32_t item = find_id(bundle_->ids(), name);
        std::int64_t number = 0;
        const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
        if (!bundle_->ids().text() && error == std::errc() && end == name.data() + name.size())
            item = find_id(bundle_->ids(), number);
        if (item != kUnknownId && known.insert(item).second) pins.push_back({position, item});
    }
    return pins;
}

std::shared_ptr<const AppliedRules> Rules::applied(std::optional<std::int32_t> item) const {
    return always_ != nullptr ? always_ : std::make_shared<const AppliedRules>(bound(item));
}

AppliedRules Rules::bound(std::optional<std::int32_t> item) const {
    const std::int64_t n = bundle_->size();
    static const Columns kNone;
    const Columns& columns = bundle_->items() == nullptr ? kNone : bundle_->items()->columns();
    const auto bits_of = [&](const Condition& condition) {
        std::vector<std::uint8_t> bits(static_cast<std::size_t>((n + 7) / 8));
        program_of(condition, columns, item).run(n, bits.data());
        return bits;
    };
    AppliedRules out;
    if (filter_) out.filter = bits_of(*filter_);
    std::vector<Boost> boosts;
    for (const RuleSet::Boosted& boosted : rules_.boosts) {
        std::vector<std::uint8_t> bits = bits_of(boosted.when);
        std::int64_t count = 0;
        for (std::size_t i = 0; i < bits.size(); ++i)
            count += std::popcount(static_cast<unsigned>(out.filter.empty() ? bits[i] : bits[i] & out.filter[i]));
        if (count == 0) continue;
        out.boost_bits.push_back(std::move(bits));  // the bytes stay where they are when the list grows
        boosts.push_back({out.boost_bits.back().data(), boosted.by, count});
    }
    for (const Pin& pin : pins_) {
        const bool filtered = !out.filter.empty() && !has_bit(out.filter.data(), pin.item);
        if (!bundle_->is_unavailable(pin.item) && !filtered) out.pins.push_back(pin);
    }
    std::vector<Limit> limits = rules_.limits_of(columns);
    out.reorders = !boosts.empty() || !limits.empty();
    out.arrangement.emplace(n, std::move(boosts), std::move(limits));
    return out;
}

std::int64_t AppliedRules::depth(std::int64_t k, std::int64_t n_eligible) const {
    const std::int64_t n_wanted = reorders ? 2 * k + 8 : k;
    return std::min(n_eligible, n_wanted + static_cast<std::int64_t>(pins.size()));
}

}  // namespace mtaw
