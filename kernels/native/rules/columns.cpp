#include "rules/columns.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "text/utf8.hpp"

namespace mtaw {
namespace {

constexpr std::pair<const char*, ColumnKind> kKinds[] = {
    {"number", ColumnKind::number},   {"category", ColumnKind::category}, {"categories", ColumnKind::categories},
    {"boolean", ColumnKind::boolean}, {"text", ColumnKind::text},         {"time", ColumnKind::time},
    {"vector", ColumnKind::vector}};
constexpr std::size_t kMaxListed = 10;  // columns in a message

}  // namespace

const char* name_of(ColumnKind kind) {
    return std::find_if(std::begin(kKinds), std::end(kKinds), [&](const auto& entry) { return entry.second == kind; })
        ->first;
}

std::optional<ColumnKind> column_kind_of(std::string_view name) {
    const auto* const found =
        std::find_if(std::begin(kKinds), std::end(kKinds), [&](const auto& entry) { return name == entry.first; });
    return found == std::end(kKinds) ? std::nullopt : std::optional(found->second);
}

const Column* find_column(const Columns& columns, std::string_view name) {
    const auto found =
        std::find_if(columns.begin(), columns.end(), [&](const Column& column) { return column.name == name; });
    return found == columns.end() ? nullptr : &*found;
}

const Column& checked_column(const ColumnName& name, const Columns& columns, const std::string& where,
                             bool public_only) {
    const Column* const column = find_column(columns, name.name);
    // A private column is unknown to those who may not read it.
    if (column != nullptr && (column->is_public || !public_only)) return *column;
    std::string known;
    std::size_t count = 0;
    for (const Column& listed : columns) {
        if (public_only && !listed.is_public) continue;
        if (count++ < kMaxListed) known += (known.empty() ? "" : ", ") + listed.name;
    }
    throw std::invalid_argument(where + ": the items have no " + (public_only ? "public column " : "column ") +
                                shown(name.name) +
                                (name.position > 0 ? " (character " + std::to_string(name.position) + ")" : "") +
                                "; there is: " + (known.empty() ? "none" : known) + (count > kMaxListed ? ", .." : ""));
}

}  // namespace mtaw
