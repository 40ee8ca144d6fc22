#include "scan/bounds.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "scan/bfloat16.hpp"

namespace mtaw {
namespace {}  // namespace

float rounded_down(double value) {
    const float near = static_cast<float>(value);
    return static_cast<double>(near) > value ? std::nextafterf(near, -std::numeric_limits<float>::infinity()) : near;
}

float rounded_up(double value) { return -rounded_down(-value); }

bool code_query(const float* query, std::int64_t d, double scale, const ScanSummary& summary, std::int8_t* codes,
                CodedQuery* coded) {
    float largest = 0;
    bool finite = true;
    for (std::int64_t j = 0; j < d; ++j) {
        const float size = std::fabs(query[j]);
        finite &= size <= std::numeric_limits<float>::max();
        largest = std::max(largest, size);
    }
    if (!finite) return false;
    const int exponent = largest > 0 ? -std::ilogb(largest) : 0;
    const double up = std::ldexp(1.0, exponent);
    // A float32, so that a code times the step is exact in float64.
    const float step = largest > 0 ? rounded_up(static_cast<double>(largest) * up / 127) : 1.0F;
    const double per_step = 1 / static_cast<double>(step);
    std::int32_t sum = 0;
    double square = 0, residual_square = 0;
    for (std::int64_t j = 0; j < d; ++j) {
        const double value = static_cast<double>(query[j]) * up;
        const double code = (value * per_step + kRounder) - kRounder;
        const double residual = value - code * static_cast<double>(step);
        const int whole = static_cast<int>(code);
        codes[j] = static_cast<std::int8_t>(whole);
        sum += whole;
        square += code * code;
        residual_square += residual * residual;
    }
    std::memset(codes + d, 0, static_cast<std::size_t>(code_lines(d) * kLineDims - d));
    const double alpha = std::sqrt(square) * kUp;
    const double residual = std::sqrt(residual_square) * kUp;
    const double norm = alpha * static_cast<double>(step) + residual;  // >= |q'|
    const double p = residual * summary.largest_norm / static_cast<double>(step) * kUp;
    const double e = 0x1p-21 * alpha * (summary.largest_norm + 2 * summary.largest_residual) + 0x1p-100;
    const int power = exponent - static_cast<int>(summary.exponent);
    // |q'| M' in the units of a score, so that a float32 overflow shows.
    const double largest_score = std::ldexp(norm * summary.largest_norm, -power) * scale;
    const double g = largest_score < 0x1p126
                         ? (0x1p-22 * norm * summary.largest_norm + std::ldexp(1 / scale, power - 147)) /
                               static_cast<double>(step) * kUp
                         : std::numeric_limits<double>::infinity();
    coded->code_sum = sum;
    coded->spread = rounded_up(alpha);
    coded->width = 2 * (e + p) + g;
    coded->lift = p - g / 2;
    coded->unit = std::ldexp(1 / scale, power) / static_cast<double>(step);
    return true;
}

}  // namespace mtaw
