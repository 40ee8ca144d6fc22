#include "rules.hpp"

#include "failure.hpp"
#include "text/json.hpp"
#include "text/utf8.hpp"

namespace mtaw {

Rules::Rules(std::shared_ptr<const Bundle> bundle, std::string_view json)
    : Rules(std::move(bundle), RuleSet::parse(rules_json(json, "rules"))) {}

Rules::Rules(std::shared_ptr<const Bundle> bundle, RuleSet rules)
    : bundle_(std::move(bundle)), rules_(std::move(rules)), filter_(rules_.filter()) {
    rules_.check(bundle_->items() == nullptr ? nullptr : &bundle_->items()->columns());
    for (const auto& [position, name] : rules_.pins) {
        const std::optional<std::int64_t> number = bundle_->ids().text() ? std::nullopt : whole_number(name);
        pins_.push_back(number ? find_id(bundle_->ids(), *number) : find_id(bundle_->ids(), name));
    }
    if (rules_.columns(true).empty()) always_ = bind(std::nullopt);
}

std::shared_ptr<const BoundRules> Rules::bound(std::optional<std::int32_t> item) const {
    return always_ != nullptr ? always_ : bind(item);
}

std::shared_ptr<const BoundRules> Rules::bind(std::optional<std::int32_t> item) const {
    const std::int64_t n = bundle_->size();
    static const Columns kNone;
    const Columns& columns = bundle_->items() == nullptr ? kNone : bundle_->items()->columns();
    const auto bits_of = [&](const Condition& condition) {
        std::vector<std::uint8_t> bits(static_cast<std::size_t>((n + 7) / 8));
        program_of(condition, columns, item).run(n, bits.data());
        return bits;
    };
    auto bound = std::make_shared<BoundRules>();
    RuleBits bits;
    if (filter_) bits.filter = bound->filter.emplace(bits_of(*filter_)).data();
    for (const RuleSet::Boosted& boosted : rules_.boosts) bound->boosts.push_back(bits_of(boosted.when));
    for (const std::vector<std::uint8_t>& boost : bound->boosts) bits.boosts.push_back(boost.data());
    bound->rules.emplace(rules_, columns, bits, pins_, n, bundle_->present());
    return bound;
}

}  // namespace mtaw
