#include "text/json.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "text/utf8.hpp"

namespace mtaw {

class JsonReader {
   public:
    explicit JsonReader(std::string_view text) : text_(text) {}

    Json whole_text() {
        if (!is_utf8(text_)) fail("it is not UTF-8");
        Json value = next_value(0);
        skip_blanks();
        if (offset_ != text_.size()) fail("there is more behind the value");
        return value;
    }

   private:
    [[noreturn]] void fail(const std::string& why) const {
        throw std::invalid_argument(why + " (byte " + std::to_string(offset_) + ")");
    }

    void skip_blanks() {
        while (offset_ < text_.size() && std::string_view(" \t\n\r").find(text_[offset_]) != std::string_view::npos)
            ++offset_;
    }
    char peek() const { return offset_ < text_.size() ? text_[offset_] : '\0'; }
    bool take(std::string_view word) {
        if (text_.substr(offset_, word.size()) != word) return false;
        offset_ += word.size();
        return true;
    }

    Json next_value(int depth) {
        if (depth > Json::kMaxDepth) fail("its nesting is too deep");
        skip_blanks();
        Json value;
        switch (peek()) {
            case '{': members(value, depth); return value;
            case '[': elements(value, depth); return value;
            case '"':
                value.kind_ = Json::Kind::text;
                value.text_ = quoted();
                return value;
            default: break;
        }
        if (take("null")) return value;
        const bool truth = take("true");
        if (truth || take("false")) {
            value.kind_ = Json::Kind::boolean;
            value.flag_ = truth;
            return value;
        }
        value.kind_ = Json::Kind::number;
        value.text_ = digits();
        return value;
    }

    void members(Json& value, int depth) {
        value.kind_ = Json::Kind::object;
        ++offset_;
        skip_blanks();
        if (take("}")) return;
        do {
            skip_blanks();
            if (peek() != '"') fail("a name in quotes is missing");
            std::string name = quoted();
            skip_blanks();
            if (!take(":")) fail("a colon is missing");
            value.members_.emplace_back(std::move(name), next_value(depth + 1));
            skip_blanks();
        } while (take(","));
        if (!take("}")) fail("a comma or } is missing");
    }

    void elements(Json& value, int depth) {
        value.kind_ = Json::Kind::list;
        ++offset_;
        skip_blanks();
        if (take("]")) return;
        do {
            value.list_.push_back(next_value(depth + 1));
            skip_blanks();
        } while (take(","));
        if (!take("]")) fail("a comma or ] is missing");
    }

    std::string quoted() {
        std::string out;
        for (++offset_;;) {
            if (offset_ >= text_.size()) fail("a text has no end");
            const char c = text_[offset_];
            if (static_cast<std::uint8_t>(c) < 0x20) fail("a text has a control character");
            ++offset_;
            if (c == '"') return out;
            if (c != '\\') {
                out += c;
                continue;
            }
            escape(out);
        }
    }

    void escape(std::string& out) {
        constexpr std::string_view kNames = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
        const char c = peek();
        const std::size_t known = c == '\0' ? std::string_view::npos : kNames.find(c);
        if (known != std::string_view::npos) {
            out += kMeant[known];
            ++offset_;
            return;
        }
        if (!take("u")) fail("there is no such escape");
        std::uint32_t character = hexadecimal();
        if (character >= 0xD800 && character < 0xDC00 && text_.substr(offset_, 2) == "\\u") {
            const std::size_t start = offset_;
            offset_ += 2;
            const std::uint32_t low = hexadecimal();
            if (low >= 0xDC00 && low < 0xE000) {
                character = 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
            } else {
                offset_ = start;
            }
        }
        append_utf8(out, character);
    }

    std::uint32_t hexadecimal() {
        std::uint32_t value = 0;
        const std::string_view four = text_.substr(offset_, 4);
        const auto [end, error] = std::from_chars(four.data(), four.data() + four.size(), value, 16);
        if (four.size() != 4 || error != std::errc() || end != four.data() + 4) fail("an escape needs four digits");
        offset_ += 4;
        return value;
    }

    std::string digits() {
        const std::size_t begin = offset_;
        const auto count = [&] {
            const std::size_t from = offset_;
            while (peek() >= '0' && peek() <= '9') ++offset_;
            return offset_ - from;
        };
        if (take("NaN") || take("Infinity") || take("-Infinity"))
            return std::string(text_.substr(begin, offset_ - begin));
        take("-");
        const bool zero = peek() == '0';
        const std::size_t n = count();
        if (n == 0 || (zero && n > 1)) fail("there is no value");
        if (take(".") && count() == 0) fail("a number ends with a point");
        if (take("e") || take("E")) {
            if (!take("+")) take("-");
            if (count() == 0) fail("a number has no exponent");
        }
        constexpr std::size_t kMostDigits = 4300;  // as Python, which refuses longer whole numbers
        if (offset_ - begin > kMostDigits) fail("a number is too long");
        return std::string(text_.substr(begin, offset_ - begin));
    }

    std::string_view text_;
    std::size_t offset_ = 0;
};

Json Json::parse(std::string_view text) { return JsonReader(text).whole_text(); }

const Json* Json::find(std::string_view name) const {
    const auto found =
        std::find_if(members_.rbegin(), members_.rend(), [&](const auto& member) { return member.first == name; });
    return found == members_.rend() ? nullptr : &found->second;
}

std::optional<std::int64_t> Json::whole() const {
    std::int64_t value = 0;
    if (kind_ != Kind::number) return std::nullopt;
    const char* const end = text_.data() + text_.size();
    const auto [stopped, error] = std::from_chars(text_.data(), end, value);
    if (error != std::errc() || stopped != end) return std::nullopt;
    return value;
}

#ifdef __cpp_lib_to_chars
// About the power of ten of a number that is not 0.
static std::int64_t power_of_ten(std::string_view text) {
    const std::size_t letter = std::min(text.find_first_of("eE"), text.size());
    const std::size_t point = std::min(text.substr(0, letter).find('.'), letter),
                      digit = text.find_first_of("123456789");
    const auto power = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(digit);
    if (letter == text.size()) return power;
    const std::string_view exponent = text.substr(letter + (text[letter + 1] == '+' ? 2 : 1));
    std::int64_t shift = 0;
    if (std::from_chars(exponent.data(), exponent.data() + exponent.size(), shift).ec == std::errc())
        return power + shift;
    return exponent.front() == '-' ? -1 : 1;  // more digits than a text has
}
#endif

double Json::number() const {
    double value = std::numeric_limits<double>::quiet_NaN();
    if (kind_ != Kind::number || text_ == "NaN") return value;
    const bool minus = text_.front() == '-';
    if (text_.ends_with("Infinity"))
        return minus ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
#ifndef __cpp_lib_to_chars
    return std::strtod(text_.c_str(), nullptr);  // Emscripten's library has no from_chars for it, and its locale is C's
#else
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error == std::errc::result_out_of_range) {  // too large, or too small for anything but 0
        value = power_of_ten(text_) < 0 ? 0.0 : std::numeric_limits<double>::infinity();
        return minus ? -value : value;
    }
    return value;
#endif
}

void Json::write_sorted(std::string& out, bool ascii) const {
    switch (kind_) {
        case Kind::null: out += "null"; return;
        case Kind::boolean: out += flag_ ? "true" : "false"; return;
        case Kind::number: out += text_; return;
        case Kind::text: write_json_text(out, text_, ascii); return;
        case Kind::list:
            out += '[';
            for (std::size_t i = 0; i < list_.size(); ++i) {
                if (i > 0) out += ", ";
                list_[i].write_sorted(out, ascii);
            }
            out += ']';
            return;
        case Kind::object: break;
    }
    std::vector<std::size_t> order(members_.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return members_[a].first != members_[b].first ? members_[a].first < members_[b].first : a < b;
    });
    out += '{';
    const std::size_t begin = out.size();
    for (std::size_t i = 0; i < order.size(); ++i) {
        if (i + 1 < order.size() && members_[order[i]].first == members_[order[i + 1]].first)
            continue;  // the last counts
        if (out.size() > begin) out += ", ";
        write_json_text(out, members_[order[i]].first, ascii);
        out += ": ";
        members_[order[i]].second.write_sorted(out, ascii);
    }
    out += '}';
}

namespace {

void write_escape(std::string& out, std::uint32_t unit) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += kDigits[unit >> shift & 15U];
}

std::uint32_t character_at(std::string_view text, std::size_t& offset) {
    const auto first = static_cast<std::uint8_t>(text[offset]);
    const std::size_t length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    std::uint32_t character = length == 1 ? first : first & (0x7FU >> length);
    for (std::size_t j = 1; j < length && offset + j < text.size(); ++j) {
        character = character << 6 | (static_cast<std::uint8_t>(text[offset + j]) & 0x3FU);
    }
    offset += length;
    return character;
}

}  // namespace

void write_json_text(std::string& out, std::string_view text, bool ascii) {
    constexpr std::string_view kMeant = "\"\\\b\f\n\r\t", kNames = "\"\\bfnrt";
    out += '"';
    for (std::size_t i = 0; i < text.size();) {
        const char c = text[i];
        const std::size_t known = kMeant.find(c);
        if (known != std::string_view::npos) {
            out += '\\';
            out += kNames[known];
            ++i;
        } else if (static_cast<std::uint8_t>(c) < 0x20) {
            write_escape(out, static_cast<std::uint8_t>(c));
            ++i;
        } else if (!ascii || static_cast<std::uint8_t>(c) < 0x7F) {
            out += c;
            ++i;
        } else {
            const std::uint32_t character = character_at(text, i);
            if (character >= 0x10000) {
                write_escape(out, 0xD800 + ((character - 0x10000) >> 10));
                write_escape(out, 0xDC00 + ((character - 0x10000) & 0x3FFU));
            } else {
                write_escape(out, character);
            }
        }
    }
    out += '"';
}

std::string shown_json(const Json& value) {
    if (value.is(Json::Kind::text)) return shown(value.text());
    std::string out;
    value.write_sorted(out);
    constexpr std::size_t kMax = 60;
    return out.size() <= kMax ? out : out.substr(0, kMax - 3) + "...";
}

}  // namespace mtaw
