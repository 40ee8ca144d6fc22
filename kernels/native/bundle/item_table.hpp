// The item table of a bundle: typed columns over the internal ids.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "rules/columns.hpp"
#include "bundle/tensors.hpp"
#include "text/json.hpp"

namespace mtaw {

class ItemTable {
   public:
    // Throws BundleError on arrays that are damaged, or of another catalog than n_items.
    ItemTable(const TensorFile& file, std::int64_t n_items);

    const Columns& columns() const { return columns_; }
    // Column whose false values withhold their items; null without one.
    const Column* availability() const { return availability_; }
    // The ids that are hidden by hand, texts or numbers.
    const std::vector<Json>& hidden() const { return hidden_; }
    // What a placement is set to; null for an unknown one.
    const Json* placement(const std::string& name) const;

   private:
    void check_waiting(const TensorFile& file, const Json& about) const;
    void check_new(const TensorFile& file, const Json& about) const;
    void read_placements(const TensorFile& file, const Json& about);

    Columns columns_;
    const Column* availability_ = nullptr;
    std::vector<Json> hidden_;
    std::map<std::string, Json> placements_;
};

}  // namespace mtaw
