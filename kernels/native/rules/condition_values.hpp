// What the values of a condition mean; shared by its check and its program.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "rules/columns.hpp"
#include "rules/condition.hpp"
#include "text/iso_date.hpp"

namespace mtaw {

// A column that was checked.
inline const Column& column_of(const Columns& columns, const std::string& name) { return *find_column(columns, name); }

// What a comparison with a time means by a value.
inline std::optional<std::int64_t> moment_of(const Value& value) {
    if (const auto* const text = std::get_if<std::string>(&value)) return milliseconds_of(*text);
    if (const auto* const whole = std::get_if<std::int64_t>(&value)) return *whole;
    if (const auto* const number = std::get_if<double>(&value)) {
        if (std::abs(*number) < 9e18 && *number == std::floor(*number)) return static_cast<std::int64_t>(*number);
    }
    return std::nullopt;
}

inline double number_of(const Value& value) {
    if (const auto* const whole = std::get_if<std::int64_t>(&value)) return static_cast<double>(*whole);
    if (const auto* const number = std::get_if<double>(&value)) return *number;
    return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace mtaw
