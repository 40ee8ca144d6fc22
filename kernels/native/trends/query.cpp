// What a query starts with: the rows of its own items, and what is the same for all candidates.
#include <algorithm>

#include "prefetch.hpp"
#include "trends/pairs.hpp"
#include "trends/trends.hpp"

namespace mtaw {
namespace {

// sin(x) and cos(x) for x in [-pi, pi] by their series: the same bits everywhere.
void sine_cosine(double x, float& sine, float& cosine) {
    double s = 0, c = 0, term = 1;
    for (int k = 0; k < 28; k += 4) {
        c += term;
        s += term *= x / (k + 1);
        c -= term *= x / (k + 2);
        s -= term *= x / (k + 3);
        term *= x / (k + 4);
    }
    sine = static_cast<float>(s);
    cosine = static_cast<float>(c);
}

}  // namespace

TrendsRequest trends_request(const std::int32_t* clicks, const std::int64_t* times, std::int64_t n_clicks,
                             std::int64_t now, std::int32_t* own) {
    constexpr std::int64_t kLookback = 512;  // clicks that distinct items are looked for in
    TrendsRequest request{own, 0, now};
    for (std::int64_t i = n_clicks - 1;
         i >= std::max<std::int64_t>(0, n_clicks - kLookback) && request.n_own < kTrendOwn; --i) {
        if (std::find(own, own + request.n_own, clicks[i]) == own + request.n_own) own[request.n_own++] = clicks[i];
    }
    if (times != nullptr) set_times(times, n_clicks, request);
    return request;
}

void set_times(const std::int64_t* times, std::int64_t n_clicks, TrendsRequest& request) {
    request.first_click = times[0];
    request.last_click = times[n_clicks - 1];
    if (n_clicks > 1) request.before_click = times[n_clicks - 2];
}

void TrendsScratch::fit(std::int64_t capacity, std::int64_t count) {
    if (capacity > static_cast<std::int64_t>(slot_plus_one_.size())) {
        slot_plus_one_.resize(static_cast<std::size_t>(capacity), 0);
    }
    if (count > static_cast<std::int64_t>(sums_.size())) sums_.resize(static_cast<std::size_t>(count));
}

void Trends::prefetch_row(std::int64_t item) const {
    const TrendRow base = delta_.base().row(item);
    prefetch(base.neighbors, base.count);
    prefetch(base.values, base.count * kPairSums);
    if (const ItemDelta* const delta = delta_.find(item)) {
        prefetch(delta->neighbors.data(), delta->n_read);
        prefetch(delta->values.data(), delta->n_read * kPairSums);
    }
}

void Trends::start(const TrendsRequest& request, const ColumnKernels& kernels, TrendsScratch& scratch) const {
    scratch.fit(capacity(), 0);
    scratch.now_ = std::clamp(request.now, delta_.newest(), std::max(kMaxTime, delta_.newest()));
    scratch.factors_ = factors_at(scratch.now_);
    load_own_rows(request, scratch);
    set_query_facts(request, scratch);
    set_side_facts(request, scratch);
    trend_query_features(scratch.facts_, kernels, scratch.query_features_);
}

void Trends::row_totals(const TrendRow& base, const ItemDelta* delta, const TrendFactors& factors, float* totals) {
    for (int k = 0; k < kPairSums; ++k) {
        const int lane = kFirstPairLane + k % kPairLanes;
        float total = base.totals == nullptr ? 0.0F : base.totals[k] * factors.base[lane];
        if (delta != nullptr) total += to_float(delta->totals[k] * factors.delta[lane]);
        totals[k] = std::max(total, 0.0F);
    }
}

void Trends::load_own_rows(const TrendsRequest& request, TrendsScratch& scratch) const {
    scratch.n_rows_ = 0;
    TrendFacts& facts = scratch.facts_;
    std::fill(facts.per_fwd, facts.per_fwd + kPairLanes, 1.0F / 3);
    std::fill(facts.per_bwd, facts.per_bwd + kPairLanes, 1.0F / 3);
    float weighted_totals[kPairSums] = {};
    facts.last_pairs = 0;
    float weight = 1;
    for (std::int64_t u = 0; u < std::min(request.n_own, kTrendOwn); ++u, weight *= 0.75F) {
        TrendsScratch::OwnRow& row = scratch.rows_[scratch.n_rows_++];
        row.item = request.own[u];
        row.base = delta_.base().row(row.item);
        row.delta = delta_.find(row.item);
        row.weight = weight;
        float totals[kPairSums];
        row_totals(row.base, row.delta, scratch.factors_, totals);
        for (int lane = 0; lane < kPairLanes; ++lane) {
            const float fwd = totals[lane], bwd = totals[kPairLanes + lane];
            weighted_totals[lane] += weight * fwd;
            weighted_totals[kPairLanes + lane] += weight * bwd;
            if (u == 0) {
                facts.per_fwd[lane] = 1.0F / (fwd + 3.0F);
                facts.per_bwd[lane] = 1.0F / (bwd + 3.0F);
                if (lane == 1) facts.last_pairs = fwd;
            }
            const float factor = weight * kPreScoreLanes[lane] / (fwd + 0.5F * bwd + 2.0F);
            const int item_lane = kFirstPairLane + lane;
            const float base = factor * scratch.factors_.base[item_lane];
            row.base_factors[lane] = base < kMinFloat ? 0.0F : base;
            row.base_factors[kPairLanes + lane] = 0.5F * row.base_factors[lane];
            row.delta_factors[lane] = static_cast<double>(factor) * scratch.factors_.delta[item_lane];
            row.delta_factors[kPairLanes + lane] = 0.5 * row.delta_factors[lane];
        }
    }
    facts.pairs = weighted_totals[3];
    for (int lane = 0; lane < kPairLanes; ++lane) {
        facts.per_fwd_own[lane] = 1.0F / (weighted_totals[lane] + 3.0F);
        facts.per_bwd_own[lane] = 1.0F / (weighted_totals[kPairLanes + lane] + 3.0F);
    }
}

void Trends::set_query_facts(const TrendsRequest& request, TrendsScratch& scratch) const {
    TrendFacts& facts = scratch.facts_;
    float sums[kItemSums];
    for (int k = 0; k < kItemSums; ++k) {
        const int lane = k % kItemLanes;
        const double base = base_.sums[k] * static_cast<double>(scratch.factors_.base[lane]);
        sums[k] = std::max(to_float(base + delta_.sums()[k] * scratch.factors_.delta[lane]), 0.0F);
    }
    for (int lane = 0; lane < kItemLanes; ++lane) {
        facts.per_all[lane] = 1.0F / (sums[lane] + 1.0F);
        facts.per_later[lane] = 1.0F / (sums[kItemLanes + lane] + 1.0F);
    }
    for (int lane = 0; lane < kPairLanes; ++lane) {
        facts.prior_scale[lane] = 3.0F / (sums[kItemLanes + kFirstPairLane + lane] + 10.0F);
    }
    facts.clicks_short = sums[kItemLanes + kTrendQuarter];
    facts.clicks_long = sums[kTrendDay];
    const auto seconds = [](std::int64_t from, std::int64_t to) {
        return from == kNever || to == kNever ? 0.0F : static_cast<float>(std::max<std::int64_t>(to - from, 0)) * 1e-3F;
    };
    facts.gap = seconds(request.before_click, request.last_click);
    facts.span = seconds(request.first_click, request.last_click);
    const TrendItem last_item_sums =
        item_at(request.own[0], delta_.find(request.own[0]), scratch.now_, scratch.factors_);
    facts.last_first = last_item_sums.first();
    facts.last_later = (last_item_sums.later(kTrendHour) + 0.05F) * facts.per_later[kTrendHour];
    constexpr std::int64_t kDayMs = 24 * 3600 * 1000;
    constexpr double kPi = 0x1.921fb54442d18p+1;
    const std::int64_t time = std::max<std::int64_t>(request.now, 0) % kDayMs;
    // Turned by half a day, where the series is best; that changes both signs.
    sine_cosine((static_cast<double>(time) / (kDayMs / 2) - 1) * kPi, facts.hour_sin, facts.hour_cos);
    facts.hour_sin = -facts.hour_sin;
    facts.hour_cos = -facts.hour_cos;
}

}  // namespace mtaw
