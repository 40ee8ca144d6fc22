#include "rules/condition.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <utility>

#include "text/utf8.hpp"

namespace mtaw {
namespace {

constexpr std::size_t kMaxValues = 16;  // after `in`, for numbers, times and texts: each is a pass over the column

bool is_equality(Compare compare) { return compare == Compare::equal || compare == Compare::not_equal; }

// Errors name the position in the text where the tree has one.
std::invalid_argument error_at(const std::string& where, std::int64_t position, const std::string& what) {
    return std::invalid_argument(where + ": " + what +
                                 (position > 0 ? " (character " + std::to_string(position) + ")" : ""));
}

bool is_labeled(ColumnKind kind) {
    return kind == ColumnKind::category || kind == ColumnKind::categories || kind == ColumnKind::text;
}
bool is_ordered(ColumnKind kind) { return kind == ColumnKind::number || kind == ColumnKind::time; }

std::string article(ColumnKind kind) {
    return kind == ColumnKind::categories ? "a list of categories" : std::string("a ") + name_of(kind);
}

// A value as the writer of the condition sees it.
std::string shown_value(const Operand& operand) {
    const Value& value = *operand.value;
    if (const auto* const text = std::get_if<std::string>(&value)) return shown(*text);
    if (const auto* const flag = std::get_if<bool>(&value)) return *flag ? "True" : "False";
    if (const auto* const whole = std::get_if<std::int64_t>(&value)) return std::to_string(*whole);
    char number[32];
    std::snprintf(number, sizeof number, "%.15g", numeric_of(value));
    return number;
}

// From 2001 to 2100 as seconds; as milliseconds, they are days of January and February 1970.
bool is_in_seconds(const Value& value) {
    const double number = numeric_of(value);
    return number >= 1e9 && number < 4'102'444'800.0;
}

void check_value(const Column& column, const Operand& other, const std::string& where) {
    const Value& value = *other.value;
    bool fits = false;
    const char* expected = "a text";
    switch (column.kind) {
        case ColumnKind::number:
            fits = std::holds_alternative<std::int64_t>(value) || std::holds_alternative<double>(value);
            expected = "a number";
            break;
        case ColumnKind::time:
            fits = moment_of(value).has_value() && !is_in_seconds(value);
            expected =
                is_in_seconds(value) ? "Unix milliseconds (seconds times 1000)" : "an ISO date or Unix milliseconds";
            break;
        case ColumnKind::boolean:
            fits = std::holds_alternative<bool>(value);
            expected = "True or False";
            break;
        default: fits = std::holds_alternative<std::string>(value);
    }
    if (fits) return;
    throw error_at(where, other.position,
                   "column " + shown(column.name) + " is " + article(column.kind) + ": compare it with " + expected +
                       ", not " + shown_value(other));
}

// operand: names a column, perhaps of the last click's item.
void check_compares(const Operand& operand, const Columns& columns, const std::string& where) {
    const Column& column = column_of(columns, operand.name);
    if (column.kind == ColumnKind::vector)
        throw error_at(where, operand.position,
                       "column " + shown(column.name) + " is a vector, which has no comparison");
}

// operand: names a column, perhaps of the last click's item.
void check_pair(const Operand& operand, const Operand& other, const Columns& columns, const std::string& where,
                bool ordered) {
    check_compares(operand, columns, where);
    const Column& column = column_of(columns, operand.name);
    if (ordered && !is_ordered(column.kind)) {
        throw error_at(
            where, operand.position,
            "column " + shown(column.name) + " is " + article(column.kind) + ", which has no order; use == or in");
    }
    if (other.is_value()) return check_value(column, other, where);
    const Column& second = column_of(columns, other.name);
    if (column.kind != second.kind && !(is_labeled(column.kind) && is_labeled(second.kind))) {
        throw error_at(where, other.position,
                       "column " + shown(second.name) + " is " + article(second.kind) + ", column " +
                           shown(column.name) + " " + article(column.kind) + "; they do not compare");
    }
}

void check_kinds(const Condition& condition, const Columns& columns, const std::string& where) {
    using Kind = Condition::Kind;
    for (const Condition& part : condition.parts) check_kinds(part, columns, where);
    if (condition.kind == Kind::truth) {
        const Column& named = column_of(columns, condition.column);
        if (named.kind != ColumnKind::boolean) {
            throw error_at(where, condition.position,
                           "column " + shown(named.name) + " is " + article(named.kind) + "; compare it with a value");
        }
    }
    const Operand &left = condition.left, &right = condition.right;
    if (condition.kind == Kind::compare) {
        const Operand &first = left.is_value() ? right : left, &second = left.is_value() ? left : right;
        check_pair(first, second, columns, where, !is_equality(condition.compare));
        if (first.source != Operand::Source::column || second.source != Operand::Source::column) return;
        for (const Operand* const operand : {&first, &second}) {
            const ColumnKind kind = column_of(columns, operand->name).kind;
            if (kind == ColumnKind::text || kind == ColumnKind::categories) {
                throw error_at(where, second.position,
                               "two columns of texts or lists do not compare; compare each with values");
            }
        }
    }
    if (condition.kind != Kind::in) return;
    if (!left.is_value()) check_compares(left, columns, where);
    for (const Operand& value : condition.values) {
        check_pair(left.is_value() ? value : left, left.is_value() ? left : value, columns, where, false);
        if (left.source == Operand::Source::column && value.source == Operand::Source::column) {
            throw error_at(where, value.position, "'in' takes a list of values; compare two columns with ==");
        }
    }
    if (left.is_value() || condition.values.size() <= kMaxValues) return;
    const ColumnKind kind = column_of(columns, left.name).kind;
    if (is_ordered(kind) || kind == ColumnKind::text) {
        throw error_at(
            where, left.position,
            std::string("a list of ") + name_of(kind) + "s has at most " + std::to_string(kMaxValues) + " values");
    }
}

}  // namespace

std::vector<ColumnName> Condition::names(bool of_current_only) const {
    std::vector<ColumnName> names;
    for (const Condition& part : parts) {
        for (ColumnName& name : part.names(of_current_only)) names.push_back(std::move(name));
    }
    if (kind == Kind::truth || kind == Kind::missing) {
        if (of_current || !of_current_only) names.push_back({column, position});
    }
    const auto add = [&](const Operand& operand) {
        if (operand.source == Operand::Source::current ||
            (operand.source == Operand::Source::column && !of_current_only))
            names.push_back({operand.name, operand.position});
    };
    add(left);
    add(right);
    for (const Operand& operand : values) add(operand);
    return names;
}

void Condition::add_texts(std::vector<std::pair<std::string, std::string>>& texts) const {
    for (const Condition& part : parts) part.add_texts(texts);
    const auto add = [&](const Operand& first, const Operand& second) {
        if (first.is_value() == second.is_value()) return;
        const Operand &named = first.is_value() ? second : first, &given = first.is_value() ? first : second;
        if (const auto* const text = std::get_if<std::string>(&*given.value)) texts.emplace_back(named.name, *text);
    };
    if (kind == Kind::compare) add(left, right);
    if (kind == Kind::in) {
        for (const Operand& operand : values) add(left, operand);
    }
}

void Condition::check(const Columns& columns, const std::string& where, bool public_only) const {
    for (const ColumnName& name : names()) checked_column(name, columns, where, public_only);
    check_kinds(*this, columns, where);
}

}  // namespace mtaw
