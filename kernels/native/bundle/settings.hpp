// The settings of a bundle: each is known, and in its range. An unknown one may rank otherwise.
#pragma once

#include <cstdint>
#include <string>

#include "text/json.hpp"

namespace mtaw {

// Those that a ranking depends on.
struct Settings {
    std::int64_t d, max_positions, max_session_length;
    double scale, recent_weight;
    std::int64_t cooccurrence_candidates, dense_candidates, trend_candidates, ranked_candidates;

    // config: by group and name; one that is missing has its default. Throws BundleError, naming `where`.
    static Settings read(const Json& config, const std::string& where);
};

}  // namespace mtaw
