// manifest.json: the files of a bundle, and what of its settings a ranking needs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "bundle/files.hpp"
#include "bundle/settings.hpp"
#include "text/json.hpp"

namespace mtaw {

constexpr const char* kManifest = "manifest.json";
constexpr std::int64_t kFormat = 3, kCompactFormat = 4;  // a compact bundle has no catalog: compact.cpp

struct ManifestFile {
    std::string name, sha256;
    std::optional<std::uint64_t> size;
};

struct Manifest {
    std::int64_t format = 0;
    std::int64_t n_items = 0;
    std::map<std::string, ManifestFile, std::less<>> files;  // by part
    Settings settings{};
    std::string version;  // 16 hex digits

    // Throws BundleError, naming `folder`, on a manifest that is missing, damaged or of another format.
    static Manifest read(const FileBytes& bytes, const std::string& folder);
};

}  // namespace mtaw
