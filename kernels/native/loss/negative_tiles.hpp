// The inner loops of `negatives`, the term over the items that are no targets, written once over a Format.
//
// In addition to what tiles.hpp lists a Format brings
//   subtract, divide                 of floats
//   at_least                         the larger of each lane and a number
//   above, without_above             whether any lane is above a number; the lanes that are not, 0 in place of the
//   others split                            of x > 0: the mantissa in [0.70, 1.42), and the exponent that belongs to it
//   load_exps                        elements as floats
#pragma once

#include <cstdint>

#include "loss/kernels.hpp"
#include "loss/tiles.hpp"

namespace mtaw {
namespace {

constexpr float kSeries = 1.0F / 256.0F;    // p up to which four terms of a series do
constexpr float kLargestPower = 125.0F;     // of 2, a normal float
constexpr float kSmallestInverse = 1e-30F;  // below every 1 / S: logits are at most 40

// log2 of x > 0, within 2e-7; of 0 about -127.
template <typename F>
inline typename F::Vec log2_of(typename F::Vec x) {
    using Vec = typename F::Vec;
    constexpr float kTwoOverLn2 = 2.8853900817779268F;
    Vec exponent;
    const Vec mantissa = F::split(x, exponent);
    const Vec one = F::set(1.0F);
    const Vec s = F::divide(F::subtract(mantissa, one), F::add(mantissa, one));
    const Vec s2 = F::mul(s, s);
    Vec sum = F::set(1.0F / 9.0F);  // |s| <= 0.172: what is left out is below 4e-10
    for (int term = 7; term > 0; term -= 2) sum = F::multiply_add(sum, s2, F::set(1.0F / static_cast<float>(term)));
    return F::multiply_add(F::mul(s, F::set(kTwoOverLn2)), sum, exponent);
}

// (2p)^gamma.
template <typename F>
inline typename F::Vec power_of(typename F::Vec p, float gamma, int whole_gamma) {
    using Vec = typename F::Vec;
    Vec base = F::add(p, p);
    if (whole_gamma < 0) {
        const Vec power = F::mul(log2_of<F>(base), F::set(gamma));
        return F::exp2(F::at_least(power, -kLargestPower), F::set(1.0F));
    }
    Vec result = F::set(1.0F);
    for (int rest = whole_gamma; rest > 0;) {
        if ((rest & 1) != 0) result = F::mul(result, base);
        rest >>= 1;
        if (rest > 0) base = F::mul(base, base);
    }
    return result;
}

// f = -(2p)^gamma log(1 - p) and g = f'(p) p = (2p)^gamma (p / (1 - p) - gamma log(1 - p)), for p <= kDominant.
template <typename F>
struct NegativeTerms {
    typename F::Vec loss;
    typename F::Vec slope;

    NegativeTerms(typename F::Vec p, float gamma, int whole_gamma) {
        using Vec = typename F::Vec;
        const Vec one = F::set(1.0F);
        Vec minus_log, odds;
        if (!F::above(p, kSeries)) {
            Vec sum = F::multiply_add(p, F::set(1.0F / 4.0F), F::set(1.0F / 3.0F));
            sum = F::multiply_add(p, sum, F::set(1.0F / 2.0F));
            minus_log = F::mul(p, F::multiply_add(p, sum, one));
            sum = F::multiply_add(p, F::add(p, one), one);
            odds = F::mul(p, F::multiply_add(p, sum, one));
        } else {
            // -log(1 - p) = 2 artanh(p / (2 - p)), without the rounding of 1 - p.
            const Vec s = F::divide(p, F::subtract(F::set(2.0F), p));
            const Vec s2 = F::mul(s, s);
            Vec sum = F::set(1.0F / 27.0F);  // s <= 0.6: what is left out is below 1e-7
            for (int term = 25; term > 0; term -= 2) {
                sum = F::multiply_add(sum, s2, F::set(1.0F / static_cast<float>(term)));
            }
            minus_log = F::mul(F::add(s, s), sum);
            odds = F::divide(p, F::subtract(one, p));
        }
        const Vec power = power_of<F>(p, gamma, whole_gamma);
        loss = F::mul(power, minus_log);
        slope = F::mul(power, F::multiply_add(minus_log, F::set(gamma), odds));
    }
};

// p of row vector v of an item; 0 if it is above kDominant.
template <typename F, int V>
inline typename F::Vec small_shares(const NegativeTile& tile, std::int64_t item, int v, typename F::Vec inverse_sums) {
    using Element = typename F::Element;
    const auto* kept = static_cast<const Element*>(tile.kept) + (item * V + v) * F::kLanes;
    const typename F::Vec p = F::mul(F::load_exps(kept), inverse_sums);
    if (!F::above(p, kDominant)) return p;
    if (tile.dominant != nullptr) {
        float lanes[F::kLanes];
        F::store(lanes, p);
        for (int lane = 0; lane < F::kLanes; ++lane) {
            if (lanes[lane] > kDominant) tile.dominant[v * F::kLanes + lane] = tile.first_item + item;
        }
    }
    return F::without_above(p, kDominant);
}

template <typename F, int V>
void negative_sums_of(const NegativeTile& tile) {
    typename F::Vec inverse_sums[V], shares[V], losses[V], slopes[V];
    for (int v = 0; v < V; ++v) {
        inverse_sums[v] = F::load(tile.inverse_sums + v * F::kLanes);
        shares[v] = losses[v] = slopes[v] = F::zero();
    }
    for (std::int64_t item = 0; item < tile.padded; ++item) {
        for (int v = 0; v < V; ++v) {
            const typename F::Vec p = small_shares<F, V>(tile, item, v, inverse_sums[v]);
            const NegativeTerms<F> terms(p, tile.gamma, tile.whole_gamma);
            shares[v] = F::add(shares[v], p);
            losses[v] = F::add(losses[v], terms.loss);
            slopes[v] = F::add(slopes[v], terms.slope);
        }
    }
    for (int v = 0; v < V; ++v) {
        F::store(tile.sums + v * F::kLanes, shares[v]);
        F::store(tile.sums + (V + v) * F::kLanes, losses[v]);
        F::store(tile.sums + (2 * V + v) * F::kLanes, slopes[v]);
    }
}

template <typename F, int V = F::kRowVectors>
void negative_sums(const NegativeTile& tile) {
    if constexpr (V > 1) {
        if (tile.block_rows < V * F::kLanes) return negative_sums<F, V - 1>(tile);
    }
    negative_sums_of<F, V>(tile);
}

template <typename F, int V>
void negative_slopes_of(const NegativeTile& tile) {
    typename F::Vec inverse_sums[V], sums[V], factors[V];
    for (int v = 0; v < V; ++v) {
        inverse_sums[v] = F::load(tile.inverse_sums + v * F::kLanes);
        sums[v] = F::divide(F::set(1.0F), F::at_least(inverse_sums[v], kSmallestInverse));
        factors[v] = F::load(tile.factors + v * F::kLanes);
    }
    ExpTile out{};
    out.block_rows = tile.block_rows;
    out.kept = tile.kept;
    out.pairs = tile.pairs;
    constexpr int kTwoItems = 2;  // a group of the products
    for (std::int64_t item = 0; item < tile.padded; item += kTwoItems) {
        typename F::Vec slopes[kTwoItems][V];
        for (int i = 0; i < kTwoItems; ++i) {
            for (int v = 0; v < V; ++v) {
                const typename F::Vec p = small_shares<F, V>(tile, item + i, v, inverse_sums[v]);
                const NegativeTerms<F> terms(p, tile.gamma, tile.whole_gamma);
                slopes[i][v] = F::multiply_add(factors[v], F::mul(sums[v], p), terms.slope);
            }
        }
        F::store_exps(slopes, out, item);
    }
}

template <typename F, int V = F::kRowVectors>
void negative_slopes(const NegativeTile& tile) {
    if constexpr (V > 1) {
        if (tile.block_rows < V * F::kLanes) return negative_slopes<F, V - 1>(tile);
    }
    negative_slopes_of<F, V>(tile);
}

template <typename F>
constexpr LossKernels kernels_of(void (*pack_items)(const PackItems&)) {
    return {F::kPair,
            F::kLanes,
            F::kRowVectors * F::kLanes,
            F::kLanes,
            kItems,
            F::kPair,
            1,
            pack_items,
            exponentials<F>,
            accumulate_queries<F>,
            accumulate_items<F>,
            finish_items<F>,
            negative_sums<F>,
            negative_slopes<F>};
}

}  // namespace
}  // namespace mtaw
