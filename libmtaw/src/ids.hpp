// External ids as mtaw.h has them, and the id table of a bundle.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ids/id_table.hpp"
#include "mtaw.h"
#include "tensors.hpp"

namespace mtaw {

// A list of a caller.
struct IdList {
    const mtaw_id* ids;
    std::size_t count;
};

// Throws Failure on a list without a pointer. `name` names it.
IdList id_list(const char* name, const mtaw_id* ids, std::size_t count);

class Ids {
   public:
    // verify: whether all ids are checked too. Throws Failure on arrays that are no id table of n_items.
    Ids(const TensorFile& file, std::int64_t n_items, bool verify);

    const IdTable& table() const { return table_; }
    bool text() const { return table_.text(); }
    std::int64_t size() const { return table_.size(); }

    // Internal ids, kUnknownId for unknown ones.
    std::vector<std::int32_t> lookup(IdList ids) const;
    // The distinct internal ids of the known ones, ascending.
    std::vector<std::int32_t> known(IdList ids) const;
    std::int32_t lookup(std::string_view text) const;
    std::int32_t lookup(std::int64_t number) const;

   private:
    IdTable table_;
};

}  // namespace mtaw
