#include "loss/row_terms.hpp"

#include <cmath>

namespace mtaw {

RowTerms row_terms(double log_p, double gamma) {
    // For gamma < 1 the slope of (2 - 2p)^gamma is unbounded where p reaches 1: below it the weight is constant.
    constexpr double kSmallestBase = 1e-6;
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

}  // namespace mtaw
