#include "trends/trends.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>

namespace mtaw {
namespace {

constexpr std::int64_t kClicksPerLock = 64;  // clicks added under one lock, which readers wait for
constexpr std::size_t kFewActive = 1024;
constexpr int kShort = 2, kLong = 3, kDaily = 5;  // item lanes by which items are popular
// Sessions with an item within about an hour that make it a trend: a number, or a share of an hour's long-run traffic.
constexpr float kFewSessions = 15, kCrowdShare = 0.001F;

}  // namespace

Trends::Trends(const TrendsView& base, const TrendSettings& settings, const TrendLimits& limits)
    : base_(base), delta_(settings, limits, base) {
    if (limits.capacity < base.n_items || limits.capacity > std::numeric_limits<std::int32_t>::max()) {
        throw std::invalid_argument("capacity must be in " + std::to_string(base.n_items) + "..2147483647, not " +
                                    std::to_string(limits.capacity));
    }
    if (limits.row_neighbors < 2) throw std::invalid_argument("row_neighbors must be at least 2");
    if (limits.ahead < 0 || limits.ahead > kMaxTime) throw std::invalid_argument("ahead must be in 0..2^52 ms");
    rank_base_popular();
    rank_rising();
}

void Trends::click(const TrendClicks& clicks) {
    for (std::int64_t i = 0; i < clicks.count; ++i) {
        if (clicks.items[i] < 0 || clicks.items[i] >= capacity()) {
            throw std::out_of_range("items[" + std::to_string(i) + "] is " + std::to_string(clicks.items[i]) +
                                    ", outside 0.." + std::to_string(capacity() - 1));
        }
    }
    for (std::int64_t begin = 0; begin < clicks.count; begin += kClicksPerLock) {
        if (begin > 0) std::this_thread::yield();
        const ChangeLock::Write lock(change_lock_);
        for (std::int64_t i = begin; i < std::min(begin + kClicksPerLock, clicks.count); ++i) {
            const std::int64_t arrival = clicks.arrivals != nullptr ? clicks.arrivals[i] : clicks.times[i];
            const std::uint16_t* const codes =
                clicks.context == nullptr ? nullptr : clicks.context + i * context_shape().n_columns;
            delta_.click(clicks.handles[i], clicks.items[i], clicks.times[i], arrival, codes);
            if (floor_div(delta_.newest(), kTrendEvery) != floor_div(ranked_at_, kTrendEvery)) {
                rank_rising();
            } else if (found_.insert(clicks.items[i]).second) {
                clicked_.push_back(clicks.items[i]);
            }
        }
    }
}

bool Trends::forget(std::int64_t handle) {
    const ChangeLock::Write lock(change_lock_);
    const bool is_known = delta_.forget(handle);
    if (is_known) rank_rising();
    return is_known;
}

void Trends::forget_in_tables(const TrendsSession& session, const TrendsView& remaining, const std::int32_t* ids) {
    for (std::int64_t i = 0; i < session.count; ++i) {
        const std::int64_t time = session.times[i];
        if (!std::binary_search(ids, ids + remaining.n_items, session.items[i]) || time < 0 || time > kMaxTime) {
            throw std::out_of_range("the click " + std::to_string(i) +
                                    " of a session of the tables is outside the items or times");
        }
    }
    const ChangeLock::Write lock(change_lock_);
    delta_.forget_in_tables(session, remaining, ids);
    rank_rising();
}

TrendFactors Trends::factors_at(std::int64_t now) const {
    now = std::clamp(now, delta_.newest(), std::max(kMaxTime, delta_.newest()));
    TrendFactors factors;
    for (int lane = 0; lane < kItemLanes; ++lane) {
        const std::int64_t half_life = delta_.settings().half_lives.ms[lane];
        const double power = decay_power(base_.clock[lane] * half_life - now, half_life);
        const auto base = static_cast<float>(power);
        factors.base[lane] = factors.base[kItemLanes + lane] = base < kMinFloat ? 0.0F : base;
        const bool is_same = delta_.epochs()[lane] == base_.clock[lane];  // as long as no t0 has moved
        factors.delta[lane] = factors.delta[kItemLanes + lane] =
            is_same ? power : decay_power(delta_.epochs()[lane] * half_life - now, half_life);
    }
    return factors;
}

TrendItem Trends::item_at(std::int64_t item, const ItemDelta* delta, std::int64_t now,
                          const TrendFactors& factors) const {
    constexpr float kNeverAge = 60 * 24 * 3600;  // s; ages are capped here
    TrendItem out{};
    float* const sums = out.values;
    std::int64_t first = kNever, last = kNever;
    const auto [counts, times] = delta_.base().counts(item);
    if (counts != nullptr) {
        for (int k = 0; k < kItemSums; ++k) sums[k] = counts[k] * factors.base[k];
        first = times[0];
        last = times[1];
    }
    if (delta != nullptr) {
        for (int k = 0; k < kItemSums; ++k) sums[k] += to_float(delta->counts[k] * factors.delta[k]);
        if (delta->first != kNever) first = first == kNever ? delta->first : std::min(first, delta->first);
        last = std::max(last, delta->last);
    }
    for (int k = 0; k < kItemSums; ++k) sums[k] = std::max(sums[k], 0.0F);
    const auto seconds = [&](std::int64_t then) {
        return std::min(static_cast<float>(std::max<std::int64_t>(now - then, 0)) * 1e-3F, kNeverAge);
    };
    out.values[TrendItem::kFirst] = first == kNever ? 0.0F : seconds(first);
    out.values[TrendItem::kLast] = last == kNever ? kNeverAge : seconds(last);
    return out;
}

// Items that may be popular as long as nobody clicks them: in one lane their order never changes.
void Trends::rank_base_popular() {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(base_.n_items));
    for (const int lane : {kItemLanes + kShort, kLong, kDaily}) {
        for (std::int64_t i = 0; i < base_.n_items; ++i)
            ids[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i);
        const auto n_popular = static_cast<std::size_t>(std::min<std::int64_t>(kTrendMaxRising, base_.n_items));
        const auto value = [&](std::int32_t item) { return base_.counts[std::int64_t{item} * kItemSums + lane]; };
        std::partial_sort(
            ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n_popular), ids.end(),
            [&](std::int32_t a, std::int32_t b) { return value(a) != value(b) ? value(a) > value(b) : a < b; });
        for (std::size_t i = 0; i < n_popular && value(ids[i]) > 0; ++i) base_popular_.push_back(ids[i]);
    }
    std::sort(base_popular_.begin(), base_popular_.end());
    base_popular_.erase(std::unique(base_popular_.begin(), base_popular_.end()), base_popular_.end());
}

void Trends::rank_rising() {
    ranked_at_ = delta_.newest();
    const TrendFactors factors = factors_at(ranked_at_);
    rising_.clear();
    const auto add = [&](std::int32_t item) {
        const ItemDelta* const delta = delta_.find(item);
        const TrendRow row = delta_.base().row(item);
        const auto sum = [&](int k) {
            const float base = row.counts == nullptr ? 0.0F : row.counts[k];
            const double since = delta == nullptr ? 0.0 : delta->counts[k];
            return std::max(base * factors.base[k] + to_float(since * factors.delta[k]), 0.0F);
        };
        const float later = sum(kItemLanes + kShort), all = sum(kLong);
        const float score = later + 0.25F * sum(kShort) + 0.5F * sum(kItemLanes + kShort - 1) + 0.1F * all;
        if (score > 0) rising_.push_back({item, later, all, score});
    };
    const std::int64_t since = ranked_at_ - 24 * delta_.settings().half_lives.ms[kShort];
    for (const std::int32_t item : delta_.active(since, kFewActive)) add(item);
    for (const std::int32_t item : base_popular_) {
        const ItemDelta* const delta = delta_.find(item);
        if (delta == nullptr || !delta->active) add(item);
    }
    const auto n_rising = std::min(rising_.size(), static_cast<std::size_t>(kTrendMaxRising));
    std::partial_sort(
        rising_.begin(), rising_.begin() + static_cast<std::ptrdiff_t>(n_rising), rising_.end(),
        [](const Rising& a, const Rising& b) { return a.score != b.score ? a.score > b.score : a.item < b.item; });
    rising_.resize(n_rising);
    found_.clear();
    clicked_.clear();
    for (const Rising& rising_item : rising_) found_.insert(rising_item.item);
}

std::int64_t Trends::rising(std::int64_t now, std::int64_t k, std::int32_t* ids, float* scores) const {
    now = std::max(now, delta_.newest());
    const TrendFactors factors = factors_at(now);
    const auto hours = [&](int lane) { return static_cast<float>(delta_.settings().half_lives.ms[lane]); };
    constexpr int kWeekly = kItemLanes - 1;
    const auto week = to_float(base_.sums[kWeekly] * static_cast<double>(factors.base[kWeekly]) +
                               delta_.sums()[kWeekly] * factors.delta[kWeekly]);
    const float crowd = std::max(kFewSessions, kCrowdShare * week * hours(kLong) / hours(kWeekly));
    std::vector<std::pair<float, std::int32_t>> scored;
    scored.reserve(rising_.size() + clicked_.size());
    const auto add = [&](std::int32_t id) {
        const TrendItem item = item_at(id, delta_.find(id), now, factors);
        // How fast it is clicked now (with few clicks, the day is more reliable), and how much faster than over
        // a day. Of the first clicks of a news log's sessions (4% of a day's), 81% are in the first 20.
        // The sessions of a small crowd are no trend, so the fast lanes count little below `crowd` of them.
        const float share = std::min(item.all(kLong) / crowd, 1e4F), square = share * share, fourth = square * square;
        const float trusted = fourth * fourth / (fourth * fourth + 1.0F);
        const float fast = trusted * (item.all(kShort) + 0.25F * item.all(kLong)) + 0.02F * item.all(kDaily);
        const float usual = (item.all(kDaily) + 1.0F) * hours(kLong) / hours(kDaily);
        const float score = fast * std::sqrt((trusted * item.all(kLong) + 1.0F) / usual);
        if (score > 0) scored.emplace_back(-score, id);  // what has faded to 0 has no order here
    };
    for (const Rising& rising_item : rising_) add(rising_item.item);
    for (const std::int32_t id : clicked_) add(id);
    std::sort(scored.begin(), scored.end());
    const std::int64_t count = std::min(k, static_cast<std::int64_t>(scored.size()));
    for (std::int64_t i = 0; i < count; ++i) {
        ids[i] = scored[static_cast<std::size_t>(i)].second;
        scores[i] = -scored[static_cast<std::size_t>(i)].first;
    }
    return count;
}

}  // namespace mtaw
