#include "rules/condition.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "text/iso_date.hpp"
#include "text/utf8.hpp"

namespace mtaw {
namespace {

constexpr int kMostDepth = 33;  // that of a text, and a chain of comparisons at its end
constexpr std::size_t kMostValues = 16;  // after `in`, for numbers, times and texts: each is a pass over the column
constexpr std::pair<const char*, Compare> kCompares[] = {{"<", Compare::less},     {"<=", Compare::less_equal},
                                                         {">", Compare::greater},  {">=", Compare::greater_equal},
                                                         {"==", Compare::equal},   {"!=", Compare::not_equal}};

Compare opposite(Compare compare) {
    switch (compare) {
        case Compare::less: return Compare::greater;
        case Compare::less_equal: return Compare::greater_equal;
        case Compare::greater: return Compare::less;
        case Compare::greater_equal: return Compare::less_equal;
        default: return compare;
    }
}

bool is_equality(Compare compare) { return compare == Compare::equal || compare == Compare::not_equal; }

std::invalid_argument usage(const std::string& message) { return std::invalid_argument(message); }

// Errors name the place in the text where the tree has one.
std::invalid_argument wrong(const std::string& where, std::int64_t at, const std::string& what) {
    return usage(where + ": " + what + (at > 0 ? " (character " + std::to_string(at) + ")" : ""));
}

// A column that was checked.
const Column& column_of(const Columns& columns, const std::string& name) { return *find_column(columns, name); }

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

// What a comparison with a time means by a value.
std::optional<std::int64_t> moment_of(const Value& value) {
    if (const auto* const text = std::get_if<std::string>(&value)) return milliseconds_of(*text);
    if (const auto* const whole = std::get_if<std::int64_t>(&value)) return *whole;
    if (const auto* const number = std::get_if<double>(&value)) {
        if (std::abs(*number) < 9e18 && *number == std::floor(*number)) return static_cast<std::int64_t>(*number);
    }
    return std::nullopt;
}

double number_of(const Value& value) {
    if (const auto* const whole = std::get_if<std::int64_t>(&value)) return static_cast<double>(*whole);
    if (const auto* const number = std::get_if<double>(&value)) return *number;
    return std::numeric_limits<double>::quiet_NaN();
}

const std::string& string_of(const Value& value) {
    static const std::string none;
    const auto* const text = std::get_if<std::string>(&value);
    return text == nullptr ? none : *text;
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
void check_pair(const Side& side, const Side& other, const Columns& columns, const std::string& where, bool ordered) {
    const Column& column = column_of(columns, side.name);
    if (column.kind == ColumnKind::vector) throw wrong(where, side.at, "column " + shown(column.name) + " is a vector, which has no comparison");
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

// An item's value; none if it is missing.
std::optional<Value> value_at(const Column& column, std::int32_t item) {
    const auto label = [&](std::int32_t code) { return std::string(column.label(code)); };
    if (item < 0 || item >= column.n_rows) return std::nullopt;  // items that were added have no row
    switch (column.kind) {
        case ColumnKind::number:
            if (std::isnan(column.numbers[item])) return std::nullopt;
            return Value(column.numbers[item]);
        case ColumnKind::time:
            if (column.times[item] == std::numeric_limits<std::int64_t>::min()) return std::nullopt;
            return Value(column.times[item]);
        case ColumnKind::boolean:
            if (column.flags[item] == -1) return std::nullopt;
            return Value(column.flags[item] != 0);
        case ColumnKind::category:
            if (column.codes[item] < 0 || column.codes[item] >= column.n_labels) return std::nullopt;
            return Value(label(column.codes[item]));
        case ColumnKind::vector:
            if (column.d == 0 || std::isnan(column.vectors[item * column.d])) return std::nullopt;
            return Value(true);  // only whether it is missing can be asked
        default: break;
    }
    const std::int64_t begin = column.offsets[item], end = column.offsets[item + 1];
    if (begin == end) return std::nullopt;
    if (column.kind == ColumnKind::text) return Value(std::string(reinterpret_cast<const char*>(column.data) + begin, static_cast<std::size_t>(end - begin)));
    std::vector<std::string> labels;
    for (std::int64_t i = begin; i < end; ++i) labels.push_back(label(column.codes[i]));
    return Value(std::move(labels));
}

void resolve(Side& side, const Columns& columns, std::optional<std::int32_t> item) {
    if (side.of != Side::Of::current) return;
    side.value = item ? value_at(column_of(columns, side.name), *item) : std::nullopt;
    side.of = Side::Of::value;
}

template <typename T>
bool compares(Compare op, const T& a, const T& b) {
    switch (op) {
        case Compare::less: return a < b;
        case Compare::less_equal: return a <= b;
        case Compare::greater: return a > b;
        case Compare::greater_equal: return a >= b;
        case Compare::equal: return a == b;
        case Compare::not_equal: return a != b;
    }
    return false;
}

std::vector<std::string> listed(const Value& value) {
    const auto* const list = std::get_if<std::vector<std::string>>(&value);
    return list == nullptr ? std::vector<std::string>{string_of(value)} : *list;
}

// A comparison of two values; a list is equal to what it shares a value with.
bool holds(Compare op, const Value& left, const Value& right, ColumnKind kind) {
    if (kind == ColumnKind::time) return compares(op, moment_of(left).value_or(0), moment_of(right).value_or(0));
    if (kind == ColumnKind::number) return compares(op, number_of(left), number_of(right));
    if (kind == ColumnKind::boolean) return compares(op, left, right);
    const std::vector<std::string> others = listed(right);
    const std::vector<std::string> own = listed(left);
    const bool shared = std::any_of(own.begin(), own.end(), [&](const std::string& one) {
        return std::find(others.begin(), others.end(), one) != others.end();
    });
    return shared == (op == Compare::equal);
}

Condition constant(bool value) {
    Condition condition;
    condition.value = value;
    return condition;
}

std::vector<std::uint8_t> accepted(const Column& column, const std::vector<Value>& values, bool negated) {
    std::vector<std::string_view> wanted;
    for (const Value& value : values) wanted.push_back(string_of(value));
    std::sort(wanted.begin(), wanted.end());
    std::vector<std::uint8_t> flags(static_cast<std::size_t>(column.n_labels));
    for (std::size_t code = 0; code < flags.size(); ++code) {
        flags[code] = std::binary_search(wanted.begin(), wanted.end(), column.label(static_cast<std::int64_t>(code))) != negated;
    }
    return flags;
}

Missing missing_of(const Column& column) {
    Missing missing;
    missing.numbers = column.numbers;
    missing.times = column.times;
    missing.flags = column.flags;
    missing.offsets = column.offsets;
    missing.vectors = column.vectors;
    missing.d = column.d;
    if (column.offsets == nullptr) missing.codes = column.codes;
    return missing;
}

// == holds for any of the values, != for none.
void add_test(std::vector<Instruction>& program, const Column& column, Compare op, const std::vector<Value>& values) {
    const std::int64_t n = column.n_rows;
    const bool negated = op == Compare::not_equal;
    switch (column.kind) {
        case ColumnKind::category:
            program.push_back(Leaf{CodeIn{column.codes, accepted(column, values, negated)}, n});
            return;
        case ColumnKind::categories:
            program.push_back(Leaf{ListHas{column.offsets, column.codes, accepted(column, values, false), negated}, n});
            return;
        case ColumnKind::text: {
            std::vector<std::string> texts;
            for (const Value& value : values) texts.push_back(string_of(value));
            program.push_back(Leaf{TextIn{column.offsets, column.data, std::move(texts), negated}, n});
            return;
        }
        default: break;
    }
    for (const Value& value : values) {
        if (column.kind == ColumnKind::boolean) {
            const auto flag = static_cast<std::int8_t>(std::get_if<bool>(&value) != nullptr && std::get<bool>(value));
            program.push_back(Leaf{FlagIs{column.flags, nullptr, flag, op == Compare::equal}, n});
        } else if (column.kind == ColumnKind::number) {
            program.push_back(Leaf{NumberIs{column.numbers, nullptr, number_of(value), op}, n});
        } else {
            program.push_back(Leaf{TimeIs{column.times, nullptr, moment_of(value).value_or(0), op}, n});
        }
    }
    if (values.empty()) {  // not in (): true unless the value is missing
        if (op == Compare::equal) {
            program.push_back(Leaf{Constant{false}, 0});
        } else {
            program.push_back(Leaf{missing_of(column), n});
            program.push_back(Combine{Combine::How::opposite, 1});
        }
    } else if (values.size() > 1) {
        program.push_back(Combine{negated ? Combine::How::all : Combine::How::any, static_cast<std::int64_t>(values.size())});
    }
}

void add_columns(std::vector<Instruction>& program, const Column& column, const Column& other, Compare op) {
    const std::int64_t n = column.n_rows;
    switch (column.kind) {
        case ColumnKind::category: {
            std::unordered_map<std::string_view, std::int32_t> codes;
            for (std::int64_t code = 0; code < column.n_labels; ++code) codes.insert_or_assign(column.label(code), static_cast<std::int32_t>(code));
            std::vector<std::int32_t> translation;
            for (std::int64_t code = 0; code < other.n_labels; ++code) {
                const auto found = codes.find(other.label(code));
                translation.push_back(found == codes.end() ? -1 : found->second);
            }
            program.push_back(Leaf{CodeIs{column.codes, other.codes, std::move(translation), op == Compare::equal}, n});
            return;
        }
        case ColumnKind::boolean:
            program.push_back(Leaf{FlagIs{column.flags, other.flags, 0, op == Compare::equal}, n});
            return;
        case ColumnKind::number: program.push_back(Leaf{NumberIs{column.numbers, other.numbers, 0, op}, n}); return;
        default: program.push_back(Leaf{TimeIs{column.times, other.times, 0, op}, n});
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

Condition Condition::resolved(const Columns& columns, std::optional<std::int32_t> item) const {
    Condition out = *this;
    for (Condition& part : out.parts) part = part.resolved(columns, item);
    if (kind == Kind::missing && of_current) return constant(!item || !value_at(column_of(columns, column), *item));
    if ((kind != Kind::compare && kind != Kind::in) || names(true).empty()) return out;
    if (kind == Kind::compare) {
        const ColumnKind of = column_of(columns, left.is_value() ? right.name : left.name).kind;
        resolve(out.left, columns, item);
        resolve(out.right, columns, item);
        if ((out.left.is_value() && !out.left.value) || (out.right.is_value() && !out.right.value)) return constant(false);
        if (out.left.is_value() && out.right.is_value()) return constant(holds(compare, *out.left.value, *out.right.value, of));
        if (out.left.is_value()) {
            std::swap(out.left, out.right);
            out.compare = opposite(compare);
        }
        if (!std::holds_alternative<std::vector<std::string>>(*out.right.value)) return out;
        out.kind = Kind::in;
        out.negated = compare == Compare::not_equal;
        for (const std::string& label : listed(*out.right.value)) {
            Side one;
            one.value = label;
            out.values.push_back(std::move(one));
        }
        return out;
    }
    const ColumnKind of = column_of(columns, left.is_value() ? values.front().name : left.name).kind;
    resolve(out.left, columns, item);
    out.values.clear();
    for (Side one : values) {
        resolve(one, columns, item);
        if (one.is_value() && !one.value) continue;
        if (!one.is_value() || !std::holds_alternative<std::vector<std::string>>(*one.value)) {
            out.values.push_back(std::move(one));
            continue;
        }
        for (const std::string& label : listed(*one.value)) {
            Side label_side;
            label_side.value = label;
            out.values.push_back(std::move(label_side));
        }
    }
    if ((out.left.is_value() && !out.left.value) || (!values.empty() && out.values.empty())) return constant(false);
    if (!out.left.is_value() || std::any_of(out.values.begin(), out.values.end(), [](const Side& one) { return !one.is_value(); })) return out;
    const bool found = std::any_of(out.values.begin(), out.values.end(), [&](const Side& one) { return holds(Compare::equal, *out.left.value, *one.value, of); });
    return constant(found != negated);
}

void Condition::add_to(std::vector<Instruction>& program, const Columns& columns) const {
    switch (kind) {
        case Kind::all:
        case Kind::any:
            for (const Condition& part : parts) part.add_to(program, columns);
            program.push_back(Combine{kind == Kind::all ? Combine::How::all : Combine::How::any, static_cast<std::int64_t>(parts.size())});
            return;
        case Kind::opposite:
            parts.front().add_to(program, columns);
            program.push_back(Combine{Combine::How::opposite, 1});
            return;
        case Kind::constant: program.push_back(Leaf{Constant{value}, 0}); return;
        case Kind::truth: {
            const Column& named = column_of(columns, column);
            program.push_back(Leaf{FlagIs{named.flags, nullptr, 1, true}, named.n_rows});
            return;
        }
        case Kind::missing: {
            const Column& named = column_of(columns, column);
            if (named.kind == ColumnKind::vector && named.d == 0) {  // there is no vector yet
                program.push_back(Leaf{Constant{true}, 0});
            } else {
                program.push_back(Leaf{missing_of(named), named.n_rows});
            }
            return;
        }
        case Kind::compare: {
            const bool swapped = left.is_value();
            const Side &first = swapped ? right : left, &second = swapped ? left : right;
            const Compare op = swapped ? opposite(compare) : compare;
            if (second.is_value()) return add_test(program, column_of(columns, first.name), op, {*second.value});
            return add_columns(program, column_of(columns, first.name), column_of(columns, second.name), op);
        }
        case Kind::in: break;
    }
    const Compare op = negated ? Compare::not_equal : Compare::equal;
    std::vector<Value> wanted;
    if (left.is_value()) {
        if (const auto* const labels = std::get_if<std::vector<std::string>>(&*left.value)) {
            wanted.assign(labels->begin(), labels->end());
        } else {
            wanted.push_back(*left.value);
        }
        return add_test(program, column_of(columns, values.front().name), op, wanted);
    }
    for (const Side& one : values) wanted.push_back(*one.value);
    add_test(program, column_of(columns, left.name), op, wanted);
}

RuleProgram program_of(const Condition& condition, const Columns& columns, std::optional<std::int32_t> current) {
    std::vector<Instruction> program;
    condition.resolved(columns, current).add_to(program, columns);
    return RuleProgram(std::move(program));
}

}  // namespace mtaw
