#include "rules/condition.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <utility>

#include "rules/condition_values.hpp"
#include "text/utf8.hpp"

namespace mtaw {
namespace {

constexpr int kMostDepth = 33;  // that of a text, and a chain of comparisons at its end
constexpr std::size_t kMostValues = 16;  // after `in`, for numbers, times and texts: each is a pass over the column
constexpr std::pair<const char*, Compare> kCompares[] = {{"<", Compare::less},     {"<=", Compare::less_equal},
                                                         {">", Compare::greater},  {">=", Compare::greater_equal},
                                                         {"==", Compare::equal},   {"!=", Compare::not_equal}};

bool is_equality(Compare compare) { return compare == Compare::equal || compare == Compare::not_equal; }

std::invalid_argument usage(const std::string& message) { return std::invalid_argument(message); }

// Errors name the place in the text where the tree has one.
std::invalid_argument wrong(const std::string& where, std::int64_t at, const std::string& what) {
    return usage(where + ": " + what + (at > 0 ? " (character " + std::to_string(at) + ")" : ""));
}

std::int64_t place_of(const Json& tree) {
    const Json* const at = tree.find("at");
    return at == nullptr ? 0 : at->whole().value_or(0);
}

std::string text_of(const Json& value, const std::string& where) {
    if (!value.is(Json::Kind::text)) throw usage(where + ": a column is named by a text");
    return value.text();
}

Side side_of(const Json& tree, const std::string& where) {
    Side side;
    side.at = place_of(tree);
    const Json *const column = tree.find("column"), *const current = tree.find("current"), *const value = tree.find("value");
    if ((column != nullptr) + (current != nullptr) + (value != nullptr) != 1) {
        throw wrong(where, side.at, R"(a side is {"column": NAME}, {"current": NAME} or {"value": VALUE})");
    }
    if (value == nullptr) {
        side.of = column != nullptr ? Side::Of::column : Side::Of::current;
        side.name = text_of(column != nullptr ? *column : *current, where);
        return side;
    }
    if (value->is(Json::Kind::boolean)) {
        side.value = value->flag();
    } else if (value->is(Json::Kind::text) && value->text().find('\0') == std::string::npos) {
        side.value = value->text();
    } else if (const std::optional<std::int64_t> whole = value->whole(); whole && *whole != std::numeric_limits<std::int64_t>::min()) {
        side.value = *whole;
    } else if (std::isfinite(value->number()) && value->text().find_first_of(".eE") != std::string::npos) {
        side.value = value->number();
    } else {
        throw wrong(where, side.at, "a value is a text, a number, true or false");
    }
    return side;
}

bool is_labeled(ColumnKind kind) { return kind == ColumnKind::category || kind == ColumnKind::categories || kind == ColumnKind::text; }
bool is_ordered(ColumnKind kind) { return kind == ColumnKind::number || kind == ColumnKind::time; }

std::string article(ColumnKind kind) {
    return kind == ColumnKind::categories ? "a list of categories" : std::string("a ") + name_of(kind);
}

// A value as the writer of the condition sees it: in a text, which has places, as Python has it.
std::string shown_value(const Side& side) {
    const Value& value = *side.value;
    if (const auto* const text = std::get_if<std::string>(&value)) return shown(*text);
    if (const auto* const flag = std::get_if<bool>(&value)) return side.at > 0 ? (*flag ? "True" : "False") : *flag ? "true" : "false";
    if (const auto* const whole = std::get_if<std::int64_t>(&value)) return std::to_string(*whole);
    char number[32];
    std::snprintf(number, sizeof number, "%.15g", number_of(value));
    return number;
}

void check_value(const Column& column, const Side& other, const std::string& where) {
    const Value& value = *other.value;
    bool fine = false;
    const char* wanted = "a text";
    switch (column.kind) {
        case ColumnKind::number:
            fine = std::holds_alternative<std::int64_t>(value) || std::holds_alternative<double>(value);
            wanted = "a number";
            break;
        case ColumnKind::time:
            fine = moment_of(value).has_value();
            wanted = "an ISO date or Unix milliseconds";
            break;
        case ColumnKind::boolean:
            fine = std::holds_alternative<bool>(value);
            wanted = other.at > 0 ? "True or False" : "true or false";
            break;
        default: fine = std::holds_alternative<std::string>(value);
    }
    if (fine) return;
    throw wrong(where, other.at, "column " + shown(column.name) + " is " + article(column.kind) + ": compare it with " + wanted + ", not " + shown_value(other));
}

// side: of a column, perhaps the last click's.
void check_compares(const Side& side, const Columns& columns, const std::string& where) {
    const Column& column = column_of(columns, side.name);
    if (column.kind == ColumnKind::vector) throw wrong(where, side.at, "column " + shown(column.name) + " is a vector, which has no comparison");
}

// side: of a column, perhaps the last click's.
void check_pair(const Side& side, const Side& other, const Columns& columns, const std::string& where, bool ordered) {
    check_compares(side, columns, where);
    const Column& column = column_of(columns, side.name);
    if (ordered && !is_ordered(column.kind)) {
        throw wrong(where, side.at, "column " + shown(column.name) + " is " + article(column.kind) + ", which has no order; use == or in");
    }
    if (other.is_value()) return check_value(column, other, where);
    const Column& second = column_of(columns, other.name);
    if (column.kind != second.kind && !(is_labeled(column.kind) && is_labeled(second.kind))) {
        throw wrong(where, other.at, "column " + shown(second.name) + " is " + article(second.kind) + ", column " + shown(column.name) + " " +
                                         article(column.kind) + "; they do not compare");
    }
}

void check_kinds(const Condition& condition, const Columns& columns, const std::string& where) {
    using Kind = Condition::Kind;
    for (const Condition& part : condition.parts) check_kinds(part, columns, where);
    if (condition.kind == Kind::truth) {
        const Column& named = column_of(columns, condition.column);
        if (named.kind != ColumnKind::boolean) {
            throw wrong(where, condition.at, "column " + shown(named.name) + " is " + article(named.kind) + "; compare it with a value");
        }
    }
    const Side &left = condition.left, &right = condition.right;
    if (condition.kind == Kind::compare) {
        const Side &first = left.is_value() ? right : left, &second = left.is_value() ? left : right;
        check_pair(first, second, columns, where, !is_equality(condition.compare));
        if (first.of != Side::Of::column || second.of != Side::Of::column) return;
        for (const Side* const side : {&first, &second}) {
            const ColumnKind of = column_of(columns, side->name).kind;
            if (of == ColumnKind::text || of == ColumnKind::categories) {
                throw wrong(where, second.at, "two columns of texts or lists do not compare; compare each with values");
            }
        }
    }
    if (condition.kind != Kind::in) return;
    if (!left.is_value()) check_compares(left, columns, where);
    for (const Side& one : condition.values) {
        check_pair(left.is_value() ? one : left, left.is_value() ? left : one, columns, where, false);
        if (left.of == Side::Of::column && one.of == Side::Of::column) {
            throw wrong(where, one.at, "'in' takes a list of values; compare two columns with ==");
        }
    }
    if (left.is_value() || condition.values.size() <= kMostValues) return;
    const ColumnKind of = column_of(columns, left.name).kind;
    if (is_ordered(of) || of == ColumnKind::text) {
        throw wrong(where, left.at, std::string("a list of ") + name_of(of) + "s has at most " + std::to_string(kMostValues) + " values");
    }
}

}  // namespace

Condition Condition::of(const Json& tree, const std::string& where, int depth) {
    if (depth > kMostDepth) throw usage(where + ": the condition is nested too deeply, the most is " + std::to_string(kMostDepth));
    if (!tree.is(Json::Kind::object)) {
        throw usage(where + R"(: a condition is a tree such as {"compare": "<", "left": {"column": "price"}, "right": {"value": 80}})");
    }
    Condition condition;
    condition.at = place_of(tree);
    const auto part = [&](const char* name) { return tree.find(name); };
    if (const Json* const parts = part("all") != nullptr ? part("all") : part("any")) {
        condition.kind = part("all") != nullptr ? Kind::all : Kind::any;
        if (!parts->is(Json::Kind::list) || parts->list().empty()) throw usage(where + ": 'all' and 'any' take a list of conditions");
        for (const Json& one : parts->list()) condition.parts.push_back(of(one, where, depth + 1));
    } else if (const Json* const other = part("not")) {
        condition.kind = Kind::opposite;
        condition.parts.push_back(of(*other, where, depth + 1));
    } else if (const Json* const value = part("constant")) {
        if (!value->is(Json::Kind::boolean)) throw usage(where + ": 'constant' is true or false");
        condition.value = value->flag();
    } else if (const Json* const truth = part("true")) {
        condition.kind = Kind::truth;
        condition.column = text_of(*truth, where);
    } else if (const Json* const missing = part("missing")) {
        condition.kind = Kind::missing;
        condition.column = text_of(*missing, where);
        condition.of_current = part("of") != nullptr;
        if (condition.of_current && part("of")->text() != "current") throw usage(where + R"(: 'of' is "current")");
    } else if (const Json* const op = part("compare")) {
        condition.kind = Kind::compare;
        const auto* const found = std::find_if(std::begin(kCompares), std::end(kCompares), [&](const auto& one) { return op->text() == one.first; });
        if (!op->is(Json::Kind::text) || found == std::end(kCompares)) throw usage(where + ": 'compare' is <, <=, >, >=, == or !=");
        condition.compare = found->second;
        if (part("left") == nullptr || part("right") == nullptr) throw usage(where + ": 'compare' needs left and right");
        condition.left = side_of(*part("left"), where);
        condition.right = side_of(*part("right"), where);
        if (condition.left.is_value() && condition.right.is_value()) throw wrong(where, condition.left.at, "a comparison of two values has no column");
    } else if (const Json* const left = part("in")) {
        condition.kind = Kind::in;
        condition.left = side_of(*left, where);
        const Json *const values = part("values"), *const negated = part("negated");
        if (values == nullptr || !values->is(Json::Kind::list)) throw usage(where + ": 'in' needs a list of values");
        for (const Json& one : values->list()) condition.values.push_back(side_of(one, where));
        if (negated != nullptr && !negated->is(Json::Kind::boolean)) throw usage(where + ": 'negated' is true or false");
        condition.negated = negated != nullptr && negated->flag();
        const bool columns = std::any_of(condition.values.begin(), condition.values.end(), [](const Side& one) { return !one.is_value(); });
        if (condition.left.is_value() ? !columns || condition.values.size() > 1 : columns && condition.values.size() > 1) {
            throw wrong(where, condition.left.at, "'in' takes a column and values, or a value and a column");
        }
    } else {
        throw usage(where + ": a condition is one of all, any, not, compare, in, true, missing and constant");
    }
    return condition;
}

std::int64_t Condition::clauses() const {
    std::int64_t count = 0;
    for (const Condition& part : parts) count += part.clauses();
    return parts.empty() ? 1 : count;
}

std::vector<ColumnName> Condition::names(bool of_current_only) const {
    std::vector<ColumnName> found;
    for (const Condition& part : parts) {
        for (ColumnName& name : part.names(of_current_only)) found.push_back(std::move(name));
    }
    if (kind == Kind::truth || kind == Kind::missing) {
        if (of_current || !of_current_only) found.push_back({column, at});
    }
    const auto add = [&](const Side& side) {
        if (side.of == Side::Of::current || (side.of == Side::Of::column && !of_current_only)) found.push_back({side.name, side.at});
    };
    add(left);
    add(right);
    for (const Side& one : values) add(one);
    return found;
}

void Condition::check(const Columns& columns, const std::string& where, bool public_only) const {
    for (const ColumnName& name : names()) checked_column(name, columns, where, public_only);
    check_kinds(*this, columns, where);
}

}  // namespace mtaw
