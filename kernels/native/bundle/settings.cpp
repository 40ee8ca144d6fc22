#include "bundle/settings.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "bundle/failure.hpp"
#include "bundle/setting_rules.hpp"
#include "memory/features.hpp"
#include "text/utf8.hpp"
#include "trends/features.hpp"

namespace mtaw {
namespace {

std::vector<std::string_view> pieces_of(std::string_view text, char separator) {
    std::vector<std::string_view> pieces;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find(separator, begin), text.size());
        pieces.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return pieces;
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view kSpace = " \t\n\r\f\v";
    const std::size_t begin = text.find_first_not_of(kSpace);
    return begin == std::string_view::npos ? std::string_view()
                                           : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// A number as Python's float() reads it, except for the names of infinity; not a number for anything else.
double number_of(std::string_view text) {
    std::string plain;
    for (const char c : trimmed(text)) {
        if (c != '_') plain += c;
    }
    if (plain.starts_with('+')) plain.erase(0, 1);
    if (plain.starts_with('.')) plain.insert(0, "0");
    const std::size_t point = plain.find('.');
    if (point != std::string::npos && (point + 1 == plain.size() || plain[point + 1] == 'e' || plain[point + 1] == 'E'))
        plain.insert(point + 1, "0");
    plain.erase(0, std::min(plain.find_first_not_of('0'), plain.size() - (plain.empty() ? 0 : 1)));
    if (plain.starts_with('.') || plain.starts_with('e') || plain.starts_with('E')) plain.insert(0, "0");
    try {
        return Json::parse(plain).number();
    } catch (const std::invalid_argument&) {
        return std::numeric_limits<double>::quiet_NaN();
    }
}

class SettingsReader {
   public:
    SettingsReader(const Json& config, const std::string& where) : config_(config), where_(where) {}

    void check_all() const {
        for (const auto& [group, settings] : config_.members()) {
            if (!settings.is(Json::Kind::object) || rule_of(group, std::nullopt) == nullptr)
                refuse(shown(group) + " is no group of settings");
            for (const auto& [name, value] : settings.members()) {
                const SettingRule* const rule = rule_of(group, name);
                if (rule == nullptr) refuse("there is no setting " + shown(name) + " in " + group);
                check(*rule, value);
            }
        }
        check_together();
    }

    double number(const char* name) const {
        const SettingRule& rule = *rule_of(std::nullopt, name);
        const Json* const found = value_of(rule.group, name);
        if (found == nullptr) return rule.standard;
        return rule.kind == SettingKind::flag ? static_cast<double>(found->flag()) : found->number();
    }
    std::int64_t whole(const char* name) const { return static_cast<std::int64_t>(number(name)); }

   private:
    // The first one of a group, or of a name, or of both; null without one.
    static const SettingRule* rule_of(std::optional<std::string_view> group, std::optional<std::string_view> name) {
        for (const SettingRule& rule : kSettingRules) {
            if ((!group || rule.group == *group) && (!name || rule.name == *name)) return &rule;
        }
        return nullptr;
    }

    const Json* value_of(const char* group, const char* name) const {
        const Json* const settings = config_.find(group);
        return settings == nullptr ? nullptr : settings->find(name);
    }

    // otherwise: what it is where it is not set.
    std::string_view text(const char* group, const char* name, std::string_view otherwise) const {
        const Json* const found = value_of(group, name);
        return found == nullptr ? otherwise : std::string_view(found->text());
    }

    void check(const SettingRule& rule, const Json& value) const {
        const std::string name = rule.name;
        switch (rule.kind) {
            case SettingKind::flag:
                if (!value.is(Json::Kind::boolean)) refuse("setting " + name + " must be true or false");
                break;
            case SettingKind::whole:
                if (!value.whole()) refuse("setting " + name + " must be a whole number");
                [[fallthrough]];
            case SettingKind::number:
                if (!value.is(Json::Kind::number)) refuse("setting " + name + " must be a number");
                if (!(value.number() >= rule.low && value.number() <= rule.high))
                    refuse("setting " + name + " is out of range");
                break;
            case SettingKind::text:
                if (!value.is(Json::Kind::text)) refuse("setting " + name + " must be a text");
                if (const std::vector<std::string_view> choices = pieces_of(rule.choices, '|');
                    *rule.choices != '\0' && std::find(choices.begin(), choices.end(), value.text()) == choices.end()) {
                    refuse("setting " + name + "=" + shown(value.text()) + " is none of its choices");
                }
                break;
        }
    }

    // What the groups check apart from the range of each setting.
    void check_together() const {
        if (const double weight = number("recent_weight"); weight > 0 && weight < 0.01)
            refuse("setting recent_weight is out of range");
        const bool is_sampled = text("loss", "softmax", "auto") == "sampled";
        const std::string_view backend = text("loss", "loss_backend", "auto");
        if ((number("negative_term") != 0 && (backend == "chunked" || is_sampled)) || (is_sampled && backend != "auto"))
            refuse("the settings negative_term, softmax and loss_backend exclude each other");
        check_type_weights(text("loss", "type_weights", ""));
        check_half_lives(text("memory", "half_lives", "1m,5m,15m,1h,4h,24h,168h"));
        check_features(text("ranker", "excluded_features", ""));
    }

    void check_type_weights(std::string_view weights) const {
        if (trimmed(weights).empty()) return;
        std::set<std::string_view> names;
        for (const std::string_view part : pieces_of(weights, ',')) {
            const std::size_t equals = part.rfind('=');
            const double weight = equals == std::string_view::npos ? -1 : number_of(part.substr(equals + 1));
            const std::string_view name = trimmed(part.substr(0, std::min(equals, part.size())));
            if (name.empty() || !names.insert(name).second || !(weight >= 0) ||
                (weight > 0 &&
                 !(weight >= std::numeric_limits<float>::min() && weight <= std::numeric_limits<float>::max()))) {
                refuse("setting type_weights: " + shown(part) + " is not the weight of a type");
            }
        }
    }

    void check_half_lives(std::string_view lives) const {
        const std::vector<std::string_view> parts = pieces_of(lives, ',');
        const bool fits =
            parts.size() == kItemLanes && std::all_of(parts.begin(), parts.end(), [](std::string_view part) {
                return part.size() > 1 && part.find_first_not_of("0123456789.") == part.size() - 1 &&
                       std::string_view("smhd").find(part.back()) != std::string_view::npos;
            });
        if (!fits) refuse("setting half_lives is out of range");
    }

    void check_features(std::string_view excluded) const {
        constexpr std::string_view kOfColumns[] = {"c_share_", "c_lift_", "i_same_", "i_part_",
                                                   "i_age_",   "e_last_", "e_near_", "e_own_"};
        for (const std::string_view part : pieces_of(excluded, ',')) {
            const std::string_view name = trimmed(part);
            const bool is_known =
                name.empty() ||
                std::find(kFeatureNames, kFeatureNames + kFeatures, name) != kFeatureNames + kFeatures ||
                std::find(kTrendFeatureNames, kTrendFeatureNames + kTrendFeatures, name) !=
                    kTrendFeatureNames + kTrendFeatures ||
                std::any_of(std::begin(kOfColumns), std::end(kOfColumns),
                            [&](std::string_view prefix) { return name.starts_with(prefix); });
            if (!is_known) refuse("setting excluded_features: there is no feature " + shown(name));
        }
    }

    [[noreturn]] void refuse(const std::string& why) const {
        throw bundle_error(where_ + ": " + why + "; upgrade mtaw-fast or retrain the bundle");
    }

    const Json& config_;
    const std::string& where_;
};

}  // namespace

Settings Settings::read(const Json& config, const std::string& where) {
    const SettingsReader reader(config, where);
    reader.check_all();
    return {reader.whole("embedding_dim"),    reader.whole("max_positions"),    reader.whole("max_session_length"),
            reader.number("scale"),           reader.number("recent_weight"),   reader.whole("cooccurrence_candidates"),
            reader.whole("dense_candidates"), reader.whole("trend_candidates"), reader.whole("ranked_candidates")};
}

}  // namespace mtaw
