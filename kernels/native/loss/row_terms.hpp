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

}  // namespace mtaw
