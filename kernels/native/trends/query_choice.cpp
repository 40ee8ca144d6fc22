// The candidates of a query.
#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>

#include "compiler.hpp"
#include "kth_largest.hpp"
#include "trends/delta.hpp"
#include "trends/trends.hpp"

namespace mtaw {
namespace {

// The items met so far and their scores; the scores of free slots are 0. A local copy keeps the pointers in registers.
struct Slots {
    std::int32_t* slot_plus_one;
    std::int32_t* items;
    float* scores;
    std::int32_t count;

    // Handing out a slot takes no branch, which could not be predicted.
    MTAW_INLINE std::int32_t slot_of(std::int32_t item) {
        const std::int32_t entry = slot_plus_one[item], slot = entry == 0 ? count : entry - 1;
        count += entry == 0 ? 1 : 0;
        slot_plus_one[item] = slot + 1;
        items[slot] = item;
        return slot;
    }
};

// Adds what pairs are worth to the scores of their neighbors.
template <typename Value, typename Factor>
void add_pre_scores(const std::int32_t* neighbors, const Value* values, std::int64_t count, const Factor* factors,
                    Slots& shared) {
    Slots slots = shared;
    Factor local_factors[kPairSums];
    std::copy_n(factors, kPairSums, local_factors);
    for (std::int64_t p = 0; p < count; ++p, values += kPairSums) {
        float score;
        if constexpr (std::is_same_v<Value, double>) {
            score = to_float(pair_pre_score(values, local_factors));
        } else {
            float wide[kPairSums];
            widen(values, wide);
            score = pair_pre_score(wide, local_factors);
        }
        slots.scores[slots.slot_of(neighbors[p])] += score;
    }
    shared.count = slots.count;
}

}  // namespace

std::int64_t Trends::choose_candidates(const TrendsRequest& request, std::int64_t n, std::int32_t* ids,
                                       float* pre_scores, const ColumnKernels& kernels, TrendsScratch& scratch) const {
    std::int32_t* const slot_plus_one = scratch.slot_plus_one_.data();
    std::vector<std::int32_t>& items = scratch.items_;
    std::vector<float>& scores = scratch.scores_;
    std::size_t max_slots = static_cast<std::size_t>(scratch.n_rows_ + kTrendPopular + 1);
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        max_slots += static_cast<std::size_t>(row.base.count + (row.delta == nullptr ? 0 : row.delta->n_read));
    }
    if (items.size() < max_slots) {
        scores.resize(max_slots, 0.0F);
        scratch.keys_.resize(max_slots + kPadding);
        scratch.ties_.resize(max_slots);
        items.resize(max_slots);  // last: where memory runs out on the way, the next call tries again
    }
    Slots slots{slot_plus_one, items.data(), scores.data(), 0};
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) slots.slot_of(static_cast<std::int32_t>(scratch.rows_[u].item));
    const std::int32_t n_own = slots.count;
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        for_each_run(row.base, row.delta, [&](std::int64_t begin, std::int64_t end) {
            add_pre_scores(row.base.neighbors + begin, row.base.values + begin * kPairSums, end - begin,
                           row.base_factors, slots);
        });
        if (row.delta != nullptr) {
            add_pre_scores(row.delta->neighbors.data(), row.delta->values.data(), row.delta->n_read, row.delta_factors,
                           slots);
        }
    }
    const auto n_rising = static_cast<std::int64_t>(rising_.size());
    const TrendFacts& facts = scratch.facts_;
    const auto later_weight =
        0.8F * facts.per_later[kTrendQuarter] *
        to_float(decay_power(ranked_at_ - scratch.now_, delta_.settings().half_lives.ms[kTrendQuarter]));
    const auto all_weight =
        0.3F * facts.per_all[kTrendHour] *
        to_float(decay_power(ranked_at_ - scratch.now_, delta_.settings().half_lives.ms[kTrendHour]));
    for (std::int64_t i = 0; i < std::min(n_rising, kTrendPopular); ++i) {
        const Rising& rising_item = rising_[static_cast<std::size_t>(i)];
        slots.scores[slots.slot_of(rising_item.item)] +=
            rising_item.later * later_weight + rising_item.all * all_weight;
    }
    const std::int32_t count = slots.count;
    std::int32_t* const keys = scratch.keys_.data();
    constexpr std::int32_t kBanned = -1;
    for (std::int32_t slot = 0; slot < count; ++slot) {
        const float score = std::max(scores[static_cast<std::size_t>(slot)], 0.0F) + 0.0F;  // no -0
        const std::int32_t item = items[static_cast<std::size_t>(slot)];
        const bool is_allowed = slot >= n_own && item < request.catalog &&
                                (request.allowed == nullptr || (request.allowed[item >> 3] >> (item & 7) & 1) != 0);
        keys[slot] = is_allowed ? std::bit_cast<std::int32_t>(score) : kBanned;
    }
    for (std::int64_t i = 0; i < request.n_excluded; ++i) {
        const std::int32_t item = request.excluded[i];
        if (item >= 0 && item < capacity() && slot_plus_one[item] != 0) keys[slot_plus_one[item] - 1] = kBanned;
    }
    KeyCut cut{1};  // an item that scores 0 is no candidate
    if (n == 0) {
        cut.lowest = std::numeric_limits<std::int32_t>::max();
    } else if (kernels.count_at_least(keys, count, 1) > n) {
        cut = cut_of(
            kernels, keys, count, n, 1, [&](std::int32_t slot) { return items[static_cast<std::size_t>(slot)]; },
            scratch.ties_.data());
    }
    std::int64_t chosen = 0;
    for (std::int32_t slot = n_own; slot < count; ++slot) {
        const std::int32_t item = items[static_cast<std::size_t>(slot)];
        const std::int32_t key = keys[slot];
        const bool is_chosen = cut.takes(key, item);
        pre_scores[chosen] = std::bit_cast<float>(key);
        ids[chosen] = item;
        chosen += is_chosen ? 1 : 0;
        keys[slot] = is_chosen ? kBanned : key;
    }
    for (std::int64_t i = 0; i < std::min(n_rising, kTrendRising); ++i) {
        const std::int32_t item = rising_[static_cast<std::size_t>(i)].item, key = keys[slot_plus_one[item] - 1];
        if (key == kBanned) continue;
        pre_scores[chosen] = std::bit_cast<float>(key);
        ids[chosen++] = item;
    }
    for (std::int32_t slot = 0; slot < count; ++slot) slot_plus_one[items[static_cast<std::size_t>(slot)]] = 0;
    std::fill_n(scores.begin(), count, 0.0F);
    return chosen;
}

}  // namespace mtaw
