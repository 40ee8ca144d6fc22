// The columns of an item table, as rules read them; mtaw_fast/items/columns.py describes the arrays.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mtaw {

enum class ColumnKind : std::uint8_t { number, category, categories, boolean, text, time, vector };

const char* name_of(ColumnKind kind);
std::optional<ColumnKind> column_kind_of(std::string_view name);

// Views: the arrays outlive it.
struct Column {
    std::string name;
    ColumnKind kind = ColumnKind::number;
    bool is_public = false;
    std::int64_t n_rows = 0;
    const double* numbers = nullptr;        // number; missing: NaN
    const std::int64_t* times = nullptr;    // time; missing: the least int64
    const std::int8_t* flags = nullptr;     // boolean; missing: -1
    const std::int32_t* codes = nullptr;    // category, missing: -1; categories, end to end
    const std::int64_t* offsets = nullptr;  // categories and text: [n_rows + 1], an empty row is missing
    const std::uint8_t* data = nullptr;     // text: UTF-8
    const float* vectors = nullptr;         // vector: [n_rows, d]; missing: NaN
    std::int64_t d = 0;
    std::int64_t n_labels = 0;  // of the codes
    const std::int64_t* label_offsets = nullptr;
    const char* label_text = nullptr;

    std::string_view label(std::int64_t code) const {
        return {label_text + label_offsets[code],
                static_cast<std::size_t>(label_offsets[code + 1] - label_offsets[code])};
    }
};

using Columns = std::vector<Column>;

const Column* find_column(const Columns& columns, std::string_view name);

// How a rule names a column.
struct ColumnName {
    std::string name;
    std::int64_t position = 0;  // character of the text that the rule was made from, from 1; 0: unknown
};

// Throws std::invalid_argument, naming `where`, if there is no such column, or it is private and `public_only`.
const Column& checked_column(const ColumnName& name, const Columns& columns, const std::string& where,
                             bool public_only);

}  // namespace mtaw
