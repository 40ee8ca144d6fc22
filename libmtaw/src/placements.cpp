#include "placements.hpp"

#include <optional>
#include <string_view>

#include "failure.hpp"
#include "text/utf8.hpp"

namespace mtaw {

Placed Placements::placed(const std::string& name, const char* session, std::int64_t at) const {
    if (session != nullptr && !is_utf8(session, true)) throw usage("session_id is not valid Unicode; send UTF-8");
    const ItemTable* const items = bundle_->items();
    std::string known = name;
    const Json* content = items == nullptr ? nullptr : items->placement(known);
    if (content == nullptr) {
        check_placement_name(name);
        known = "default";
        content = items == nullptr ? nullptr : items->placement(known);
        if (content == nullptr) return {};
    }
    const std::lock_guard lock(mutex_);
    Entry& entry = entry_of(known, *content);
    const std::optional<std::size_t> set =
        entry.placement.placed(at, session == nullptr ? std::nullopt : std::optional<std::string_view>(session));
    if (!set) return {};
    const Placement::Set& chosen = entry.placement.sets()[*set];
    std::unique_ptr<const Rules>& rules = entry.rules[*set];
    if (rules == nullptr) rules = std::make_unique<const Rules>(bundle_, chosen.rules);
    return {&chosen.name, rules.get()};
}

Placements::Entry& Placements::entry_of(const std::string& name, const Json& content) const {
    const auto found = entries_.find(name);
    if (found != entries_.end()) return found->second;
    Placement placement(name, content);
    std::vector<std::unique_ptr<const Rules>> rules(placement.sets().size());
    return entries_.emplace(name, Entry{std::move(placement), std::move(rules)}).first->second;
}

}  // namespace mtaw
