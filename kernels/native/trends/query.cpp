// What a query starts with: the rows of its own items, and what is the same for all candidates. Then the sums of its
// candidates, their features, and whole rows.
#include <algorithm>
#include <bit>
#include <cstring>

#include "prefetch.hpp"
#include "trends/delta.hpp"
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

// Lists the pairs [begin, end) of those items that have a slot, without a branch on it.
std::int32_t* list_matches(const std::int32_t* neighbors, std::int64_t begin, std::int64_t end,
                           const std::int32_t* slot_plus_one, std::int32_t* next) {
    for (std::int64_t p = begin; p < end; ++p) {
        *next = static_cast<std::int32_t>(p);
        next += slot_plus_one[neighbors[p]] != 0 ? 1 : 0;
    }
    return next;
}

TrendPairs run_of(const TrendRow& row, std::int64_t begin, std::int64_t end) {
    return {row.neighbors + begin, row.values + begin * kPairSums, end - begin};
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

void TrendsScratch::fit(std::int64_t capacity, std::int64_t n_measured) {
    if (capacity > static_cast<std::int64_t>(slot_plus_one_.size())) {
        const std::int64_t n_blocks = (capacity + kBlock - 1) / kBlock;
        marks_.assign(static_cast<std::size_t>((n_blocks + kMarkWord - 1) / kMarkWord * kMarkWord), 0);
        scores_ = ZeroFloats(n_blocks * kBlock);
        popular_ = ZeroFloats(n_blocks * kBlock);
        // Last: where memory runs out on the way, the next call tries again.
        slot_plus_one_.resize(static_cast<std::size_t>(capacity), 0);
    }
    if (n_measured > static_cast<std::int64_t>(sums_.size())) sums_.resize(static_cast<std::size_t>(n_measured));
}

void TrendsScratch::clear_scores() {
    for (std::size_t word = 0; word < marks_.size(); word += kMarkWord) {
        std::uint64_t rest;
        std::memcpy(&rest, marks_.data() + word, sizeof rest);
        for (; rest != 0; rest &= rest - 1) {
            const std::size_t block = word + static_cast<std::size_t>(std::countr_zero(rest)) / 8;
            std::fill_n(scores_.data() + block * kBlock, kBlock, 0.0F);
            marks_[block] = 0;
        }
    }
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
    const std::int64_t newest = delta_.newest();
    scratch.now_ = std::clamp(request.now, newest, std::max(newest, std::min(kMaxTime, newest + kTrendStale)));
    scratch.factors_ = factors_at(scratch.now_);
    load_own_rows(request, scratch);
    set_query_facts(request, scratch);
    set_side_facts(request, scratch);
    add_pre_scores(kernels, scratch);
    trend_query_features(scratch.facts_, kernels, scratch.query_features_);
}

void Trends::add_pre_scores(const ColumnKernels& kernels, TrendsScratch& scratch) {
    scratch.clear_scores();
    float* const scores = scratch.scores_.data();
    std::uint8_t* const marks = scratch.marks_.data();
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        for_each_run(row.base, row.delta, [&](std::int64_t begin, std::int64_t end) {
            kernels.add_pre_scores(run_of(row.base, begin, end), row.base_factors, scores, marks);
        });
        if (row.delta == nullptr) continue;
        const double* values = row.delta->values.data();
        for (std::int64_t p = 0; p < row.delta->n_read; ++p, values += kPairSums) {
            const std::int32_t item = row.delta->neighbors[static_cast<std::size_t>(p)];
            scores[item] += to_float(pair_pre_score(values, row.delta_factors));
            marks[item >> kBlockBits] = 1;
        }
    }
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

void Trends::measure(const std::int32_t* ids, std::int64_t count, const ColumnKernels& kernels,
                     TrendsScratch& scratch) const {
    scratch.fit(capacity(), count);
    scratch.measured_.assign(ids, ids + count);
    std::fill_n(scratch.sums_.begin(), count, TrendSums{});
    scratch.deltas_.resize(static_cast<std::size_t>(count));
    std::vector<std::int32_t>& matches = scratch.matches_;
    std::int64_t longest = 0;
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        longest = std::max(longest, row.base.count + (row.delta == nullptr ? 0 : row.delta->n_read));
    }
    matches.resize(static_cast<std::size_t>(longest) + 1);
    // From here nothing takes memory, so that no slot stays set.
    std::int32_t* const slot_plus_one = scratch.slot_plus_one_.data();
    for (std::int64_t i = 0; i < count; ++i) {
        slot_plus_one[ids[i]] = static_cast<std::int32_t>(i + 1);
        scratch.sums_[static_cast<std::size_t>(i)].values[TrendSums::kPreScore] = scratch.scores_.data()[ids[i]];
        delta_.prefetch_slot(ids[i]);
        prefetch_side(ids[i], scratch);
        if (ids[i] >= base_.n_items) continue;
        prefetch(base_.counts + std::int64_t{ids[i]} * kItemSums, kItemSums + 1);
        MTAW_PREFETCH(base_.times + std::int64_t{ids[i]} * 2);
    }
    float base_decay[kPadding] = {};
    double delta_decay[kPairSums];
    for (int k = 0; k < kPairSums; ++k) {
        base_decay[k] = scratch.factors_.base[kFirstPairLane + k % kPairLanes];
        delta_decay[k] = scratch.factors_.delta[kFirstPairLane + k % kPairLanes];
    }
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        std::int32_t* next = matches.data();
        for_each_run(row.base, row.delta, [&](std::int64_t begin, std::int64_t end) {
            next = list_matches(row.base.neighbors, begin, end, slot_plus_one, next);
        });
        kernels.add_trend_pairs(run_of(row.base, 0, row.base.count), matches.data(), next - matches.data(),
                                slot_plus_one, base_decay, row.weight, u == 0, scratch.sums_.data());
        if (row.delta == nullptr) continue;
        next = list_matches(row.delta->neighbors.data(), 0, row.delta->n_read, slot_plus_one, matches.data());
        for (const std::int32_t* match = matches.data(); match < next; ++match) {
            const std::int64_t p = *match;
            const std::int32_t slot = slot_plus_one[row.delta->neighbors[static_cast<std::size_t>(p)]];
            float* const sums = scratch.sums_[static_cast<std::size_t>(slot) - 1].values;
            const double* const raw = row.delta->values.data() + p * kPairSums;
            for (int k = 0; k < kPairSums; ++k) {
                const float value = to_float(raw[k] * delta_decay[k]);
                sums[TrendSums::kOwnRows + k] += row.weight * value;
                if (u == 0) sums[TrendSums::kLast + k] += value;
            }
        }
    }
    for (std::int64_t i = 0; i < count; ++i) {
        slot_plus_one[ids[i]] = 0;
        const ItemDelta* const found = scratch.deltas_[static_cast<std::size_t>(i)] = delta_.find(ids[i]);
        if (found != nullptr) prefetch(found, 1);
        if (delta_.shape().n_columns > 0 && ids[i] < base_.n_items)
            MTAW_PREFETCH(base_.context.values + base_.context.offsets[ids[i]]);
    }
}

void Trends::fill(std::int64_t begin, std::int64_t count, float* columns, float* side, const ColumnKernels& kernels,
                  TrendsScratch& scratch) const {
    const std::int64_t n_side = scratch.side_.n_features;
    const TrendFacts& facts = scratch.facts_;
    TrendItem items[kTile];
    for (std::int64_t i = 0; i < count; ++i) {
        const auto measured = static_cast<std::size_t>(begin + i);
        const TrendItem& item = items[i] =
            item_at(scratch.measured_[measured], scratch.deltas_[measured], scratch.now_, scratch.factors_);
        if (n_side == 0) continue;
        const float popularity = (item.all(kContextLane) + 0.05F) * facts.per_all[kContextLane];
        fill_side(scratch.measured_[measured], scratch.deltas_[measured], popularity, item.first(), side + i, scratch);
    }
    for (std::int64_t k = 0; k < n_side; ++k)
        std::fill(side + k * kTile + count, side + (k + 1) * kTile, side[k * kTile]);
    kernels.fill_trends({&facts, scratch.sums_.data() + begin, items, count, columns});
    transform_trends(columns, count, kernels);
    if (n_side > 0) transform_side(side, count, kernels, scratch);
}

void Trends::row(std::int64_t item, std::int64_t now, std::vector<std::int32_t>& neighbors,
                 std::vector<double>& values) const {
    const TrendFactors factors = factors_at(now);
    const auto add = [&](std::int32_t neighbor, const double* raw) {
        const auto found = std::find(neighbors.begin(), neighbors.end(), neighbor);
        const auto pair = static_cast<std::size_t>(found - neighbors.begin());
        if (found == neighbors.end()) {
            neighbors.push_back(neighbor);
            values.resize(values.size() + kPairSums, 0.0);
        }
        for (std::size_t k = 0; k < kPairSums; ++k) values[pair * kPairSums + k] += raw[k];
    };
    double raw[kPairSums];
    const TrendRow base = delta_.base().row(item);
    for (std::int64_t p = 0; p < base.count; ++p) {
        for (int k = 0; k < kPairSums; ++k) {
            raw[k] = static_cast<double>(widened(base.values[p * kPairSums + k])) *
                     static_cast<double>(factors.base[kFirstPairLane + k % kPairLanes]);
        }
        add(base.neighbors[p], raw);
    }
    const ItemDelta* const delta = delta_.find(item);
    if (delta == nullptr) return;
    for (std::size_t p = 0; p < delta->neighbors.size(); ++p) {
        for (std::size_t k = 0; k < kPairSums; ++k) {
            raw[k] =
                delta->values[p * kPairSums + k] * factors.delta[kFirstPairLane + static_cast<int>(k) % kPairLanes];
        }
        add(delta->neighbors[p], raw);
    }
}

}  // namespace mtaw
