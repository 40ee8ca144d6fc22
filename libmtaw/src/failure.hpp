// What ends a call: a status of mtaw.h and one line for the caller.
#pragma once

#include <stdexcept>
#include <string>

#include "mtaw.h"
#include "text/utf8.hpp"

namespace mtaw {

class Failure : public std::runtime_error {
   public:
    Failure(mtaw_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
    mtaw_status status() const { return status_; }

   private:
    mtaw_status status_;
};

inline Failure usage(const std::string& message) { return {MTAW_USAGE, message}; }
inline Failure bundle_error(const std::string& message) { return {MTAW_BUNDLE, message}; }

constexpr const char* kRetrain = "; restore it or retrain the bundle";

// What an errno value means.
std::string reason_of_system(int error);

}  // namespace mtaw
