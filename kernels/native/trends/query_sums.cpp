// The sums of a query's candidates, their features, and whole rows.
#include <algorithm>

#include "prefetch.hpp"
#include "trends/pairs.hpp"
#include "trends/trends.hpp"

namespace mtaw {
namespace {

// Lists the pairs [begin, end) of those items that have a slot, without a branch on it.
std::int32_t* list_matches(const std::int32_t* neighbors, std::int64_t begin, std::int64_t end,
                           const std::int32_t* slot_plus_one, std::int32_t* next) {
    for (std::int64_t p = begin; p < end; ++p) {
        *next = static_cast<std::int32_t>(p);
        next += slot_plus_one[neighbors[p]] != 0 ? 1 : 0;
    }
    return next;
}

}  // namespace

void Trends::measure(const std::int32_t* ids, std::int64_t count, TrendsScratch& scratch) const {
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
        delta_.prefetch_slot(ids[i]);
        prefetch_side(ids[i], scratch);
        if (ids[i] >= base_.n_items) continue;
        prefetch(base_.counts + std::int64_t{ids[i]} * kItemSums, kItemSums + 1);
        MTAW_PREFETCH(base_.times + std::int64_t{ids[i]} * 2);
    }
    float base_decay[kPairSums];
    double delta_decay[kPairSums];
    for (int k = 0; k < kPairSums; ++k) {
        base_decay[k] = scratch.factors_.base[kFirstPairLane + k % kPairLanes];
        delta_decay[k] = scratch.factors_.delta[kFirstPairLane + k % kPairLanes];
    }
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        const auto add = [&](std::int32_t slot, const float* values, float pre) {
            TrendSums& sums = scratch.sums_[static_cast<std::size_t>(slot) - 1];
            for (int k = 0; k < kPairSums; ++k) sums.values[TrendSums::kOwnRows + k] += row.weight * values[k];
            if (u == 0) {
                for (int k = 0; k < kPairSums; ++k) sums.values[TrendSums::kLast + k] += values[k];
            }
            sums.values[TrendSums::kPreScore] += pre;
        };
        float values[kPairSums];
        std::int32_t* next = matches.data();
        for_each_run(row.base, row.delta, [&](std::int64_t begin, std::int64_t end) {
            next = list_matches(row.base.neighbors, begin, end, slot_plus_one, next);
        });
        for (const std::int32_t* p = matches.data(); p < next; ++p) {
            float raw[kPairSums];
            widen(row.base.values + std::int64_t{*p} * kPairSums, raw);
            for (int k = 0; k < kPairSums; ++k) values[k] = raw[k] * base_decay[k];
            add(slot_plus_one[row.base.neighbors[*p]], values, pair_pre_score(raw, row.base_factors));
        }
        if (row.delta == nullptr) continue;
        next = list_matches(row.delta->neighbors.data(), 0, row.delta->n_read, slot_plus_one, matches.data());
        for (const std::int32_t* match = matches.data(); match < next; ++match) {
            const std::int64_t p = *match;
            const std::int32_t slot = slot_plus_one[row.delta->neighbors[static_cast<std::size_t>(p)]];
            const double* const raw = row.delta->values.data() + p * kPairSums;
            for (int k = 0; k < kPairSums; ++k) values[k] = to_float(raw[k] * delta_decay[k]);
            add(slot, values, to_float(pair_pre_score(raw, row.delta_factors)));
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
