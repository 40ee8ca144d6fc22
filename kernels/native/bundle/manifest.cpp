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

// A number or a text for a message.
std::string stated(const Json* value) {
    if (value == nullptr || !(value->is(Json::Kind::number) || value->is(Json::Kind::text))) return "of another type";
    return value->is(Json::Kind::number) ? value->text().substr(0, 40) : shown(value->text());
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
        const std::string reason = folder + " has bundle format " + stated(version) +
                                   ", this release reads 3 and 4; upgrade mtaw-fast or retrain the bundle";
        if (manifest.format > kCompactFormat) throw LaterFormatError(reason);
        throw bundle_error(reason);
    }
    const Json *const n_items = json.find("n_items"), *const d = json.find("d"), *const config = json.find("config"),
                      *const files = json.find("files");
    for (const char* const name : {"config", "files", "metrics", "dataset"}) {
        if (const Json* const found = json.find(name); found == nullptr || !found->is(Json::Kind::object))
            throw damaged(std::string("it has no ") + name);
    }
    if (n_items == nullptr || d == nullptr) throw damaged("n_items or d is missing");
    manifest.settings = Settings::read(*config, where);
    manifest.n_items = n_items->whole().value_or(0);
    if (manifest.n_items < 1 || manifest.n_items > std::numeric_limits<std::int32_t>::max() ||
        d->whole() != manifest.settings.d) {
        throw bundle_error(where + " contradicts itself (n_items " + stated(n_items) + ", d " + stated(d) +
                           "); retrain the bundle");
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
