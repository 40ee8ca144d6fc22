// Evaluates a filter over the columns of an item table: one bit an item.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace mtaw {

enum class Compare : std::uint8_t { less, less_equal, greater, greater_equal, equal, not_equal };

// The leaves. Each is false for an item whose value is missing, and for items behind the last row; only `Missing` is
// true for those.

// number < constant, or number < other number. Missing: NaN.
struct NumberIs {
    const double* values;
    const double* others;  // null: `constant`
    double constant;
    Compare compare;
};

// Unix milliseconds. Missing: the least int64.
struct TimeIs {
    const std::int64_t* values;
    const std::int64_t* others;  // null: `constant`
    std::int64_t constant;
    Compare compare;
};

// 0 or 1. Missing: -1.
struct FlagIs {
    const std::int8_t* values;
    const std::int8_t* others;  // null: `constant`
    std::int8_t constant;
    bool equal;
};

// The code is one of the accepted ones. Missing: -1.
struct CodeIn {
    const std::int32_t* codes;
    std::vector<std::uint8_t> accepted;  // by code
};

// Two codes name the same label, or different ones.
struct CodeIs {
    const std::int32_t* codes;
    const std::int32_t* others;
    std::vector<std::int32_t> translation;  // from a code of `others` to one of `codes`, -1 if it has none
    bool equal;
};

// At least one code of the row is accepted, or with `negated` none is. Missing: an empty row.
struct ListHas {
    const std::int64_t* offsets;
    const std::int32_t* codes;
    std::vector<std::uint8_t> accepted;
    bool negated;
};

// The text is one of `values`, or with `negated` none of them. Missing: an empty text.
struct TextIn {
    const std::int64_t* offsets;
    const std::uint8_t* data;
    std::vector<std::string> values;
    bool negated;
};

// Exactly one pointer is set: the column whose missing values are asked for.
struct Missing {
    const double* numbers = nullptr;
    const std::int64_t* times = nullptr;
    const std::int8_t* flags = nullptr;
    const std::int32_t* codes = nullptr;
    const std::int64_t* offsets = nullptr;
    const float* vectors = nullptr;
    std::int64_t d = 0;  // of the vectors
};

struct Constant {
    bool value;
};

// What combines the last results: all or any of the last `count`, or the opposite of the last one.
struct Combine {
    enum class How : std::uint8_t { all, any, negation } how;
    std::int64_t count;
};

struct Leaf {
    std::variant<NumberIs, TimeIs, FlagIs, CodeIn, CodeIs, ListHas, TextIn, Missing, Constant> what;
    std::int64_t n_rows;  // of its columns
};

using Instruction = std::variant<Leaf, Combine>;

// A filter in postfix order.
class RuleProgram {
   public:
    // Throws std::invalid_argument unless the instructions leave exactly one result.
    explicit RuleProgram(std::vector<Instruction> instructions);

    // Writes ceil(n_items / 8) bytes: bit i % 8 of byte i / 8 says whether item i passes; bits behind the last are 0.
    void run(std::int64_t n_items, std::uint8_t* bits) const;

   private:
    std::vector<Instruction> instructions_;
    std::int64_t depth_ = 0;  // of the stack of results
};

}  // namespace mtaw
