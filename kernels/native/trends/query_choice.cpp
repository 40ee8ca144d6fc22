// The candidates of a query.
#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>

#include "compiler.hpp"
#include "kth_largest.hpp"
#include "trends/pairs.hpp"
#include "trends/trends.hpp"

namespace mtaw {
namespace {

constexpr int kHour = kTrendHour, kQuarter = kTrendQuarter;

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

}  // namespace

std::int64_t Trends::choose_candidates(const TrendsRequest& request, std::int64_t n, std::int32_t* ids, float* pre,
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

}  // namespace mtaw
