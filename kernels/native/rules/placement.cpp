#include "rules/placement.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <initializer_list>
#include <stdexcept>

#include "text/iso_date.hpp"
#include "text/moments.hpp"
#include "text/session_point.hpp"
#include "text/utf8.hpp"

namespace mtaw {
namespace {

constexpr std::size_t kMaxSets = 16, kMaxName = 64;
constexpr double kRounding = 1e-9;  // of a sum of shares
constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

bool is_name(const std::string& text) {
    return !text.empty() && text.size() <= kMaxName && text.find_first_not_of(kNameCharacters) == std::string::npos;
}

std::invalid_argument wrong_name(const std::string& where, const std::string& name) {
    return std::invalid_argument(where + ": a name has 1 to 64 letters, digits, and . _ -, not " + name);
}

// The member of an object; null if it has none.
const Json& member_of(const Json& object, const char* name) {
    static const Json kNull;
    const Json* const found = object.find(name);
    return found == nullptr ? kNull : *found;
}

void check_keys(const std::string& where, const Json& value, std::initializer_list<const char*> keys) {
    if (!value.is(Json::Kind::object))
        throw std::invalid_argument(where + ": it is an object with " + shown(*keys.begin()) + ", not " +
                                    shown_json(value));
    for (const auto& [key, _] : value.members()) {
        if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
        std::string known;
        for (const char* const name : keys) known += (known.empty() ? "" : ", ") + std::string(name);
        throw std::invalid_argument(where + ": there is no " + shown(key) + "; the keys are " + known);
    }
}

// Of a text with more digits than a date has.
std::optional<std::int64_t> number_of(const std::string& digits) {
    std::int64_t number = 0;
    const char* const end = digits.data() + digits.size();
    if (digits.size() <= std::string_view("20171015").size() || digits.front() == '-') return std::nullopt;
    const auto [stopped, error] = std::from_chars(digits.data(), end, number);
    return error == std::errc() && stopped == end ? std::optional(number) : std::nullopt;
}

// As moment_of of mtaw_fast/data/moments.py.
std::optional<std::int64_t> moment_of(const std::string& name, const Json& time) {
    if (time.is(Json::Kind::null)) return std::nullopt;
    const bool is_text = time.is(Json::Kind::text);
    if (const auto number = is_text ? number_of(time.text()) : time.whole()) {
        if (const std::string wrong = other_unit(*number); !wrong.empty())
            throw std::invalid_argument(name + " " + time.text() + wrong);
        return number;
    }
    if (is_text) {
        if (const std::optional<std::int64_t> moment = milliseconds_of(time.text())) return moment;
    }
    throw std::invalid_argument(name + " " + shown_json(time) +
                                " is not a time; write 2017-10-15, 2017-10-15T08:30 or Unix milliseconds");
}

Placement::Set set_of(const std::string& placement, std::size_t number, const Json& entry) {
    const std::string numbered = placement + ", set " + std::to_string(number);
    check_keys(numbered, entry, {"name", "rules", "from", "until", "share"});
    Placement::Set set;
    set.name = "set-" + std::to_string(number);
    if (const Json* const name = entry.find("name"); name != nullptr) {
        if (!name->is(Json::Kind::text) || !is_name(name->text())) throw wrong_name(numbered, shown_json(*name));
        set.name = name->text();
    }
    const std::string where = placement + ", set " + shown(set.name, kMaxName + 1);
    set.begin = moment_of(where + ": from", member_of(entry, "from"));
    set.end = moment_of(where + ": until", member_of(entry, "until"));
    if (set.begin && set.end && *set.end <= *set.begin)
        throw std::invalid_argument(where + ": `until` is not after `from`; give a later time");
    if (const Json& share = member_of(entry, "share"); !share.is(Json::Kind::null)) {
        set.share = share.number();
        if (!(*set.share > 0 && *set.share <= 1))
            throw std::invalid_argument(where + ": `share` must be a number above 0 and at most 1, not " +
                                        shown_json(share) + "; write 0.5 for half of the sessions");
    }
    std::string rules;  // as a text, whose length is bounded
    member_of(entry, "rules").write_sorted(rules, false);
    set.rules = RuleSet::parse(rules_json(rules, where), where);
    return set;
}

}  // namespace

void check_placement_name(const std::string& name) {
    if (!is_name(name)) throw wrong_name("placement", shown(name));
}

Placement::Placement(const std::string& name, const Json& content) : name_(name) {
    const std::string where = "placement " + shown(name, kMaxName + 1);
    check_keys(where, content, {"sets", "together"});
    const Json &sets = member_of(content, "sets"), *const together = content.find("together");
    if (!sets.is(Json::Kind::list) || sets.list().size() > kMaxSets)
        throw std::invalid_argument(where + ": `sets` is a list of at most " + std::to_string(kMaxSets) +
                                    " rule sets, not " + shown_json(sets));
    if (together != nullptr && !together->is(Json::Kind::boolean))
        throw std::invalid_argument(where + ": `together` is true or false, not " + shown_json(*together));
    for (const Json& entry : sets.list()) sets_.push_back(set_of(where, sets_.size() + 1, entry));
    for (auto set = sets_.begin(); set != sets_.end(); ++set) {
        if (std::any_of(sets_.begin(), set, [&](const Set& other) { return other.name == set->name; }))
            throw std::invalid_argument(where + ": two sets have one name; give each a `name` of its own");
    }
    for (const Set& set : sets_) {
        double total = 0;
        for (const Set& other : sets_) total += other.is_open(set.begin.value_or(0)) ? other.share.value_or(0.0) : 0.0;
        if (total <= 1 + kRounding) continue;
        char sum[32];
        std::snprintf(sum, sizeof sum, "%g", total);
        throw std::invalid_argument(where + ": the shares at the begin of set " + shown(set.name, kMaxName + 1) +
                                    " sum to " + sum + ", the most is 1; lower some");
    }
}

std::optional<std::size_t> Placement::placed(std::int64_t at, std::optional<std::string_view> session) const {
    const bool is_shared =
        std::any_of(sets_.begin(), sets_.end(), [](const Set& set) { return set.share.has_value(); });
    const double point = is_shared && session ? point_of(name_ + "\n" + std::string(*session)) : 1.0;
    std::optional<std::size_t> rest;
    double begin = 0.0;
    for (std::size_t i = 0; i < sets_.size(); ++i) {
        const Set& set = sets_[i];
        if (!set.is_open(at)) continue;
        if (!set.share) {
            if (!rest) rest = i;
            continue;
        }
        if (begin <= point && point < begin + *set.share) return i;
        begin += *set.share;
    }
    return rest;
}

}  // namespace mtaw
