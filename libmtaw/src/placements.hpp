// The placements of a bundle's item table, and their rules bound to the bundle.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"
#include "rules.hpp"
#include "rules/placement.hpp"

namespace mtaw {

// What a placement gives a request: a rule set and its name, or neither.
struct Placed {
    const std::string* name = nullptr;
    const Rules* rules = nullptr;
};

// Any number of threads may use it at once. Placements are read, and their sets bound, when they are first asked for.
class Placements {
   public:
    explicit Placements(std::shared_ptr<const Bundle> bundle) : bundle_(std::move(bundle)) {}

    // Of an unknown name, what the placement "default" gives; valid as long as this object. session: an id, or null.
    // Throws Failure or std::invalid_argument on what cannot be a name, and on rules that do not fit the item table.
    Placed placed(const std::string& name, const char* session, std::int64_t at) const;

   private:
    struct Entry {
        Placement placement;
        std::vector<std::unique_ptr<const Rules>> rules;  // of each set that was asked for
    };

    Entry& entry_of(const std::string& name, const Json& content) const;

    std::shared_ptr<const Bundle> bundle_;
    mutable std::mutex mutex_;
    mutable std::map<std::string, Entry> entries_;
};

}  // namespace mtaw
