// From a checked condition to its program.
#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <utility>

#include "rules/condition.hpp"

namespace mtaw {
namespace {

Compare mirrored(Compare compare) {
    switch (compare) {
        case Compare::less: return Compare::greater;
        case Compare::less_equal: return Compare::greater_equal;
        case Compare::greater: return Compare::less;
        case Compare::greater_equal: return Compare::less_equal;
        default: return compare;
    }
}

const std::string& string_of(const Value& value) {
    static const std::string none;
    const auto* const text = std::get_if<std::string>(&value);
    return text == nullptr ? none : *text;
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
    if (column.kind == ColumnKind::text)
        return Value(
            std::string(reinterpret_cast<const char*>(column.data) + begin, static_cast<std::size_t>(end - begin)));
    std::vector<std::string> labels;
    for (std::int64_t i = begin; i < end; ++i) labels.push_back(label(column.codes[i]));
    return Value(std::move(labels));
}

void resolve(Operand& operand, const Columns& columns, std::optional<std::int32_t> item) {
    if (operand.source != Operand::Source::current) return;
    operand.value = item ? value_at(column_of(columns, operand.name), *item) : std::nullopt;
    operand.source = Operand::Source::value;
}

template <typename T>
bool compare_values(Compare op, const T& a, const T& b) {
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

std::vector<std::string> labels_of(const Value& value) {
    const auto* const list = std::get_if<std::vector<std::string>>(&value);
    return list == nullptr ? std::vector<std::string>{string_of(value)} : *list;
}

// A comparison of two values; a list is equal to what it shares a value with.
bool compare_by_kind(Compare op, const Value& left, const Value& right, ColumnKind kind) {
    if (kind == ColumnKind::time) return compare_values(op, moment_of(left).value_or(0), moment_of(right).value_or(0));
    if (kind == ColumnKind::number) return compare_values(op, numeric_of(left), numeric_of(right));
    if (kind == ColumnKind::boolean) return compare_values(op, left, right);
    const std::vector<std::string> right_labels = labels_of(right);
    const std::vector<std::string> left_labels = labels_of(left);
    const bool overlap = std::any_of(left_labels.begin(), left_labels.end(), [&](const std::string& label) {
        return std::find(right_labels.begin(), right_labels.end(), label) != right_labels.end();
    });
    return overlap == (op == Compare::equal);
}

Condition constant(bool value) {
    Condition condition;
    condition.value = value;
    return condition;
}

std::vector<std::uint8_t> accepted_codes(const Column& column, const std::vector<Value>& values, bool negated) {
    std::vector<std::string_view> labels;
    for (const Value& value : values) labels.push_back(string_of(value));
    std::sort(labels.begin(), labels.end());
    std::vector<std::uint8_t> flags(static_cast<std::size_t>(column.n_labels));
    for (std::size_t code = 0; code < flags.size(); ++code) {
        flags[code] =
            std::binary_search(labels.begin(), labels.end(), column.label(static_cast<std::int64_t>(code))) != negated;
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
    const std::int64_t n_rows = column.n_rows;
    const bool negated = op == Compare::not_equal;
    switch (column.kind) {
        case ColumnKind::category:
            program.push_back(Leaf{CodeIn{column.codes, accepted_codes(column, values, negated)}, n_rows});
            return;
        case ColumnKind::categories:
            program.push_back(
                Leaf{ListHas{column.offsets, column.codes, accepted_codes(column, values, false), negated}, n_rows});
            return;
        case ColumnKind::text: {
            std::vector<std::string> texts;
            for (const Value& value : values) texts.push_back(string_of(value));
            program.push_back(Leaf{TextIn{column.offsets, column.data, std::move(texts), negated}, n_rows});
            return;
        }
        default: break;
    }
    for (const Value& value : values) {
        if (column.kind == ColumnKind::boolean) {
            const auto flag = static_cast<std::int8_t>(std::get_if<bool>(&value) != nullptr && std::get<bool>(value));
            program.push_back(Leaf{FlagIs{column.flags, nullptr, flag, op == Compare::equal}, n_rows});
        } else if (column.kind == ColumnKind::number) {
            program.push_back(Leaf{NumberIs{column.numbers, nullptr, numeric_of(value), op}, n_rows});
        } else {
            program.push_back(Leaf{TimeIs{column.times, nullptr, moment_of(value).value_or(0), op}, n_rows});
        }
    }
    if (values.empty()) {  // not in (): true unless the value is missing
        if (op == Compare::equal) {
            program.push_back(Leaf{Constant{false}, 0});
        } else {
            program.push_back(Leaf{missing_of(column), n_rows});
            program.push_back(Combine{Combine::How::negation, 1});
        }
    } else if (values.size() > 1) {
        program.push_back(
            Combine{negated ? Combine::How::all : Combine::How::any, static_cast<std::int64_t>(values.size())});
    }
}

void add_column_test(std::vector<Instruction>& program, const Column& column, const Column& other, Compare op) {
    const std::int64_t n_rows = column.n_rows;
    switch (column.kind) {
        case ColumnKind::category: {
            std::unordered_map<std::string_view, std::int32_t> codes;
            for (std::int64_t code = 0; code < column.n_labels; ++code)
                codes.insert_or_assign(column.label(code), static_cast<std::int32_t>(code));
            std::vector<std::int32_t> translation;
            for (std::int64_t code = 0; code < other.n_labels; ++code) {
                const auto found = codes.find(other.label(code));
                translation.push_back(found == codes.end() ? -1 : found->second);
            }
            program.push_back(
                Leaf{CodeIs{column.codes, other.codes, std::move(translation), op == Compare::equal}, n_rows});
            return;
        }
        case ColumnKind::boolean:
            program.push_back(Leaf{FlagIs{column.flags, other.flags, 0, op == Compare::equal}, n_rows});
            return;
        case ColumnKind::number:
            program.push_back(Leaf{NumberIs{column.numbers, other.numbers, 0, op}, n_rows});
            return;
        default: program.push_back(Leaf{TimeIs{column.times, other.times, 0, op}, n_rows});
    }
}

}  // namespace

Condition Condition::resolved(const Columns& columns, std::optional<std::int32_t> item) const {
    Condition out = *this;
    for (Condition& part : out.parts) part = part.resolved(columns, item);
    if (kind == Kind::missing && of_current) return constant(!item || !value_at(column_of(columns, column), *item));
    if ((kind != Kind::compare && kind != Kind::in) || names(true).empty()) return out;
    if (kind == Kind::compare) {
        const ColumnKind column_kind = column_of(columns, left.is_value() ? right.name : left.name).kind;
        resolve(out.left, columns, item);
        resolve(out.right, columns, item);
        if ((out.left.is_value() && !out.left.value) || (out.right.is_value() && !out.right.value))
            return constant(false);
        if (out.left.is_value() && out.right.is_value())
            return constant(compare_by_kind(compare, *out.left.value, *out.right.value, column_kind));
        if (out.left.is_value()) {
            std::swap(out.left, out.right);
            out.compare = mirrored(compare);
        }
        if (!std::holds_alternative<std::vector<std::string>>(*out.right.value)) return out;
        out.kind = Kind::in;
        out.negated = compare == Compare::not_equal;
        for (const std::string& label : labels_of(*out.right.value)) {
            Operand operand;
            operand.value = label;
            out.values.push_back(std::move(operand));
        }
        return out;
    }
    const ColumnKind column_kind = column_of(columns, left.is_value() ? values.front().name : left.name).kind;
    resolve(out.left, columns, item);
    out.values.clear();
    for (Operand operand : values) {
        resolve(operand, columns, item);
        if (operand.is_value() && !operand.value) continue;
        if (!operand.is_value() || !std::holds_alternative<std::vector<std::string>>(*operand.value)) {
            out.values.push_back(std::move(operand));
            continue;
        }
        for (const std::string& label : labels_of(*operand.value)) {
            Operand label_operand;
            label_operand.value = label;
            out.values.push_back(std::move(label_operand));
        }
    }
    if ((out.left.is_value() && !out.left.value) || (!values.empty() && out.values.empty())) return constant(false);
    if (!out.left.is_value() ||
        std::any_of(out.values.begin(), out.values.end(), [](const Operand& operand) { return !operand.is_value(); }))
        return out;
    const bool found = std::any_of(out.values.begin(), out.values.end(), [&](const Operand& operand) {
        return compare_by_kind(Compare::equal, *out.left.value, *operand.value, column_kind);
    });
    return constant(found != negated);
}

void Condition::add_to(std::vector<Instruction>& program, const Columns& columns) const {
    switch (kind) {
        case Kind::all:
        case Kind::any:
            for (const Condition& part : parts) part.add_to(program, columns);
            program.push_back(Combine{kind == Kind::all ? Combine::How::all : Combine::How::any,
                                      static_cast<std::int64_t>(parts.size())});
            return;
        case Kind::negation:
            parts.front().add_to(program, columns);
            program.push_back(Combine{Combine::How::negation, 1});
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
            const Operand &first = swapped ? right : left, &second = swapped ? left : right;
            const Compare op = swapped ? mirrored(compare) : compare;
            if (second.is_value()) return add_test(program, column_of(columns, first.name), op, {*second.value});
            return add_column_test(program, column_of(columns, first.name), column_of(columns, second.name), op);
        }
        case Kind::in: break;
    }
    const Compare op = negated ? Compare::not_equal : Compare::equal;
    std::vector<Value> accepted;
    if (left.is_value()) {
        if (const auto* const labels = std::get_if<std::vector<std::string>>(&*left.value)) {
            accepted.assign(labels->begin(), labels->end());
        } else {
            accepted.push_back(*left.value);
        }
        return add_test(program, column_of(columns, values.front().name), op, accepted);
    }
    for (const Operand& operand : values) accepted.push_back(*operand.value);
    add_test(program, column_of(columns, left.name), op, accepted);
}

RuleProgram program_of(const Condition& condition, const Columns& columns, std::optional<std::int32_t> current) {
    std::vector<Instruction> program;
    condition.resolved(columns, current).add_to(program, columns);
    return RuleProgram(std::move(program));
}

}  // namespace mtaw
