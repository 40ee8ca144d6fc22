#include "context.hpp"

#include <algorithm>
#include <string>

#include "failure.hpp"
#include "limits.hpp"
#include "text/utf8.hpp"

namespace mtaw {

std::vector<std::uint16_t> context_codes(const ContextColumns& context, const mtaw_context* fields, std::size_t count) {
    const auto& columns = context.columns;
    std::vector<std::uint16_t> codes(columns.size(), 0);
    if (count > 0 && fields == nullptr) throw usage("context: the list is NULL, but not empty");
    if (count > kMaxContextColumns) throw usage("context has " + std::to_string(count) + " columns; at most 8");
    for (std::size_t i = 0; i < count; ++i) {
        const std::string name = fields[i].name == nullptr ? "" : fields[i].name;
        const auto column = std::find_if(columns.begin(), columns.end(), [&](const ContextColumns::Column& candidate) {
            return candidate.name == name;
        });
        if (column == columns.end()) throw usage("context: " + shown(name) + " is not a context column of the bundle");
        const std::string value = fields[i].value == nullptr ? "" : fields[i].value;
        if (!is_utf8(value)) throw usage("context: " + shown(name) + " is not valid Unicode; send UTF-8");
        if (count_characters(value) > kMaxContextCharacters)
            throw usage("context: " + shown(name) + " has more than 200 characters");
        if (value.empty()) continue;
        const auto code = column->codes.find(value);
        codes[static_cast<std::size_t>(column - columns.begin())] = code == column->codes.end() ? 1 : code->second;
    }
    return codes;
}

}  // namespace mtaw
