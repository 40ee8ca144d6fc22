#include "loss/row_terms.hpp"

#include <cmath>

namespace mtaw {

RowTerms row_terms(double log_p, double gamma) {
    const double target = std::expm1(log_p);
    if (gamma == 0.0) return {-log_p, 1.0, target};
    if (target == 0.0) return {0.0, 0.0, 0.0};
    // log p / (p - 1) nears 1 as p does: the slope has no pole, whatever gamma.
    const double weight = std::pow(-2.0 * target, gamma);
    return {-weight * log_p, weight * (1.0 + gamma * std::exp(log_p) * (log_p / target)), target};
}

NegativeRowTerms negative_row_terms(double log_p, double gamma, const OtherSums& others, bool has_dominant) {
    const RowTerms own = row_terms(log_p, gamma);
    const double p_target = std::exp(log_p);
    double loss = 0.0, slope = 0.0, slope_of_rest = 0.0, p = 0.0;
    if (has_dominant) {
        const double rest = others.shares + p_target;  // 1 - p, as a sum
        p = 1.0 - rest;
        const double minus_log = -std::log(rest);
        const double power = gamma == 0.0 ? 1.0 : std::pow(2.0 * p, gamma);
        loss = power * minus_log;
        slope = power * (p / rest + gamma * minus_log);
        slope_of_rest = power * (p + gamma * minus_log * rest);  // (1 - p) slope
    }
    const double slopes = others.slopes + slope;
    return {own.loss + others.losses + loss, own.slope - slopes, own.slope * own.target - p_target * slopes,
            own.slope * p + slope_of_rest - p * others.slopes};
}

}  // namespace mtaw
