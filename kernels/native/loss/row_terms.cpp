#include "loss/row_terms.hpp"

#include <cmath>

namespace mtaw {
namespace {

// For gamma < 1 the slope of (2 - 2p)^gamma is unbounded where p reaches 1: below it the weight is constant. log(1 - p)
// of an item that is no target is held constant likewise.
constexpr double kSmallestBase = 1e-6;

}  // namespace

RowTerms row_terms(double log_p, double gamma) {
    const double target = std::expm1(log_p);
    if (gamma == 0.0) return {-log_p, 1.0, target};
    const double base = -2.0 * target;
    if (!(base > kSmallestBase)) {
        const double weight = std::isnan(base) ? base : std::pow(kSmallestBase, gamma);
        return {-weight * log_p, weight, target};
    }
    const double weight = std::pow(base, gamma);
    return {-weight * log_p, weight - 2.0 * gamma * std::exp(log_p) * (weight / base) * log_p, target};
}

NegativeRowTerms negative_row_terms(double log_p, double gamma, const OtherSums& others, bool has_dominant) {
    const RowTerms own = row_terms(log_p, gamma);
    const double p_target = std::exp(log_p);
    double loss = 0.0, slope = 0.0, slope_of_rest = 0.0, p = 0.0;
    if (has_dominant) {
        const double rest = others.shares + p_target;  // 1 - p, as a sum
        p = 1.0 - rest;
        const bool is_clamped = !(rest > kSmallestBase);
        const double minus_log = -std::log(is_clamped ? kSmallestBase : rest);
        const double power = gamma == 0.0 ? 1.0 : std::pow(2.0 * p, gamma);
        loss = power * minus_log;
        slope = power * ((is_clamped ? 0.0 : p / rest) + gamma * minus_log);
        slope_of_rest = power * ((is_clamped ? 0.0 : p) + gamma * minus_log * rest);  // (1 - p) slope
    }
    const double slopes = others.slopes + slope;
    return {own.loss + others.losses + loss, own.slope - slopes, own.slope * own.target - p_target * slopes,
            own.slope * p + slope_of_rest - p * others.slopes};
}

}  // namespace mtaw
