#include "bundle/manifest.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "bundle/failure.hpp"
#include "bundle/sha256.hpp"

namespace mtaw {
namespace {

constexpr const char* kParts[] = {"weights", "catalog", "items", "popularity"};
constexpr std::string_view kDerived = "catalog";  // that a compact bundle leaves out

// No separators, no '..', not hidden.
bool is_plain(const std::string& name) {
    const auto alphanumeric = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    return !name.empty() && alphanumeric(name[0]) && name.find("..") == std::string::npos &&
           std::all_of(name.begin(), name.end(),
                       [&](char c) { return alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

class SettingsReader {
   public:
    SettingsReader(const Json& config, const std::string& where) : config_(config), where_(where) {}

    void read(const char* group, const char* name, std::int64_t minimum, std::int64_t maximum,
              std::int64_t& value) const {
        const Json* const found = setting(group, name);
        if (found == nullptr) return;
        const std::optional<std::int64_t> whole = found->whole();
        if (!whole || *whole < minimum || *whole > maximum) refuse(name);
        value = *whole;
    }
    void read(const char* group, const char* name, double above, double maximum, double& value) const {
        const Json* const found = setting(group, name);
        if (found == nullptr) return;
        value = found->number();
        if (!(value > above && value <= maximum)) refuse(name);
    }

   private:
    const Json* setting(const char* group, const char* name) const {
        const Json* const settings = config_.find(group);
        return settings == nullptr ? nullptr : settings->find(name);
    }
    [[noreturn]] void refuse(const char* name) const {
        throw bundle_error(where_ + ": the setting " + name +
                           " is out of range; upgrade libmtaw or retrain the bundle");
    }

    const Json& config_;
    const std::string& where_;
};

Settings settings_of(const Json& config, const std::string& where) {
    constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
    const SettingsReader reader(config, where);
    Settings found;
    reader.read("model", "embedding_dim", 1, 1 << 14, found.d);
    reader.read("model", "max_positions", 1, kMax, found.max_positions);
    reader.read("model", "max_session_length", 1, 512, found.max_session_length);
    reader.read("model", "scale", 0.0, 40.0, found.scale);
    reader.read("model", "recent_weight", -1e-300, 100.0, found.recent_weight);
    reader.read("memory", "cooccurrence_candidates", 1, 1 << 16, found.cooccurrence_candidates);
    reader.read("memory", "dense_candidates", 0, 1000, found.dense_candidates);
    reader.read("memory", "trend_candidates", 1, 1000, found.trend_candidates);
    reader.read("memory", "ranked_candidates", 0, 1 << 16, found.ranked_candidates);
    return found;
}

}  // namespace

Manifest Manifest::read(const FileBytes& bytes, const std::string& folder) {
    const std::string& where = bytes.path();
    const auto damaged = [&](const std::string& why) {
        return bundle_error(where + " is damaged (" + why + "); retrain the bundle");
    };
    Json json;
    try {
        json = Json::parse(bytes.view());
    } catch (const std::invalid_argument& error) {
        throw damaged(error.what());
    }
    const Json* const format = json.find("format");
    if (format == nullptr || !format->is(Json::Kind::text) || format->text() != "mtaw_fast bundle") {
        throw bundle_error(folder + " is not a bundle; make one with 'mtaw-fast train'");
    }
    Manifest manifest;
    const Json* const version = json.find("format_version");
    manifest.format = version == nullptr ? 0 : version->whole().value_or(0);
    if (manifest.format != kFormat && manifest.format != kCompactFormat) {
        throw bundle_error(
            folder +
            " has another bundle format than 3 or 4, which this release reads; upgrade libmtaw or retrain the bundle");
    }
    const Json *const n_items = json.find("n_items"), *const d = json.find("d"), *const config = json.find("config"),
                      *const files = json.find("files");
    if (n_items == nullptr || d == nullptr || config == nullptr || files == nullptr ||
        !config->is(Json::Kind::object) || !files->is(Json::Kind::object)) {
        throw damaged("n_items, d, config or files is missing");
    }
    manifest.settings = settings_of(*config, where);
    manifest.n_items = n_items->whole().value_or(0);
    if (manifest.n_items < 1 || manifest.n_items > std::numeric_limits<std::int32_t>::max() ||
        d->whole() != manifest.settings.d) {
        throw bundle_error(where + " contradicts itself (n_items, d); retrain the bundle");
    }
    for (const auto& [part, entry] : files->members()) {
        const Json *const name = entry.find("file"), *const digest = entry.find("sha256"),
                          *const size = entry.find("bytes");
        if (name == nullptr || digest == nullptr || !digest->is(Json::Kind::text))
            throw damaged("the entry of " + shown(part));
        if (!name->is(Json::Kind::text) || !is_plain(name->text())) {
            throw bundle_error(where + ": the " + shown(part) + " file is named by a path; do not trust this bundle");
        }
        ManifestFile file{name->text(), digest->text(), std::nullopt};
        if (size != nullptr && !size->is(Json::Kind::null)) {
            const std::optional<std::int64_t> count = size->whole();
            if (!count || *count < 0) throw damaged("the size of " + shown(part));
            file.size = static_cast<std::uint64_t>(*count);
        }
        manifest.files.insert_or_assign(part, std::move(file));
    }
    for (const char* part : kParts) {
        if (manifest.format == kCompactFormat && part == kDerived) continue;
        if (!manifest.files.contains(part))
            throw bundle_error(where + " names no '" + part + "' file; retrain the bundle");
    }
    std::string sorted;
    json.write_sorted(sorted);
    manifest.version = sha256_of(sorted.data(), sorted.size()).substr(0, 16);
    return manifest;
}

}  // namespace mtaw
