// Candidates and sums of a query.
#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>

#include "compiler.hpp"
#include "kth_largest.hpp"
#include "prefetch.hpp"
#include "trends/trends.hpp"

namespace mtaw {
namespace {

float from_bfloat16(std::uint16_t value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

// What a pair lane's fwd is worth in the pre-score; bwd half of it.
constexpr float kPreLanes[kPairLanes] = {0.6F, 1.0F, 0.0F, 0.4F, 0.0F};
constexpr int kHour = kTrendHour, kDay = kTrendDay, kQuarter = kTrendQuarter;

// A pair's part of a pre-score: kPreLanes of fwd, then of bwd.
template <typename T>
MTAW_INLINE T pre_of(const T* value, const T* by) {
    return (value[0] * by[0] + value[1] * by[1] + value[3] * by[3]) +
           (value[kPairLanes] * by[kPairLanes] + value[kPairLanes + 1] * by[kPairLanes + 1] +
            value[kPairLanes + 3] * by[kPairLanes + 3]);
}

MTAW_INLINE void widen(const std::uint16_t* value, float* out) {
    for (int k = 0; k < kPairSums; ++k) out[k] = from_bfloat16(value[k]);
}

// Calls visit(begin, end) for the runs of pairs of a row of the tables that a query reads.
template <typename Visit>
void each_run(const TrendRow& base, const ItemDelta* delta, const Visit& visit) {
    if (delta == nullptr || !delta->narrowed) {
        visit(std::int64_t{0}, base.count);
        return;
    }
    for (const auto& [begin, end] : delta->base_runs) visit(std::int64_t{begin}, std::int64_t{end});
}

// Items that were met, and their scores; what no slot has yet is 0. A copy keeps its pointers in registers.
struct Slots {
    std::int32_t* place;
    std::int32_t* items;
    float* scores;
    std::int32_t count;

    // Handing out a slot takes no branch, which could not be predicted.
    MTAW_INLINE std::int32_t of(std::int32_t item) {
        const std::int32_t found = place[item], slot = found == 0 ? count : found - 1;
        count += found == 0 ? 1 : 0;
        place[item] = slot + 1;
        items[slot] = item;
        return slot;
    }
};

// Adds what pairs are worth to the scores of their neighbors.
template <typename Value, typename Factor>
void add_pre(const std::int32_t* neighbors, const Value* values, std::int64_t count, const Factor* factors, Slots& shared) {
    Slots slots = shared;
    Factor by[kPairSums];
    std::copy_n(factors, kPairSums, by);
    for (std::int64_t p = 0; p < count; ++p, values += kPairSums) {
        float score;
        if constexpr (std::is_same_v<Value, double>) {
            score = to_float(pre_of(values, by));
        } else {
            float wide[kPairSums];
            widen(values, wide);
            score = pre_of(wide, by);
        }
        slots.scores[slots.of(neighbors[p])] += score;
    }
    shared.count = slots.count;
}

// Lists the pairs [begin, end) of those items that have a place, without a branch on it.
std::int32_t* list_met(const std::int32_t* neighbors, std::int64_t begin, std::int64_t end, const std::int32_t* place,
                       std::int32_t* next) {
    for (std::int64_t p = begin; p < end; ++p) {
        *next = static_cast<std::int32_t>(p);
        next += place[neighbors[p]] != 0 ? 1 : 0;
    }
    return next;
}

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

TrendsRequest trends_request(const std::int32_t* clicks, const std::int64_t* times, std::int64_t m, std::int64_t now,
                             std::int32_t* own) {
    constexpr std::int64_t kLooked = 512;  // clicks that distinct items are looked for in
    TrendsRequest request{own, 0, now};
    for (std::int64_t i = m - 1; i >= std::max<std::int64_t>(0, m - kLooked) && request.n_own < kTrendOwn; --i) {
        if (std::find(own, own + request.n_own, clicks[i]) == own + request.n_own) own[request.n_own++] = clicks[i];
    }
    if (times != nullptr) state_times(times, m, request);
    return request;
}

void state_times(const std::int64_t* times, std::int64_t m, TrendsRequest& request) {
    request.first_click = times[0];
    request.last_click = times[m - 1];
    if (m > 1) request.before_click = times[m - 2];
}

void TrendsScratch::fit(std::int64_t capacity, std::int64_t count) {
    if (capacity > static_cast<std::int64_t>(place_.size())) place_.resize(static_cast<std::size_t>(capacity), 0);
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
    state_rows(request, scratch);
    state_facts(request, scratch);
    state_side(request, scratch);
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

void Trends::state_rows(const TrendsRequest& request, TrendsScratch& scratch) const {
    scratch.n_rows_ = 0;
    TrendFacts& facts = scratch.facts_;
    std::fill(facts.per_fwd, facts.per_fwd + kPairLanes, 1.0F / 3);
    std::fill(facts.per_bwd, facts.per_bwd + kPairLanes, 1.0F / 3);
    float own[kPairSums] = {};
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
            own[lane] += weight * fwd;
            own[kPairLanes + lane] += weight * bwd;
            if (u == 0) {
                facts.per_fwd[lane] = 1.0F / (fwd + 3.0F);
                facts.per_bwd[lane] = 1.0F / (bwd + 3.0F);
                if (lane == 1) facts.last_pairs = fwd;
            }
            const float pre = weight * kPreLanes[lane] / (fwd + 0.5F * bwd + 2.0F);
            const int of = kFirstPairLane + lane;
            const float base = pre * scratch.factors_.base[of];
            row.base_pre[lane] = base < kMinFloat ? 0.0F : base;
            row.base_pre[kPairLanes + lane] = 0.5F * row.base_pre[lane];
            row.delta_pre[lane] = static_cast<double>(pre) * scratch.factors_.delta[of];
            row.delta_pre[kPairLanes + lane] = 0.5 * row.delta_pre[lane];
        }
    }
    facts.pairs = own[3];
    for (int lane = 0; lane < kPairLanes; ++lane) {
        facts.per_fwd_own[lane] = 1.0F / (own[lane] + 3.0F);
        facts.per_bwd_own[lane] = 1.0F / (own[kPairLanes + lane] + 3.0F);
    }
}

void Trends::state_facts(const TrendsRequest& request, TrendsScratch& scratch) const {
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
    facts.clicks_short = sums[kItemLanes + kQuarter];
    facts.clicks_long = sums[kDay];
    const auto seconds = [](std::int64_t from, std::int64_t to) {
        return from == kNever || to == kNever ? 0.0F : static_cast<float>(std::max<std::int64_t>(to - from, 0)) * 1e-3F;
    };
    facts.gap = seconds(request.before_click, request.last_click);
    facts.span = seconds(request.first_click, request.last_click);
    const TrendItem last = item_at(request.own[0], delta_.find(request.own[0]), scratch.now_, scratch.factors_);
    facts.last_first = last.first();
    facts.last_later = (last.later(kHour) + 0.05F) * facts.per_later[kHour];
    constexpr std::int64_t kDayMs = 24 * 3600 * 1000;
    constexpr double kPi = 0x1.921fb54442d18p+1;
    const std::int64_t time = std::max<std::int64_t>(request.now, 0) % kDayMs;
    // Turned by half a day, where the series is best; that changes both signs.
    sine_cosine((static_cast<double>(time) / (kDayMs / 2) - 1) * kPi, facts.hour_sin, facts.hour_cos);
    facts.hour_sin = -facts.hour_sin;
    facts.hour_cos = -facts.hour_cos;
}

std::int64_t Trends::choose(const TrendsRequest& request, std::int64_t n, std::int32_t* ids, float* pre,
                            const ColumnKernels& kernels, TrendsScratch& scratch) const {
    std::int32_t* const place = scratch.place_.data();
    std::vector<std::int32_t>& items = scratch.items_;
    std::vector<float>& scores = scratch.scores_;
    std::size_t most = static_cast<std::size_t>(scratch.n_rows_ + kTrendPopular + 1);
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        most += static_cast<std::size_t>(row.base.count + (row.delta == nullptr ? 0 : row.delta->n_read));
    }
    if (items.size() < most) {
        items.resize(most);
        scores.resize(most, 0.0F);
        scratch.keys_.resize(most + kPadding);
        scratch.ties_.resize(most);
    }
    Slots slots{place, items.data(), scores.data(), 0};
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) slots.of(static_cast<std::int32_t>(scratch.rows_[u].item));
    const std::int32_t n_own = slots.count;
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        each_run(row.base, row.delta, [&](std::int64_t begin, std::int64_t end) {
            add_pre(row.base.neighbors + begin, row.base.values + begin * kPairSums, end - begin, row.base_pre, slots);
        });
        if (row.delta != nullptr) {
            add_pre(row.delta->neighbors.data(), row.delta->values.data(), row.delta->n_read, row.delta_pre, slots);
        }
    }
    const auto n_rising = static_cast<std::int64_t>(rising_.size());
    const TrendFacts& facts = scratch.facts_;
    const auto later_by = 0.8F * facts.per_later[kQuarter] * to_float(decay_power(listed_ - scratch.now_, delta_.settings().half_lives.ms[kQuarter]));
    const auto all_by = 0.3F * facts.per_all[kHour] * to_float(decay_power(listed_ - scratch.now_, delta_.settings().half_lives.ms[kHour]));
    for (std::int64_t i = 0; i < std::min(n_rising, kTrendPopular); ++i) {
        const Rising& one = rising_[static_cast<std::size_t>(i)];
        slots.scores[slots.of(one.item)] += one.later * later_by + one.all * all_by;
    }
    const std::int32_t count = slots.count;
    std::int32_t* const keys = scratch.keys_.data();
    constexpr std::int32_t kBanned = -1;
    for (std::int32_t slot = 0; slot < count; ++slot) {
        const float score = std::max(scores[static_cast<std::size_t>(slot)], 0.0F) + 0.0F;  // no -0
        const std::int32_t item = items[static_cast<std::size_t>(slot)];
        const bool fine = slot >= n_own && item < request.catalog &&
                          (request.allowed == nullptr || (request.allowed[item >> 3] >> (item & 7) & 1) != 0);
        keys[slot] = fine ? std::bit_cast<std::int32_t>(score) : kBanned;
    }
    for (std::int64_t i = 0; i < request.n_excluded; ++i) {
        const std::int32_t item = request.excluded[i];
        if (item >= 0 && item < capacity() && place[item] != 0) keys[place[item] - 1] = kBanned;
    }
    KeyCut cut{1};  // an item that scores 0 is no candidate
    if (n == 0) {
        cut.least = std::numeric_limits<std::int32_t>::max();
    } else if (kernels.count_at_least(keys, count, 1) > n) {
        cut = cut_of(kernels, keys, count, n, 1, [&](std::int32_t slot) { return items[static_cast<std::size_t>(slot)]; }, scratch.ties_.data());
    }
    std::int64_t chosen = 0;
    for (std::int32_t slot = n_own; slot < count; ++slot) {
        const std::int32_t item = items[static_cast<std::size_t>(slot)];
        const std::int32_t key = keys[slot];
        const bool is_chosen = cut.takes(key, item);
        pre[chosen] = std::bit_cast<float>(key);
        ids[chosen] = item;
        chosen += is_chosen ? 1 : 0;
        keys[slot] = is_chosen ? kBanned : key;
    }
    for (std::int64_t i = 0; i < std::min(n_rising, kTrendRising); ++i) {
        const std::int32_t item = rising_[static_cast<std::size_t>(i)].item, key = keys[place[item] - 1];
        if (key == kBanned) continue;
        pre[chosen] = std::bit_cast<float>(key);
        ids[chosen++] = item;
    }
    for (std::int32_t slot = 0; slot < count; ++slot) place[items[static_cast<std::size_t>(slot)]] = 0;
    std::fill_n(scores.begin(), count, 0.0F);
    return chosen;
}

void Trends::measure(const std::int32_t* ids, std::int64_t count, TrendsScratch& scratch) const {
    scratch.fit(capacity(), count);
    scratch.measured_.assign(ids, ids + count);
    std::int32_t* const place = scratch.place_.data();
    std::fill_n(scratch.sums_.begin(), count, TrendSums{});
    scratch.found_.resize(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
        place[ids[i]] = static_cast<std::int32_t>(i + 1);
        delta_.prefetch_slot(ids[i]);
        prefetch_side(ids[i], scratch);
        if (ids[i] >= base_.n_items) continue;
        prefetch(base_.counts + std::int64_t{ids[i]} * kItemSums, kItemSums + 1);
        MTAW_PREFETCH(base_.times + std::int64_t{ids[i]} * 2);
    }
    float base_by[kPairSums];
    double delta_by[kPairSums];
    for (int k = 0; k < kPairSums; ++k) {
        base_by[k] = scratch.factors_.base[kFirstPairLane + k % kPairLanes];
        delta_by[k] = scratch.factors_.delta[kFirstPairLane + k % kPairLanes];
    }
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        const auto add = [&](std::int32_t slot, const float* values, float pre) {
            TrendSums& sums = scratch.sums_[static_cast<std::size_t>(slot) - 1];
            for (int k = 0; k < kPairSums; ++k) sums.values[TrendSums::kOwnRows + k] += row.weight * values[k];
            if (u == 0) {
                for (int k = 0; k < kPairSums; ++k) sums.values[TrendSums::kLast + k] += values[k];
            }
            sums.values[TrendSums::kPre] += pre;
        };
        float values[kPairSums];
        std::vector<std::int32_t>& met = scratch.met_;
        met.resize(static_cast<std::size_t>(row.base.count + (row.delta == nullptr ? 0 : row.delta->n_read)) + 1);
        std::int32_t* next = met.data();
        each_run(row.base, row.delta, [&](std::int64_t begin, std::int64_t end) {
            next = list_met(row.base.neighbors, begin, end, place, next);
        });
        for (const std::int32_t* p = met.data(); p < next; ++p) {
            float raw[kPairSums];
            widen(row.base.values + std::int64_t{*p} * kPairSums, raw);
            for (int k = 0; k < kPairSums; ++k) values[k] = raw[k] * base_by[k];
            add(place[row.base.neighbors[*p]], values, pre_of(raw, row.base_pre));
        }
        if (row.delta == nullptr) continue;
        next = list_met(row.delta->neighbors.data(), 0, row.delta->n_read, place, met.data());
        for (const std::int32_t* at = met.data(); at < next; ++at) {
            const std::int64_t p = *at;
            const std::int32_t slot = place[row.delta->neighbors[static_cast<std::size_t>(p)]];
            const double* const raw = row.delta->values.data() + p * kPairSums;
            for (int k = 0; k < kPairSums; ++k) values[k] = to_float(raw[k] * delta_by[k]);
            add(slot, values, to_float(pre_of(raw, row.delta_pre)));
        }
    }
    for (std::int64_t i = 0; i < count; ++i) {
        place[ids[i]] = 0;
        const ItemDelta* const found = scratch.found_[static_cast<std::size_t>(i)] = delta_.find(ids[i]);
        if (found != nullptr) prefetch(found, 1);
        if (delta_.shape().n_columns > 0 && ids[i] < base_.n_items) MTAW_PREFETCH(base_.context.values + base_.context.offsets[ids[i]]);
    }
}

void Trends::fill(std::int64_t begin, std::int64_t count, float* columns, float* side, const ColumnKernels& kernels,
                  TrendsScratch& scratch) const {
    const std::int64_t n_side = scratch.side_.n_features;
    const TrendFacts& facts = scratch.facts_;
    TrendItem items[kTile];
    for (std::int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(begin + i);
        const TrendItem& item = items[i] = item_at(scratch.measured_[at], scratch.found_[at], scratch.now_, scratch.factors_);
        if (n_side == 0) continue;
        const float popularity = (item.all(kContextLane) + 0.05F) * facts.per_all[kContextLane];
        fill_side(scratch.measured_[at], scratch.found_[at], popularity, item.first(), side + i, scratch);
    }
    for (std::int64_t k = 0; k < n_side; ++k) std::fill(side + k * kTile + count, side + (k + 1) * kTile, side[k * kTile]);
    kernels.fill_trends({&facts, scratch.sums_.data() + begin, items, count, columns});
    transform_trends(columns, count, kernels);
    if (n_side > 0) transform_side(side, count, kernels, scratch);
}

void Trends::row(std::int64_t item, std::int64_t now, std::vector<std::int32_t>& neighbors,
                 std::vector<double>& values) const {
    const TrendFactors factors = factors_at(now);
    const auto add = [&](std::int32_t neighbor, const double* raw) {
        const auto found = std::find(neighbors.begin(), neighbors.end(), neighbor);
        const auto place = static_cast<std::size_t>(found - neighbors.begin());
        if (found == neighbors.end()) {
            neighbors.push_back(neighbor);
            values.resize(values.size() + kPairSums, 0.0);
        }
        for (std::size_t k = 0; k < kPairSums; ++k) values[place * kPairSums + k] += raw[k];
    };
    double raw[kPairSums];
    const TrendRow base = delta_.base().row(item);
    for (std::int64_t p = 0; p < base.count; ++p) {
        for (int k = 0; k < kPairSums; ++k) {
            raw[k] = static_cast<double>(from_bfloat16(base.values[p * kPairSums + k])) *
                     static_cast<double>(factors.base[kFirstPairLane + k % kPairLanes]);
        }
        add(base.neighbors[p], raw);
    }
    const ItemDelta* const delta = delta_.find(item);
    if (delta == nullptr) return;
    for (std::size_t p = 0; p < delta->neighbors.size(); ++p) {
        for (std::size_t k = 0; k < kPairSums; ++k) {
            raw[k] = delta->values[p * kPairSums + k] * factors.delta[kFirstPairLane + static_cast<int>(k) % kPairLanes];
        }
        add(delta->neighbors[p], raw);
    }
}

}  // namespace mtaw
