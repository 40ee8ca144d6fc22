#include "memory/own_items.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

namespace mtaw {
namespace {

using Powers = std::array<float, kMaxClicks>;

constexpr Powers powers_of(double base) {
    Powers powers{};
    double power = 1;
    for (float& value : powers) {
        value = static_cast<float>(power);
        power *= base;
    }
    return powers;
}

constexpr Powers kDecay = powers_of(0.8);
constexpr Powers kSessionDecay = powers_of(0.85);
constexpr std::int64_t kNextClicks = 3;

// The own item of a click, or null if it is too long ago to be one.
OwnItem* find_own_item(OwnItems& own, const Pool& pool, std::int32_t item) {
    const std::int32_t entry = pool.slot_plus_one[item];
    return entry == 0 ? nullptr : own.list + entry - 1;
}

void count_followers(const std::int32_t* clicks, std::int64_t n_clicks, OwnItems& own, const Pool& pool) {
    for (std::int64_t t = 0; t + 1 < n_clicks; ++t) {
        if (clicks[t] != clicks[n_clicks - 1]) continue;
        for (std::int64_t j = t + 1; j <= std::min(n_clicks - 1, t + kNextClicks); ++j) {
            OwnItem* const follower = find_own_item(own, pool, clicks[j]);
            if (follower == nullptr) continue;
            follower->next += j == t + 1 ? 1 : 0;
            ++follower->near;
        }
    }
}

}  // namespace

float session_decay(std::int32_t back) { return kSessionDecay[static_cast<std::size_t>(back)]; }

void list_own_items(const std::int32_t* clicks, std::int64_t n_clicks, std::int64_t limit, OwnItems& own, Pool& pool) {
    own.count = 0;
    own.clicks = n_clicks;
    float total = 0;
    for (std::int64_t t = n_clicks - 1; t >= 0; --t) {
        const auto back = static_cast<std::int32_t>(n_clicks - 1 - t);
        OwnItem* own_item = find_own_item(own, pool, clicks[t]);
        if (own_item == nullptr) {
            if (own.count == limit) continue;
            slot_of(pool, clicks[t]);
            own_item = own.list + own.count++;
            *own_item = {clicks[t], back, back, -1, 0, 0, 0, 0.0F};
        }
        if (own_item->count == 1) own_item->gap = back - own_item->back;
        ++own_item->count;
        own_item->first = back;
        const float weight = kDecay[static_cast<std::size_t>(back)];
        own_item->decayed += weight;
        total += weight;
    }
    for (std::int64_t u = 0; u < own.count; ++u) own.list[u].decayed /= total;
    own.streak = 1;
    while (own.streak < n_clicks && clicks[n_clicks - 1 - own.streak] == clicks[n_clicks - 1]) ++own.streak;
    count_followers(clicks, n_clicks, own, pool);
}

}  // namespace mtaw
