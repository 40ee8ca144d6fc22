#include "text/iso_date.hpp"

#include <chrono>
#include <cmath>

namespace mtaw {
namespace {

class Reader {
   public:
    explicit Reader(std::string_view text) : text_(text) {}

    bool done() const { return offset_ == text_.size(); }
    bool is_digit(std::size_t ahead = 0) const {
        return offset_ + ahead < text_.size() && text_[offset_ + ahead] >= '0' && text_[offset_ + ahead] <= '9';
    }
    bool take(char c) {
        if (done() || text_[offset_] != c) return false;
        ++offset_;
        return true;
    }
    // `count` digits, or -1.
    int digits(int count) {
        int value = 0;
        for (int i = 0; i < count; ++i) {
            if (!is_digit()) return -1;
            value = 10 * value + (text_[offset_++] - '0');
        }
        return value;
    }
    void skip_character() {
        ++offset_;
        while (!done() && (static_cast<unsigned char>(text_[offset_]) & 0xC0U) == 0x80) ++offset_;
    }

   private:
    std::string_view text_;
    std::size_t offset_ = 0;
};

// A day of a week of ISO's year; none if there is no such week.
std::optional<std::chrono::sys_days> day_of_week(int year, int week, int day) {
    using namespace std::chrono;
    if (week < 1 || week > 53 || day < 1 || day > 7) return std::nullopt;
    const sys_days fourth = std::chrono::year{year} / January / 4;  // always in the first week
    const sys_days monday = fourth - (weekday(fourth) - Monday) + days{7 * (week - 1)};
    if (year_month_day(monday + days{3}).year() != std::chrono::year{year}) return std::nullopt;
    return monday + days{day - 1};
}

std::optional<std::chrono::sys_days> day_of(Reader& reader) {
    using namespace std::chrono;
    const int y = reader.digits(4);
    if (y < 1) return std::nullopt;
    const bool dashed = reader.take('-');
    if (reader.take('W')) {
        const int week = reader.digits(2);
        const bool has_day = reader.is_digit(dashed ? 1 : 0) && !reader.is_digit(dashed ? 2 : 1);
        if (has_day && dashed && !reader.take('-')) return std::nullopt;
        return day_of_week(y, week, has_day ? reader.digits(1) : 1);
    }
    const int m = reader.digits(2), d = dashed && !reader.take('-') ? -1 : reader.digits(2);
    if (m < 1 || d < 1) return std::nullopt;
    const year_month_day date{year{y}, month{static_cast<unsigned>(m)}, day{static_cast<unsigned>(d)}};
    return date.ok() ? std::optional(sys_days{date}) : std::nullopt;
}

// Microseconds of HH, HH:MM, HH:MM:SS or HH:MM:SS.fraction, or these without colons; none if it is anything else.
std::optional<std::int64_t> clock_of(Reader& reader) {
    const int hour = reader.digits(2);
    int minute = 0, second = 0, fraction = 0;
    const bool colons = reader.take(':');
    const auto goes_on = [&](bool first) { return colons ? first || reader.take(':') : reader.is_digit(); };
    if (goes_on(true)) {
        minute = reader.digits(2);
        if (goes_on(false)) {
            second = reader.digits(2);
            if (reader.take('.') || reader.take(',')) {
                if (!reader.is_digit()) return std::nullopt;
                for (int unit = 100'000; reader.is_digit(); unit /= 10)
                    fraction += reader.digits(1) * unit;  // what is finer counts as nothing
            }
        }
    }
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return std::nullopt;
    return ((hour * 60LL + minute) * 60 + second) * 1'000'000 + fraction;
}

}  // namespace

std::optional<std::int64_t> milliseconds_of(std::string_view text) {
    Reader reader(text);
    const std::optional<std::chrono::sys_days> day = day_of(reader);
    if (!day) return std::nullopt;
    std::int64_t microseconds = day->time_since_epoch().count() * 86'400'000'000LL;
    if (!reader.done()) {
        reader.skip_character();  // what is between day and time
        const std::optional<std::int64_t> clock = clock_of(reader);
        if (!clock) return std::nullopt;
        microseconds += *clock;
        const bool spaced = !reader.done() && reader.take(' ');  // as before the zone of `git log --date=iso`
        if (!reader.take('Z') && (spaced || !reader.done())) {
            const bool west = reader.take('-');
            const std::optional<std::int64_t> offset = west || reader.take('+') ? clock_of(reader) : std::nullopt;
            if (!offset) return std::nullopt;
            microseconds += west ? *offset : -*offset;
        }
    }
    if (!reader.done()) return std::nullopt;
    return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(microseconds) / 1e6 * 1000.0));
}

}  // namespace mtaw
