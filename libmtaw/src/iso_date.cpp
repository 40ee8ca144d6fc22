#include "iso_date.hpp"

#include <chrono>
#include <cmath>

namespace mtaw {
namespace {

class Reader {
 public:
    explicit Reader(std::string_view text) : text_(text) {}

    bool done() const { return place_ == text_.size(); }
    bool take(char c) {
        if (done() || text_[place_] != c) return false;
        ++place_;
        return true;
    }
    // `count` digits, or -1.
    int digits(int count) {
        int value = 0;
        for (int i = 0; i < count; ++i) {
            if (done() || text_[place_] < '0' || text_[place_] > '9') return -1;
            value = 10 * value + (text_[place_++] - '0');
        }
        return value;
    }

 private:
    std::string_view text_;
    std::size_t place_ = 0;
};

}  // namespace

std::optional<std::int64_t> milliseconds_of(std::string_view text) {
    using namespace std::chrono;
    Reader reader(text);
    const int y = reader.digits(4), m = reader.take('-') ? reader.digits(2) : -1, d = reader.take('-') ? reader.digits(2) : -1;
    if (y < 1 || m < 1 || d < 1) return std::nullopt;
    const year_month_day date{year{y}, month{static_cast<unsigned>(m)}, day{static_cast<unsigned>(d)}};
    if (!date.ok()) return std::nullopt;
    std::int64_t microseconds = sys_days{date}.time_since_epoch().count() * 86'400'000'000LL;
    if (!reader.done()) {
        if (!reader.take('T') && !reader.take(' ')) return std::nullopt;
        const int hour = reader.digits(2), minute = reader.take(':') ? reader.digits(2) : -1;
        int second = 0, fraction = 0;
        if (reader.take(':')) {
            second = reader.digits(2);
            if (reader.take('.')) {
                int unit = 100'000, count = 0;
                for (int digit = reader.digits(1); digit >= 0; digit = reader.digits(1), ++count) {
                    fraction += digit * unit;  // what is finer counts as nothing
                    unit /= 10;
                }
                if (count == 0) return std::nullopt;
            }
        }
        if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return std::nullopt;
        microseconds += ((hour * 60LL + minute) * 60 + second) * 1'000'000 + fraction;
        if (!reader.take('Z') && !reader.done()) {
            const bool west = reader.take('-');
            if (!west && !reader.take('+')) return std::nullopt;
            const int hours = reader.digits(2);
            reader.take(':');
            const int minutes = reader.digits(2);
            if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return std::nullopt;
            microseconds += (west ? 1 : -1) * (hours * 60LL + minutes) * 60'000'000;
        }
    }
    if (!reader.done()) return std::nullopt;
    return static_cast<std::int64_t>(std::nearbyint(static_cast<double>(microseconds) / 1e6 * 1000.0));
}

}  // namespace mtaw
