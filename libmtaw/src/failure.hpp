// What ends a call: a status of mtaw.h and one line for the caller.
#pragma once

#include <stdexcept>
#include <string>

#include "bundle/failure.hpp"
#include "mtaw.h"

namespace mtaw {

class Failure : public std::runtime_error {
   public:
    Failure(mtaw_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
    mtaw_status status() const { return status_; }

   private:
    mtaw_status status_;
};

inline Failure usage(const std::string& message) { return {MTAW_USAGE, message}; }

}  // namespace mtaw
