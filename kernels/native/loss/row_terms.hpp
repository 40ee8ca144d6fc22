// The AW loss of one row and the scalars of its gradient.
#pragma once

namespace mtaw {

struct RowTerms {
    double loss;    // -(2 - 2p)^gamma log p
    double slope;   // c: dL/dz_i = c (p_i - [i = target])
    double target;  // p - 1, exact where p nears 1
};

// log_p: log-probability of the target, at most 0. gamma: at least 0.
RowTerms row_terms(double log_p, double gamma);

// Sums over a row's items that are neither the target nor the dominant one.
struct OtherSums {
    double shares;  // of p
    double losses;  // of f = -(2p)^gamma log(1 - p)
    double slopes;  // of g = f'(p) p
};

// The same with `negatives`: dL/dz_i = factor p_i + g_i, except the target and the dominant item.
struct NegativeRowTerms {
    double loss;
    double factor;
    double target;    // dL/dz of the target
    double dominant;  // of the dominant item
};

NegativeRowTerms negative_row_terms(double log_p, double gamma, const OtherSums& others, bool has_dominant);

}  // namespace mtaw
