// Trends of a random log, for the programs that test queries without Python.
#pragma once

#include <cstdint>
#include <vector>

#include "memory_log.hpp"
#include "trends/build.hpp"
#include "trends/trends.hpp"

namespace {

constexpr std::int64_t kMinute = 60'000, kLogEnd = 1'764'150'000'000;  // ms

inline mtaw::TrendSettings trend_settings() {
    return {
        {{kMinute, 5 * kMinute, 15 * kMinute, 60 * kMinute, 240 * kMinute, 1440 * kMinute, 10080 * kMinute}}, 5, 20};
}

// Arrays of exactly the tables' sizes. The clicks of the log come a minute apart, the last one at kLogEnd.
struct TrendArrays {
    std::int64_t n_items;
    std::vector<std::int64_t> row_offsets, times, clock;
    std::vector<std::int32_t> neighbors;
    std::vector<std::uint16_t> values;
    std::vector<float> totals, counts;
    std::vector<double> sums;

    explicit TrendArrays(const Log& log) : n_items(log.n_items) {
        std::vector<std::int64_t> clicked;
        const auto n_clicks = static_cast<std::int64_t>(log.items.size());
        for (std::int64_t i = 0; i < n_clicks; ++i) clicked.push_back(kLogEnd - (n_clicks - 1 - i) * kMinute);
        mtaw::TimedSessions sessions{log.items.data(), log.offsets.data(), clicked.data(), log.count(),
                                     n_items,          log.count()};
        sessions.last = n_items;
        mtaw::TrendsBuild plan(sessions, trend_settings(), 1);
        const auto n = static_cast<std::size_t>(n_items), n_pairs = static_cast<std::size_t>(plan.n_pairs());
        row_offsets.resize(n + 1);
        neighbors.resize(n_pairs);
        values.resize(n_pairs * mtaw::kPairSums);
        totals.resize(n * mtaw::kPairSums);
        counts.resize(n * mtaw::kItemSums);
        times.resize(2 * n);
        sums.resize(mtaw::kItemSums);
        clock.resize(mtaw::kItemLanes + 1);
        plan.write({row_offsets.data(), neighbors.data(), values.data(), totals.data(), counts.data(), times.data(),
                    sums.data(), clock.data()});
    }

    [[nodiscard]] mtaw::TrendsView view() const {
        return {row_offsets.data(),
                neighbors.data(),
                values.data(),
                totals.data(),
                counts.data(),
                times.data(),
                sums.data(),
                clock.data(),
                n_items,
                static_cast<std::int64_t>(neighbors.size()),
                {}};
    }
};

}  // namespace
