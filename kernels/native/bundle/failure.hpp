// What ends the reading of a bundle: one line, with the file and what to do.
#pragma once

#include <stdexcept>
#include <string>

#include "text/utf8.hpp"

namespace mtaw {

class BundleError : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
};

inline BundleError bundle_error(const std::string& message) { return BundleError(message); }

constexpr const char* kRetrain = "; restore it or retrain the bundle";

// What an errno value means.
std::string reason_of_system(int error);

}  // namespace mtaw
