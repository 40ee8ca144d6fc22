// What a click adds to an item, to the values of its context and to all items, and the clock of these sums.
#include <algorithm>
#include <cmath>
#include <cstddef>

#include "trends/delta.hpp"

namespace mtaw {
namespace {

// Half-lives that the newest click may be past t0: its weight and the sums stay far from float64's ends.
constexpr std::int64_t kMaxPast = 256;

}  // namespace

void TrendsDelta::compute_weights(std::int64_t time, double sign, double* weights) const {
    for (int lane = 0; lane < kItemLanes; ++lane) {
        const std::int64_t half_life = settings_.half_lives.ms[lane];
        weights[lane] = sign * decay_power(time - clock_[lane] * half_life, half_life);
    }
}

// Moves the t0 that `time` has left too far behind.
void TrendsDelta::advance_clock(std::int64_t time) {
    clock_[kItemLanes] = std::max(clock_[kItemLanes], time);
    for (int lane = 0; lane < kItemLanes; ++lane) {
        const std::int64_t epoch = floor_div(time, settings_.half_lives.ms[lane]), steps = epoch - clock_[lane];
        if (steps <= kMaxPast) continue;
        clock_[lane] = epoch;
        ++counters_.moves;
        const auto shift = [steps](double& value) {
            value = std::ldexp(value, -static_cast<int>(std::min<std::int64_t>(steps, 4000)));
            if (std::abs(value) < kMinSum) value = 0;
        };
        const auto shift_pairs = [&](double* values) {
            shift(values[lane - kFirstPairLane]);
            shift(values[lane - kFirstPairLane + kPairLanes]);
        };
        shift(sums_[lane]);
        shift(sums_[kItemLanes + lane]);
        if (lane == kContextLane) {
            for (double& total : context_totals_) shift(total);
        }
        for (ItemDelta& row : items_) {
            shift(row.counts[lane]);
            shift(row.counts[kItemLanes + lane]);
            if (lane == kContextLane) {
                for (double& sum : row.context_sums) shift(sum);
            }
            if (lane < kFirstPairLane) continue;
            shift_pairs(row.totals);
            for (std::size_t p = 0; p < row.neighbors.size(); ++p) shift_pairs(row.values.data() + p * kPairSums);
        }
    }
}

void TrendsDelta::add_click(std::int32_t item, bool later, const double* weights) {
    const auto add = [&](double* sums) {
        for (int lane = 0; lane < kItemLanes; ++lane) {
            sums[lane] += weights[lane];
            if (later) sums[kItemLanes + lane] += weights[lane];
        }
    };
    if (add_scope_ != AddScope::kRebuiltRows) add(sums_);
    if (add_scope_ == AddScope::kTotals) return;
    ItemDelta& row = delta_of(item);
    if (add_scope_ == AddScope::kEverything || row.is_rebuilt) add(row.counts);
}

void TrendsDelta::add_context(std::int32_t item, const std::uint16_t* codes, double weight) {
    ItemDelta& row = delta_of(item);
    const bool to_all = add_scope_ != AddScope::kRebuiltRows,
               to_row = add_scope_ == AddScope::kEverything || (add_scope_ == AddScope::kRebuiltRows && row.is_rebuilt);
    for (std::int64_t c = 0; c < shape_.n_columns; ++c) {
        const std::int64_t value = shape_.value_of(c, codes[c]);
        if (value < 0) continue;
        if (to_all) context_totals_[index(value)] += weight;
        if (!to_row) continue;
        const auto found = std::find(row.context.begin(), row.context.end(), static_cast<std::uint16_t>(value));
        if (found != row.context.end()) {
            row.context_sums[index(found - row.context.begin())] += weight;
            continue;
        }
        if (row.context.size() >= kMaxContextValues) cut_context(row);
        row.context.push_back(static_cast<std::uint16_t>(value));
        row.context_sums.push_back(weight);
        ++n_context_;
    }
}

// Keeps the half of an item's values with the most clicks, ties by the lower value.
void TrendsDelta::cut_context(ItemDelta& row) {
    std::vector<std::size_t> order(row.context.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        const double first = std::abs(row.context_sums[a]), second = std::abs(row.context_sums[b]);
        return first != second ? first > second : row.context[a] < row.context[b];
    });
    order.resize(order.size() / 2);
    std::vector<std::uint16_t> values;
    std::vector<double> sums;
    for (const std::size_t i : order) {
        values.push_back(row.context[i]);
        sums.push_back(row.context_sums[i]);
    }
    n_context_ -= static_cast<std::int64_t>(row.context.size() - values.size());
    row.context = std::move(values);
    row.context_sums = std::move(sums);
}

}  // namespace mtaw
