#include "rules/program.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace mtaw {
namespace {

static_assert(std::endian::native == std::endian::little, "words of bits are written as bytes");

constexpr std::int64_t kBlockItems = 4096;  // a result is 512 bytes, so a stack of them stays in the L1 cache
constexpr std::int64_t kWords = kBlockItems / 64;
constexpr std::int64_t kNoTime = std::numeric_limits<std::int64_t>::min();

struct Block {
    std::uint64_t words[kWords];
};

// A byte an item, 0 or 1: loops over them become vector code.
struct Flags {
    std::uint8_t items[kBlockItems];
};

// Eight flags become eight bits by one multiplication: no two of its partial products meet in the highest byte.
void pack(const Flags& flags, Block& block) {
    for (std::int64_t word = 0; word < kWords; ++word) {
        std::uint64_t bits = 0;
        for (int byte = 0; byte < 8; ++byte) {
            std::uint64_t eight;
            std::memcpy(&eight, flags.items + word * 64 + byte * 8, 8);
            bits |= (eight * 0x0102040810204080ULL >> 56) << (8 * byte);
        }
        block.words[word] = bits;
    }
}

template <typename Test>
void test_each(std::int64_t count, Flags& flags, const Test& test) {
    for (std::int64_t i = 0; i < count; ++i) flags.items[i] = test(i) ? 1 : 0;
}

// is_present(a): whether a value is not missing. A NaN compares false by itself, except with !=.
template <typename T, typename Known>
void compare_each(const T* a, const T* b, T constant, Compare compare, std::int64_t count, const Known& is_present,
                  Flags& flags) {
    const auto apply = [&](const auto& test) {
        if (b == nullptr) {
            test_each(count, flags, [&](std::int64_t i) { return int{is_present(a[i])} & test(a[i], constant); });
        } else {
            test_each(count, flags,
                      [&](std::int64_t i) { return int{is_present(a[i])} & is_present(b[i]) & test(a[i], b[i]); });
        }
    };
    switch (compare) {
        case Compare::less: return apply([](T x, T y) { return x < y; });
        case Compare::less_equal: return apply([](T x, T y) { return x <= y; });
        case Compare::greater: return apply([](T x, T y) { return x > y; });
        case Compare::greater_equal: return apply([](T x, T y) { return x >= y; });
        case Compare::equal: return apply([](T x, T y) { return x == y; });
        case Compare::not_equal: return apply([](T x, T y) { return x != y; });
    }
}

// Sets the flags of rows begin .. begin + count - 1, all of which exist.
struct Test {
    std::int64_t begin, count;
    Flags& flags;

    void operator()(const NumberIs& leaf) const {
        const double* const others = leaf.others == nullptr ? nullptr : leaf.others + begin;
        compare_each(
            leaf.values + begin, others, leaf.constant, leaf.compare, count,
            [](double value) { return value == value; }, flags);
    }
    void operator()(const TimeIs& leaf) const {
        const std::int64_t* const others = leaf.others == nullptr ? nullptr : leaf.others + begin;
        compare_each(
            leaf.values + begin, others, leaf.constant, leaf.compare, count,
            [](std::int64_t value) { return value != kNoTime; }, flags);
    }
    void operator()(const FlagIs& leaf) const {
        const std::int8_t* const others = leaf.others == nullptr ? nullptr : leaf.others + begin;
        compare_each(
            leaf.values + begin, others, leaf.constant, leaf.equal ? Compare::equal : Compare::not_equal, count,
            [](std::int8_t value) { return value >= 0; }, flags);
    }
    void operator()(const CodeIn& leaf) const {
        const auto n_labels = static_cast<std::int64_t>(leaf.accepted.size());
        const std::int32_t* const codes = leaf.codes + begin;
        test_each(count, flags, [&](std::int64_t i) {
            return codes[i] >= 0 && codes[i] < n_labels && leaf.accepted[static_cast<std::size_t>(codes[i])] != 0;
        });
    }
    void operator()(const CodeIs& leaf) const {
        const auto n_labels = static_cast<std::int64_t>(leaf.translation.size());
        test_each(count, flags, [&](std::int64_t i) {
            const std::int32_t code = leaf.codes[begin + i], other = leaf.others[begin + i];
            if (code < 0 || other < 0 || other >= n_labels) return false;
            return (leaf.translation[static_cast<std::size_t>(other)] == code) == leaf.equal;
        });
    }
    void operator()(const ListHas& leaf) const {
        const auto n_labels = static_cast<std::int64_t>(leaf.accepted.size());
        test_each(count, flags, [&](std::int64_t i) {
            const std::int64_t first = leaf.offsets[begin + i], end = leaf.offsets[begin + i + 1];
            bool found = false;
            for (std::int64_t p = first; p < end && !found; ++p) {
                const std::int32_t code = leaf.codes[p];
                found = code >= 0 && code < n_labels && leaf.accepted[static_cast<std::size_t>(code)] != 0;
            }
            return first < end && found != leaf.negated;
        });
    }
    void operator()(const TextIn& leaf) const {
        test_each(count, flags, [&](std::int64_t i) {
            const std::int64_t first = leaf.offsets[begin + i];
            const auto size = static_cast<std::size_t>(leaf.offsets[begin + i + 1] - first);
            bool found = false;
            for (const std::string& value : leaf.values) {
                found |= value.size() == size && std::memcmp(value.data(), leaf.data + first, size) == 0;
            }
            return size > 0 && found != leaf.negated;
        });
    }
    void operator()(const Missing& leaf) const {
        test_each(count, flags, [&](std::int64_t i) {
            const std::int64_t row = begin + i;
            if (leaf.numbers != nullptr) return std::isnan(leaf.numbers[row]);
            if (leaf.times != nullptr) return leaf.times[row] == kNoTime;
            if (leaf.flags != nullptr) return leaf.flags[row] < 0;
            if (leaf.codes != nullptr) return leaf.codes[row] < 0;
            if (leaf.offsets != nullptr) return leaf.offsets[row + 1] == leaf.offsets[row];
            return std::isnan(leaf.vectors[row * leaf.d]);
        });
    }
    void operator()(const Constant& leaf) const { std::memset(flags.items, leaf.value ? 1 : 0, sizeof flags.items); }
};

// The result for an item without any value.
bool result_without_value(const Leaf& leaf) {
    if (const auto* const constant = std::get_if<Constant>(&leaf.what)) return constant->value;
    return std::holds_alternative<Missing>(leaf.what);
}

void test(const Leaf& leaf, std::int64_t begin, Block& result) {
    Flags flags;
    const std::int64_t count = std::clamp<std::int64_t>(leaf.n_rows - begin, 0, kBlockItems);
    if (count > 0) std::visit(Test{begin, count, flags}, leaf.what);
    std::memset(flags.items + count, result_without_value(leaf) ? 1 : 0, static_cast<std::size_t>(kBlockItems - count));
    pack(flags, result);
}

void combine(const Combine& how, Block* last) {
    if (how.how == Combine::How::negation) {
        for (std::uint64_t& word : last->words) word = ~word;
        return;
    }
    Block& result = last[1 - how.count];
    for (const Block* operand = &result + 1; operand <= last; ++operand) {
        for (std::int64_t word = 0; word < kWords; ++word) {
            result.words[word] = how.how == Combine::How::all ? result.words[word] & operand->words[word]
                                                              : result.words[word] | operand->words[word];
        }
    }
}

}  // namespace

RuleProgram::RuleProgram(std::vector<Instruction> instructions) : instructions_(std::move(instructions)) {
    std::int64_t depth = 0;
    for (const Instruction& instruction : instructions_) {
        if (const auto* const how = std::get_if<Combine>(&instruction)) {
            const std::int64_t n_operands = how->how == Combine::How::negation ? 1 : how->count;
            if (n_operands < 1 || n_operands > depth) {
                throw std::invalid_argument("a combination of more results than there are");
            }
            depth -= n_operands;
        }
        depth_ = std::max(depth_, ++depth);
    }
    if (depth != 1) throw std::invalid_argument("a filter has one result, not " + std::to_string(depth));
}

void RuleProgram::run(std::int64_t n_items, std::uint8_t* bits) const {
    std::vector<Block> stack(static_cast<std::size_t>(depth_));
    for (std::int64_t begin = 0; begin < n_items; begin += kBlockItems) {
        Block* next = stack.data();
        for (const Instruction& instruction : instructions_) {
            if (const auto* const leaf = std::get_if<Leaf>(&instruction)) {
                test(*leaf, begin, *next++);
            } else {
                const Combine& how = std::get<Combine>(instruction);
                combine(how, next - 1);
                if (how.how != Combine::How::negation) next -= how.count - 1;
            }
        }
        const std::int64_t bytes = (std::min(kBlockItems, n_items - begin) + 7) / 8;
        std::memcpy(bits + begin / 8, stack.front().words, static_cast<std::size_t>(bytes));
    }
    if (n_items % 8 != 0) bits[n_items / 8] &= static_cast<std::uint8_t>((1U << (n_items % 8)) - 1);
}

}  // namespace mtaw
