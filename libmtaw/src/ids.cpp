#include "ids.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "failure.hpp"

namespace mtaw {

IdList id_list(const char* name, const mtaw_id* ids, std::size_t count) {
    if (ids == nullptr && count > 0) throw usage(std::string(name) + ": the list is NULL, but not empty");
    return {ids, count};
}

std::vector<std::int32_t> lookup(const IdTable& table, IdList ids) {
    std::vector<std::int32_t> found(ids.count, kUnknownId);
    std::int64_t numbers[IdTable::kGroup];
    std::string_view texts[IdTable::kGroup];
    std::size_t positions[IdTable::kGroup], count = 0;
    std::int32_t internal[IdTable::kGroup];
    const auto flush = [&] {
        if (table.text()) {
            table.find(texts, count, internal);
        } else {
            table.find(numbers, count, internal);
        }
        for (std::size_t i = 0; i < count; ++i) found[positions[i]] = internal[i];
        count = 0;
    };
    for (std::size_t position = 0; position < ids.count; ++position) {
        const mtaw_id& id = ids.ids[position];
        if ((id.text != nullptr) != table.text()) continue;
        if (id.text == nullptr) {
            numbers[count] = id.value;
        } else {
            texts[count] = {id.text, id.value < 0 ? std::strlen(id.text) : static_cast<std::size_t>(id.value)};
        }
        positions[count++] = position;
        if (count == IdTable::kGroup) flush();
    }
    if (count > 0) flush();
    return found;
}

std::vector<std::int32_t> known(const IdTable& table, IdList ids) {
    std::vector<std::int32_t> found = lookup(table, ids);
    std::erase(found, kUnknownId);
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

}  // namespace mtaw
