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

constexpr int kMaxDepth = 33;           // that of a condition written as text, and a chain of comparisons at its end
constexpr std::size_t kMaxValues = 16;  // after `in`, for numbers, times and texts: each is a pass over the column
constexpr std::pair<const char*, Compare> kCompares[] = {{"<", Compare::less},    {"<=", Compare::less_equal},
                                                         {">", Compare::greater}, {">=", Compare::greater_equal},
                                                         {"==", Compare::equal},  {"!=", Compare::not_equal}};

bool is_equality(Compare compare) { return compare == Compare::equal || compare == Compare::not_equal; }

// Errors name the position in the text where the tree has one.
std::invalid_argument error_at(const std::string& where, std::int64_t position, const std::string& what) {
    return std::invalid_argument(where + ": " + what +
                                 (position > 0 ? " (character " + std::to_string(position) + ")" : ""));
}

std::int64_t position_of(const Json& tree) {
    const Json* const position = tree.find("at");
    return position == nullptr ? 0 : position->whole().value_or(0);
}

std::string column_name_in(const Json& value, const std::string& where) {
    if (!value.is(Json::Kind::text)) throw std::invalid_argument(where + ": a column is named by a text");
    return value.text();
}

Operand parse_operand(const Json& tree, const std::string& where) {
    Operand operand;
    operand.position = position_of(tree);
    const Json *const column = tree.find("column"), *const current = tree.find("current"),
                      *const value = tree.find("value");
    if ((column != nullptr) + (current != nullptr) + (value != nullptr) != 1) {
        throw error_at(where, operand.position, R"(a side is {"column": NAME}, {"current": NAME} or {"value": VALUE})");
    }
    if (value == nullptr) {
        operand.source = column != nullptr ? Operand::Source::column : Operand::Source::current;
        operand.name = column_name_in(column != nullptr ? *column : *current, where);
        return operand;
    }
    if (value->is(Json::Kind::boolean)) {
        operand.value = value->flag();
    } else if (value->is(Json::Kind::text) && value->text().find('\0') == std::string::npos) {
        operand.value = value->text();
    } else if (const std::optional<std::int64_t> whole = value->whole();
               whole && *whole != std::numeric_limits<std::int64_t>::min()) {
        operand.value = *whole;
    } else if (std::isfinite(value->number()) && value->text().find_first_of(".eE") != std::string::npos) {
        operand.value = value->number();
    } else {
        throw error_at(where, operand.position, "a value is a text, a number, true or false");
    }
    return operand;
}

bool is_labeled(ColumnKind kind) {
    return kind == ColumnKind::category || kind == ColumnKind::categories || kind == ColumnKind::text;
}
bool is_ordered(ColumnKind kind) { return kind == ColumnKind::number || kind == ColumnKind::time; }

std::string article(ColumnKind kind) {
    return kind == ColumnKind::categories ? "a list of categories" : std::string("a ") + name_of(kind);
}

// A value as the writer of the condition sees it: in a text, which has positions, as Python has it.
std::string shown_value(const Operand& operand) {
    const Value& value = *operand.value;
    if (const auto* const text = std::get_if<std::string>(&value)) return shown(*text);
    if (const auto* const flag = std::get_if<bool>(&value))
        return operand.position > 0 ? (*flag ? "True" : "False") : *flag ? "true" : "false";
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
            expected = other.position > 0 ? "True or False" : "true or false";
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

Condition Condition::parse(const Json& tree, const std::string& where, int depth) {
    if (depth > kMaxDepth)
        throw std::invalid_argument(where + ": the condition is nested too deeply, the most is " +
                                    std::to_string(kMaxDepth));
    if (!tree.is(Json::Kind::object)) {
        throw std::invalid_argument(
            where +
            R"(: a condition is a tree such as {"compare": "<", "left": {"column": "price"}, "right": {"value": 80}})");
    }
    Condition condition;
    condition.position = position_of(tree);
    const auto part = [&](const char* name) { return tree.find(name); };
    if (const Json* const parts = part("all") != nullptr ? part("all") : part("any")) {
        condition.kind = part("all") != nullptr ? Kind::all : Kind::any;
        if (!parts->is(Json::Kind::list) || parts->list().empty())
            throw std::invalid_argument(where + ": 'all' and 'any' take a list of conditions");
        for (const Json& child : parts->list()) condition.parts.push_back(parse(child, where, depth + 1));
    } else if (const Json* const negated_part = part("not")) {
        condition.kind = Kind::negation;
        condition.parts.push_back(parse(*negated_part, where, depth + 1));
    } else if (const Json* const value = part("constant")) {
        if (!value->is(Json::Kind::boolean)) throw std::invalid_argument(where + ": 'constant' is true or false");
        condition.value = value->flag();
    } else if (const Json* const truth = part("true")) {
        condition.kind = Kind::truth;
        condition.column = column_name_in(*truth, where);
    } else if (const Json* const missing = part("missing")) {
        condition.kind = Kind::missing;
        condition.column = column_name_in(*missing, where);
        condition.of_current = part("of") != nullptr;
        if (condition.of_current && part("of")->text() != "current")
            throw std::invalid_argument(where + R"(: 'of' is "current")");
    } else if (const Json* const op = part("compare")) {
        condition.kind = Kind::compare;
        const auto* const found = std::find_if(std::begin(kCompares), std::end(kCompares),
                                               [&](const auto& entry) { return op->text() == entry.first; });
        if (!op->is(Json::Kind::text) || found == std::end(kCompares))
            throw std::invalid_argument(where + ": 'compare' is <, <=, >, >=, == or !=");
        condition.compare = found->second;
        if (part("left") == nullptr || part("right") == nullptr)
            throw std::invalid_argument(where + ": 'compare' needs left and right");
        condition.left = parse_operand(*part("left"), where);
        condition.right = parse_operand(*part("right"), where);
        if (condition.left.is_value() && condition.right.is_value())
            throw error_at(where, condition.left.position, "a comparison of two values has no column");
    } else if (const Json* const left = part("in")) {
        condition.kind = Kind::in;
        condition.left = parse_operand(*left, where);
        const Json *const values = part("values"), *const negated = part("negated");
        if (values == nullptr || !values->is(Json::Kind::list))
            throw std::invalid_argument(where + ": 'in' needs a list of values");
        for (const Json& member : values->list()) condition.values.push_back(parse_operand(member, where));
        if (negated != nullptr && !negated->is(Json::Kind::boolean))
            throw std::invalid_argument(where + ": 'negated' is true or false");
        condition.negated = negated != nullptr && negated->flag();
        const bool has_column = std::any_of(condition.values.begin(), condition.values.end(),
                                            [](const Operand& operand) { return !operand.is_value(); });
        if (condition.left.is_value() ? !has_column || condition.values.size() > 1
                                      : has_column && condition.values.size() > 1) {
            throw error_at(where, condition.left.position, "'in' takes a column and values, or a value and a column");
        }
    } else {
        throw std::invalid_argument(where +
                                    ": a condition is one of all, any, not, compare, in, true, missing and constant");
    }
    return condition;
}

std::int64_t Condition::clauses() const {
    std::int64_t count = 0;
    for (const Condition& part : parts) count += part.clauses();
    return parts.empty() ? 1 : count;
}

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

void Condition::check(const Columns& columns, const std::string& where, bool public_only) const {
    for (const ColumnName& name : names()) checked_column(name, columns, where, public_only);
    check_kinds(*this, columns, where);
}

}  // namespace mtaw
