// What ends the reading of a bundle: one line, with the file and what to do.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "text/utf8.hpp"

namespace mtaw {

class BundleError : public std::runtime_error {
   public:
    explicit BundleError(const std::string& message, int errno_value = 0)
        : std::runtime_error(message), errno_value_(errno_value) {}

    // Of the system's call that failed; 0 where the file was read.
    int errno_value() const { return errno_value_; }

   private:
    int errno_value_;
};

// Of a format that only a later release reads.
class LaterFormatError : public BundleError {
   public:
    using BundleError::BundleError;
};

inline BundleError bundle_error(const std::string& message, int errno_value = 0) {
    return BundleError(message, errno_value);
}

constexpr const char* kRetrain = "; restore it or retrain the bundle";

std::string with_commas(std::uint64_t number);

// What an errno value means.
std::string reason_of_system(int error);

}  // namespace mtaw
