// manifest.json: the files of a bundle, and what of its settings a ranking needs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "bundle/files.hpp"
#include "text/json.hpp"

namespace mtaw {

constexpr const char* kManifest = "manifest.json";
constexpr std::int64_t kFormat = 3, kCompactFormat = 4;  // a compact bundle has no catalog: bundle_compact.cpp

struct ManifestFile {
    std::string name, sha256;
    std::optional<std::uint64_t> size;
};

// The settings that a ranking depends on, with the defaults of mtaw_fast/config/groups.py.
struct Settings {
    std::int64_t d = 100;
    std::int64_t max_positions = 512;
    std::int64_t max_session_length = 512;
    double scale = 16.0;
    double recent_weight = 0.0;
    std::int64_t cooccurrence_candidates = 80;
    std::int64_t dense_candidates = 50;
    std::int64_t trend_candidates = 140;
    std::int64_t ranked_candidates = 92;
};

struct Manifest {
    std::int64_t format = 0;
    std::int64_t n_items = 0;
    std::map<std::string, ManifestFile, std::less<>> files;  // by part
    Settings settings;
    std::string version;  // 16 hex digits

    // Throws BundleError, naming `folder`, on a manifest that is missing, damaged or of another format.
    static Manifest read(const FileBytes& bytes, const std::string& folder);
};

}  // namespace mtaw
