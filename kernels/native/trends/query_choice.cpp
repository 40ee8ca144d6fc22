// The candidates of a query.
#include <algorithm>
#include <bit>
#include <limits>

#include "kth_largest.hpp"
#include "trends/delta.hpp"
#include "trends/trends.hpp"

namespace mtaw {

std::int64_t Trends::choose_candidates(const TrendsRequest& request, std::int64_t n, std::int32_t* ids,
                                       float* pre_scores, const ColumnKernels& kernels, TrendsScratch& scratch) const {
    std::size_t max_items = static_cast<std::size_t>(kTrendPopular);
    for (std::int64_t u = 0; u < scratch.n_rows_; ++u) {
        const TrendsScratch::OwnRow& row = scratch.rows_[u];
        max_items += static_cast<std::size_t>(row.base.count + (row.delta == nullptr ? 0 : row.delta->n_read));
    }
    if (scratch.items_.size() < max_items + kPadding) {
        scratch.keys_.resize(max_items + kPadding);
        scratch.chosen_.resize(max_items + kPadding);
        scratch.items_.resize(max_items +
                              kPadding);  // last: where memory runs out on the way, the next call tries again
    }
    // From here nothing takes memory, so that popular_ is 0 again at the end.
    const float* const scores = scratch.scores_.data();
    float* const popular = scratch.popular_.data();
    std::uint8_t* const marks = scratch.marks_.data();
    const auto n_rising = static_cast<std::int64_t>(rising_.size());
    const TrendFacts& facts = scratch.facts_;
    const auto later_weight =
        0.8F * facts.per_later[kTrendQuarter] *
        to_float(decay_power(ranked_at_ - scratch.now_, delta_.settings().half_lives.ms[kTrendQuarter]));
    const auto all_weight =
        0.3F * facts.per_all[kTrendHour] *
        to_float(decay_power(ranked_at_ - scratch.now_, delta_.settings().half_lives.ms[kTrendHour]));
    const std::int64_t n_popular = std::min(n_rising, kTrendPopular);
    for (std::int64_t i = 0; i < n_popular; ++i) {
        const Rising& rising_item = rising_[static_cast<std::size_t>(i)];
        popular[rising_item.item] = rising_item.later * later_weight + rising_item.all * all_weight;
        marks[rising_item.item >> kBlockBits] = 1;
    }
    constexpr float kBanned = -std::numeric_limits<float>::infinity();
    const auto set_out = [&](float value) {
        for (std::int64_t u = 0; u < scratch.n_rows_; ++u) popular[scratch.rows_[u].item] = value;
        for (std::int64_t i = 0; i < request.n_excluded; ++i) {
            const std::int32_t item = request.excluded[i];
            if (item >= 0 && item < capacity()) popular[item] = value;
        }
    };
    set_out(kBanned);
    const auto is_allowed = [&](std::int32_t item) {
        return item < request.catalog &&
               (request.allowed == nullptr || (request.allowed[item >> 3] >> (item & 7) & 1) != 0);
    };
    std::int32_t *const items = scratch.items_.data(), *const keys = scratch.keys_.data();
    // An item that scores 0 is no candidate.
    std::int64_t count =
        kernels.list_scored(marks, static_cast<std::int64_t>(scratch.marks_.size()), scores, popular, items, keys);
    if (request.allowed != nullptr || request.catalog < capacity()) {
        std::int64_t n_allowed = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int32_t item = items[i], key = keys[i];
            items[n_allowed] = item;
            keys[n_allowed] = key;
            n_allowed += is_allowed(item) ? 1 : 0;
        }
        count = n_allowed;
    }
    std::int32_t* const chosen = scratch.chosen_.data();
    KeyCut cut{n == 0 ? std::numeric_limits<std::int32_t>::max() : 1};
    if (n > 0 && count > n) {
        cut = cut_of(kernels, keys, count, n, 1, [&](std::int32_t i) { return items[i]; }, chosen);
    }
    std::int64_t n_chosen = n == 0 ? 0 : kernels.list_taken(keys, items, count, cut.lowest, cut.last, 0, chosen);
    for (std::int64_t i = 0; i < n_chosen; ++i) {
        ids[i] = items[chosen[i]];
        pre_scores[i] = std::bit_cast<float>(keys[chosen[i]]);
    }
    for (std::int64_t i = 0; i < std::min(n_rising, kTrendRising); ++i) {
        const std::int32_t item = rising_[static_cast<std::size_t>(i)].item;
        const float score = std::max(scores[item] + popular[item], 0.0F) + 0.0F;  // no -0
        const bool is_new = popular[item] != kBanned && is_allowed(item) &&
                            !(n > 0 && score > 0 && cut.takes(std::bit_cast<std::int32_t>(score), item));
        pre_scores[n_chosen] = score;
        ids[n_chosen] = item;
        n_chosen += is_new ? 1 : 0;
    }
    for (std::int64_t i = 0; i < n_popular; ++i) popular[rising_[static_cast<std::size_t>(i)].item] = 0;
    set_out(0);
    return n_chosen;
}

}  // namespace mtaw
