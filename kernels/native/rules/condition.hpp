// A condition on items (docs/rules.md) as a tree, checked against columns and made into a program over them.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "rules/columns.hpp"
#include "rules/program.hpp"
#include "text/iso_date.hpp"
#include "text/json.hpp"

namespace mtaw {

inline constexpr std::int64_t kMaxClauses = 32;  // of all rules together

// What an item has in a column, or a condition names. The last: the labels of a list of categories.
using Value = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>>;

struct Operand {
    enum class Source : std::uint8_t { column, current, value } source = Source::value;
    std::string name;  // of the column
    std::optional<Value> value;
    std::int64_t position = 0;

    bool is_value() const { return source == Source::value; }
};

struct Condition {
    enum class Kind : std::uint8_t { all, any, negation, constant, truth, missing, compare, in } kind = Kind::constant;
    std::vector<Condition> parts;  // all, any, negation
    bool value = false;            // constant
    std::string column;            // truth, missing
    bool of_current = false;       // missing: of the last click's item
    Compare compare = Compare::equal;
    Operand left, right;          // compare; `left` of `in` too
    std::vector<Operand> values;  // in
    bool negated = false;         // in
    std::int64_t position = 0;    // character of its text, from 1

    // Reads a text. clauses_left: how many it may have, less those that it has afterwards. Throws
    // std::invalid_argument, one line that names `where` and the position.
    static Condition parse(std::string_view text, const std::string& where, std::int64_t& clauses_left);

    // Columns in the order of the tree; of_current: whose values of the last click's item it uses, else all.
    std::vector<ColumnName> names(bool of_current = false) const;
    // The texts that columns are compared with, and these columns.
    void add_texts(std::vector<std::pair<std::string, std::string>>& texts) const;
    // Throws std::invalid_argument, naming `where`, unless it fits the columns.
    void check(const Columns& columns, const std::string& where, bool public_only) const;
    // With the values of the last click's item in place of `current`; without an item they are missing.
    Condition resolved(const Columns& columns, std::optional<std::int32_t> item) const;
    // Of a checked and resolved one.
    void add_to(std::vector<Instruction>& program, const Columns& columns) const;
};

// The program of a checked condition after a click on the item `current`, perhaps none.
RuleProgram program_of(const Condition& condition, const Columns& columns, std::optional<std::int32_t> current);

// What the values of a condition mean; shared by its check and its program.

// A column that was checked.
inline const Column& column_of(const Columns& columns, const std::string& name) { return *find_column(columns, name); }

// What a comparison with a time means by a value.
inline std::optional<std::int64_t> moment_of(const Value& value) {
    if (const auto* const text = std::get_if<std::string>(&value)) return milliseconds_of(*text);
    if (const auto* const whole = std::get_if<std::int64_t>(&value)) return *whole;
    if (const auto* const number = std::get_if<double>(&value)) {
        if (std::abs(*number) < 9e18 && *number == std::floor(*number)) return static_cast<std::int64_t>(*number);
    }
    return std::nullopt;
}

inline double numeric_of(const Value& value) {
    if (const auto* const whole = std::get_if<std::int64_t>(&value)) return static_cast<double>(*whole);
    if (const auto* const number = std::get_if<double>(&value)) return *number;
    return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace mtaw
