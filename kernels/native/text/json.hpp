// A strict reader of JSON (RFC 8259), with the three numbers more that Python writes: NaN, Infinity, -Infinity.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mtaw {

class Json {
   public:
    enum class Kind { null, boolean, number, text, list, object };

    // Throws std::invalid_argument, with the byte offset, on anything but one value nested at most kMaxDepth deep.
    static Json parse(std::string_view text);

    static constexpr int kMaxDepth = 128;

    Kind kind() const { return kind_; }
    bool is(Kind kind) const { return kind_ == kind; }
    bool flag() const { return flag_; }                // of a boolean
    const std::string& text() const { return text_; }  // of a text, or a number as it was written
    const std::vector<Json>& list() const { return list_; }
    const std::vector<std::pair<std::string, Json>>& members() const { return members_; }

    // The member of an object; null if it has none, or this is no object. Of two with one name the last.
    const Json* find(std::string_view name) const;

    // Of a number written without a fraction or an exponent, within int64.
    std::optional<std::int64_t> whole() const;
    // Of any number; not a number for anything else.
    double number() const;

    // As Python's json.dumps(value, sort_keys=True, ensure_ascii=ascii), for values that Python wrote.
    void write_sorted(std::string& out, bool ascii = true) const;

   private:
    friend class JsonReader;

    Kind kind_ = Kind::null;
    bool flag_ = false;
    std::string text_;
    std::vector<Json> list_;
    std::vector<std::pair<std::string, Json>> members_;
};

// A JSON string with its quotes; ascii: other characters as \u escapes, else as UTF-8. As Python's json.dumps.
void write_json_text(std::string& out, std::string_view text, bool ascii);

// A value for a message, cut if it is long.
std::string shown_json(const Json& value);

}  // namespace mtaw
