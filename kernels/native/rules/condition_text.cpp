// From the text of a condition to its tree: a part of Python's grammar (docs/rules.md), read and never run.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "rules/condition.hpp"
#include "text/utf8.hpp"

namespace mtaw {
namespace {

constexpr int kMaxDepth = 32;  // brackets and `not` in each other
constexpr const char* kExample = R"(such as: brand == "x" and price < 80)";
constexpr std::pair<std::string_view, Compare> kCompares[] = {{"<", Compare::less},    {"<=", Compare::less_equal},
                                                              {">", Compare::greater}, {">=", Compare::greater_equal},
                                                              {"==", Compare::equal},  {"!=", Compare::not_equal}};

struct Token {
    enum class Kind : std::uint8_t { end, name, number, text, symbol } kind = Kind::end;
    std::size_t begin = 0, end = 0;  // bytes of the whole text
    std::string_view source;
    std::string text;  // what a text means
};

class ConditionReader {
   public:
    ConditionReader(std::string_view text, const std::string& where, std::int64_t& clauses_left)
        : body_(text), where_(where), clauses_left_(clauses_left) {
        if (!is_utf8(text)) throw std::invalid_argument(where + ": the condition is not valid Unicode");
        for (char& c : body_) {
            if (c >= '\t' && c <= '\r') c = ' ';  // one line, in which every character keeps its position
        }
        advance();
    }

    Condition whole() {
        Condition condition = condition_of(any());
        if (token_.kind != Token::Kind::end) wrong_syntax(token_.begin);
        return condition;
    }

   private:
    // A condition, or a side of a comparison that a comparison may follow.
    struct Part {
        Condition condition;
        std::optional<Operand> side;
        std::size_t begin = 0;
    };

    [[noreturn]] void fail(std::size_t begin, const std::string& what) const {
        throw std::invalid_argument(where_ + ": " + what + " (character " + std::to_string(position(begin)) + ")");
    }
    [[noreturn]] void wrong_syntax(std::size_t begin) const {
        throw std::invalid_argument(where_ + ": invalid syntax at character " + std::to_string(position(begin)) +
                                    "; write a condition " + kExample);
    }
    // Names all of what begins there and is more than a side.
    [[noreturn]] void wrong_side(std::size_t begin) {
        std::size_t end = begin;
        for (int brackets = 0; token_.kind != Token::Kind::end; advance()) {
            const bool opens = is("(") || is("[") || is("{"), closes = is(")") || is("]") || is("}");
            if (brackets == 0 && token_.begin > begin &&
                (closes || is(",") || is("and") || is("or") || is("in") || is("not") || is("is") ||
                 compare() != nullptr))
                break;
            brackets += opens ? 1 : closes ? -1 : 0;
            end = token_.end;
        }
        std::string source = body_.substr(begin, end - begin);
        if (count_characters(source) > 40) {
            std::size_t cut = 0;
            for (int characters = 0; characters <= 37; ++cut) characters += (source[cut] & 0xC0) != 0x80 ? 1 : 0;
            source = source.substr(0, cut - 1) + "..";
        }
        fail(begin, source + " is neither a column nor a value");
    }

    std::int64_t position(std::size_t begin) const {
        return static_cast<std::int64_t>(count_characters(std::string_view(body_).substr(0, begin))) + 1;
    }

    // ---- Tokens

    static bool is_digit(char c) { return c >= '0' && c <= '9'; }
    static bool is_letter(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<std::uint8_t>(c) >= 0x80;
    }
    char at(std::size_t offset) const { return offset < body_.size() ? body_[offset] : '\0'; }

    bool is(std::string_view word) const { return token_.kind != Token::Kind::text && token_.source == word; }
    bool take(std::string_view word) {
        if (!is(word)) return false;
        advance();
        return true;
    }
    void need(std::string_view word) {
        if (!take(word)) wrong_syntax(token_.begin);
    }

    void advance() {
        std::size_t offset = token_.end;
        while (at(offset) == ' ') ++offset;
        token_ = {Token::Kind::end, offset, offset, {}, {}};
        if (offset == body_.size()) return;
        if (is_letter(at(offset))) {
            while (is_letter(at(offset)) || is_digit(at(offset))) ++offset;
            token_.kind = Token::Kind::name;
        } else if (is_digit(at(offset)) || (at(offset) == '.' && is_digit(at(offset + 1)))) {
            offset = end_of_number(offset);
            token_.kind = Token::Kind::number;
        } else if (at(offset) == '"' || at(offset) == '\'') {
            offset = read_text(offset);
            token_.kind = Token::Kind::text;
        } else {
            const std::string_view two = std::string_view(body_).substr(offset, 2);
            offset += two == "<=" || two == ">=" || two == "==" || two == "!=" ? 2 : 1;
            token_.kind = Token::Kind::symbol;
        }
        token_.end = offset;
        token_.source = std::string_view(body_).substr(token_.begin, offset - token_.begin);
    }

    std::size_t end_of_number(std::size_t offset) const {
        const auto digits = [&] {
            while (is_digit(at(offset)) || (at(offset) == '_' && is_digit(at(offset + 1)))) ++offset;
        };
        digits();
        if (at(offset) == '.') ++offset, digits();
        if (at(offset) == 'e' || at(offset) == 'E') {
            const std::size_t exponent = offset + (at(offset + 1) == '-' || at(offset + 1) == '+' ? 2 : 1);
            if (is_digit(at(exponent))) offset = exponent, digits();
        }
        if (is_letter(at(offset))) wrong_syntax(offset);
        return offset;
    }

    // Reads a text from its first quote on and returns its end.
    std::size_t read_text(std::size_t begin) {
        std::size_t offset = begin + 1;
        while (at(offset) != at(begin)) {
            if (offset >= body_.size()) fail(begin, "a text has no end");
            std::uint32_t character = 1;
            if (at(offset) == '\\') {
                offset = read_escape(offset + 1, character);
            } else {
                token_.text += at(offset);
                character = static_cast<std::uint8_t>(at(offset++));
            }
            if (character == 0) fail(begin, "a text contains the character 0");
            if (character >= 0xD800 && character < 0xE000)
                fail(begin, "a text contains half a character (a lone surrogate)");
        }
        return offset + 1;
    }

    // Of an escape from behind its backslash on.
    std::size_t read_escape(std::size_t offset, std::uint32_t& character) {
        constexpr std::string_view kNames = "\\'\"abfnrtv", kMeant = "\\'\"\a\b\f\n\r\t\v";
        const std::size_t known = kNames.find(at(offset));
        const std::string_view code = std::string_view(body_).substr(offset);
        std::size_t from = 1, size = at(offset) == 'x' ? 2 : at(offset) == 'u' ? 4 : at(offset) == 'U' ? 8 : 0;
        int base = 16;
        if (known != std::string_view::npos) {
            character = static_cast<std::uint8_t>(kMeant[known]);
            token_.text += kMeant[known];
            return offset + 1;
        }
        if (size == 0) {
            from = 0, base = 8;
            while (size < 3 && at(offset + size) >= '0' && at(offset + size) <= '7') ++size;
        }
        const char* const first = code.data() + std::min(from, code.size());
        const char* const last = first + std::min(size, code.size() - std::min(from, code.size()));
        const auto [end, error] = std::from_chars(first, last, character, base);
        if (size == 0 || error != std::errc() || end != first + size || character > 0x10FFFF)
            fail(offset - 1, "there is no such escape in a text; write \\\\ for a backslash");
        append_utf8(token_.text, character);
        return offset + from + size;
    }

    // ---- Conditions

    Part any() {
        return joined("or", Condition::Kind::any, [this] { return all(); });
    }
    Part all() {
        return joined("and", Condition::Kind::all, [this] { return inverted(); });
    }

    template <typename Next>
    Part joined(std::string_view word, Condition::Kind kind, const Next& next) {
        Part first = next();
        if (!is(word)) return first;
        Part whole{{}, {}, first.begin};
        whole.condition.kind = kind;
        whole.condition.parts.push_back(condition_of(std::move(first)));
        while (take(word)) whole.condition.parts.push_back(condition_of(next()));
        return whole;
    }

    Part inverted() {
        const std::size_t begin = token_.begin;
        if (!take("not")) return compared();
        const Deeper deeper(*this);
        Part part{{}, {}, begin};
        part.condition.kind = Condition::Kind::negation;
        part.condition.parts.push_back(condition_of(inverted()));
        return part;
    }

    Part compared() {
        Part left = bracketed();
        std::vector<Condition> pairs;
        for (;;) {
            const std::size_t at_operator = token_.begin;
            const Compare* const found = compare();
            const bool negated = found == nullptr && take("not");
            if (is("is")) fail(left.begin, "write == or != instead of 'is'");
            if (found == nullptr && !is("in")) {
                if (negated) wrong_syntax(token_.begin);
                break;
            }
            if (!left.side) wrong_syntax(at_operator);
            count_clause();
            advance();
            Part right;
            pairs.push_back(found != nullptr ? pair(left, *found, right) : member(left, negated, right));
            left = std::move(right);
        }
        if (pairs.empty()) return left;
        Part part;
        part.begin = left.begin;
        if (pairs.size() == 1) {
            part.condition = std::move(pairs.front());
        } else {
            part.condition.kind = Condition::Kind::all;
            part.condition.parts = std::move(pairs);
        }
        return part;
    }

    Condition pair(const Part& left, Compare compare, Part& right) {
        right = bracketed();
        if (!right.side) wrong_syntax(right.begin);
        if (left.side->is_value() && right.side->is_value())
            fail(left.begin, "a comparison of two values has no column");
        Condition condition;
        condition.kind = Condition::Kind::compare;
        condition.compare = compare;
        condition.left = *left.side;
        condition.right = *right.side;
        condition.position = left.side->position;
        return condition;
    }

    Condition member(const Part& left, bool negated, Part& right) {
        Condition condition;
        condition.kind = Condition::Kind::in;
        condition.negated = negated;
        condition.left = *left.side;
        condition.position = left.side->position;
        right.begin = token_.begin;
        const std::string_view close = is("(") ? ")" : is("[") ? "]" : is("{") ? "}" : "";
        bool is_list = false;
        if (close.empty()) {
            condition.values.push_back(side());
            if (condition.values.front().is_value())
                fail(right.begin, R"(write a list after 'in', such as: brand in ("x", "y"))");
        } else {
            advance();
            while (!is(close)) {
                condition.values.push_back(side());
                if (is(close)) break;
                need(",");
                is_list = true;
            }
            advance();
        }
        const auto is_value = [](const Operand& operand) { return operand.is_value(); };
        const bool all_values = std::all_of(condition.values.begin(), condition.values.end(), is_value);
        if (!all_values && (is_list || condition.values.size() > 1))
            fail(right.begin, "the list after 'in' takes values only; join comparisons with 'or'");
        if (left.side->is_value() && all_values) fail(left.begin, "a comparison of two values has no column");
        if (!all_values) right.side = condition.values.front();
        return condition;
    }

    // A side, or a condition in brackets.
    Part bracketed() {
        const std::size_t begin = token_.begin;
        Part part;
        if (!is("(")) {
            if (is("missing") && at_call()) return missing();
            part.side = side();
        } else {
            const Deeper deeper(*this);
            advance();
            part = any();
            need(")");
            if (continues_side()) wrong_side(begin);
        }
        part.begin = begin;
        return part;
    }

    bool at_call() const {
        std::size_t offset = token_.end;
        while (at(offset) == ' ') ++offset;
        return at(offset) == '(';
    }

    Part missing() {
        Part part;
        part.begin = token_.begin;
        count_clause();
        advance();
        advance();
        if (is(")")) fail(part.begin, "missing takes one column: missing(price)");
        const std::size_t begin = token_.begin;
        const Operand operand = side();
        if (!take(")")) fail(part.begin, "missing takes one column: missing(price)");
        if (operand.is_value()) fail(begin, "missing takes a column, not a value");
        if (continues_side()) wrong_side(part.begin);
        part.condition.kind = Condition::Kind::missing;
        part.condition.column = operand.name;
        part.condition.of_current = operand.source == Operand::Source::current;
        part.condition.position = operand.position;
        return part;
    }

    // What a side alone means: a column of truth values, or a constant.
    Condition condition_of(Part part) {
        if (!part.side) return std::move(part.condition);
        count_clause();
        Operand& operand = *part.side;
        Condition condition;
        condition.position = operand.position;
        if (operand.source == Operand::Source::column) {
            condition.kind = Condition::Kind::truth;
            condition.column = operand.name;
        } else if (operand.source == Operand::Source::current) {
            condition.kind = Condition::Kind::compare;
            condition.right.value = true;
            condition.right.position = operand.position;
            condition.left = std::move(operand);
        } else if (const bool* const flag = std::get_if<bool>(&*operand.value)) {
            condition.kind = Condition::Kind::constant;
            condition.value = *flag;
        } else {
            fail(part.begin, std::string("a value alone is no condition; write a comparison ") + kExample);
        }
        return condition;
    }

    // ---- Sides of comparisons

    const Compare* compare() const {
        const auto* const found =
            std::find_if(std::begin(kCompares), std::end(kCompares), [&](const auto& one) { return is(one.first); });
        return found == std::end(kCompares) ? nullptr : &found->second;
    }

    // Whether what was read goes on as arithmetic, a call, an attribute or an element.
    bool continues_side() const {
        return token_.kind == Token::Kind::symbol &&
               std::string_view("+-*/%@&|^~.([{").find(token_.source) != std::string_view::npos;
    }

    Operand side() {
        const std::size_t begin = token_.begin;
        Operand operand;
        operand.position = position(begin);
        const bool minus = is("-"), sign = minus || is("+");
        if (sign) advance();
        if (token_.kind == Token::Kind::number) {
            operand.value = number(minus);
            advance();
        } else if (sign) {
            wrong_side(begin);
        } else if (token_.kind == Token::Kind::text) {
            std::string text;
            for (; token_.kind == Token::Kind::text; advance())
                text += token_.text;  // as in Python, texts in a row are one
            operand.value = std::move(text);
        } else if (is("True") || is("False")) {
            operand.value = is("True");
            advance();
        } else if (token_.kind == Token::Kind::name && !is("and") && !is("or") && !is("not") && !is("in") &&
                   !is("is")) {
            if (is("None")) wrong_side(begin);
            read_column(begin, operand);
        } else if (continues_side()) {
            wrong_side(begin);
        } else {
            wrong_syntax(begin);
        }
        if (continues_side()) wrong_side(begin);
        return operand;
    }

    void read_column(std::size_t begin, Operand& operand) {
        const std::string name(token_.source);
        const bool is_current = name == "current";
        operand.source = Operand::Source::column;
        operand.name = name;
        advance();
        if (is_current && is(".")) {
            advance();
            if (token_.kind != Token::Kind::name) wrong_syntax(token_.begin);
            operand.name = token_.source;
            advance();
        } else if ((is_current || name == "item") && is("[")) {
            advance();
            if (token_.kind != Token::Kind::text)
                fail(begin, "write the column's name as a text: " + name + "[\"name\"]");
            operand.name = token_.text;
            advance();
            need("]");
        } else {
            return;
        }
        if (is_current) operand.source = Operand::Source::current;
    }

    Value number(bool minus) const {
        std::string digits(token_.source);
        std::erase(digits, '_');
        const std::size_t point = std::min(digits.find_first_of(".eE"), digits.size());
        if (point == digits.size()) {
            std::int64_t whole = 0;
            if (digits.size() > 1 && digits.front() == '0' && digits.find_first_not_of('0') != std::string::npos)
                wrong_syntax(token_.begin);
            if (std::from_chars(digits.data(), digits.data() + digits.size(), whole).ec != std::errc())
                fail(token_.begin, "a number is too large");
            return minus ? -whole : whole;
        }
        // As JSON has it, whose reader is the same everywhere.
        std::string whole = digits.substr(0, point), rest = digits.substr(point);
        whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
        if (rest.size() == 1 || (rest.front() == '.' && !is_digit(rest[1]))) rest.insert(1, "0");
        const double value = Json::parse((whole.empty() ? "0" : whole) + rest).number();
        if (!std::isfinite(value)) fail(token_.begin, "a number is too large");
        return minus ? -value : value;
    }

    void count_clause() {
        if (clauses_left_ == 0)
            throw std::invalid_argument(where_ + ": there are more than " + std::to_string(kMaxClauses) +
                                        " clauses; write fewer comparisons");
        --clauses_left_;
    }

    class Deeper {
       public:
        explicit Deeper(ConditionReader& reader) : reader_(reader) {
            if (++reader_.depth_ > kMaxDepth)
                throw std::invalid_argument(reader_.where_ + ": the condition is nested too deeply, the most is " +
                                            std::to_string(kMaxDepth));
        }
        ~Deeper() { --reader_.depth_; }
        Deeper(const Deeper&) = delete;
        Deeper& operator=(const Deeper&) = delete;

       private:
        ConditionReader& reader_;
    };

    std::string body_;
    const std::string& where_;
    std::int64_t& clauses_left_;
    Token token_;
    int depth_ = 0;
};

}  // namespace

Condition Condition::parse(std::string_view text, const std::string& where, std::int64_t& clauses_left) {
    return ConditionReader(text, where, clauses_left).whole();
}

}  // namespace mtaw
