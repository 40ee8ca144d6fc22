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

void ClickTypes::set(const std::int32_t* clicks, const std::uint8_t* types, std::int64_t n_clicks, std::int64_t n_types,
                     const OwnItems& own, const Pool& pool) {
    n_types_ = n_types;
    n_clicks_ = n_clicks;
    types_ = types;
    n_own_ = own.count;
    if (n_types == 0 || types == nullptr) return;
    std::fill_n(type_bits_, own.count, std::uint8_t{0});
    for (std::int64_t u = 0; u < own.count; ++u) last_type_[u] = static_cast<std::uint8_t>(type_at(own.list[u].back));
    for (std::int64_t t = n_clicks - own.clicks; t < n_clicks; ++t) {
        const std::int32_t entry = pool.slot_plus_one[clicks[t]];  // 0: too long ago to be an own item
        if (entry > 0 && types[t] < n_types) type_bits_[entry - 1] |= static_cast<std::uint8_t>(1U << types[t]);
    }
}

void ClickTypes::fill_query(float* out) const {
    for (std::int64_t k = 0; k < n_types_; ++k) out[k] = type_at(0) == k ? 1.0F : 0.0F;
}

void ClickTypes::fill_near(const Pool& pool, const std::int32_t* slots, std::int64_t count, float* columns) const {
    if (types_ == nullptr) {
        std::fill_n(columns, n_types_ * kTile, 0.0F);
        return;
    }
    // Without branches: which candidates past sessions lead to is as good as random.
    std::int32_t types[kTile];
    std::fill_n(types, kTile, -1);
    for (std::int64_t i = 0; i < count; ++i) {
        const float near = signals_of(pool, slots[i])[kNear];
        const auto back = static_cast<std::int64_t>(near > 0 ? 1.0F / near - 0.5F : 0.0F);
        types[i] = near > 0 ? static_cast<std::int32_t>(type_at(back)) : -1;
    }
    for (std::int64_t k = 0; k < n_types_; ++k) {
        for (std::int64_t i = 0; i < kTile; ++i) columns[k * kTile + i] = types[i] == k ? 1.0F : 0.0F;
    }
}

void ClickTypes::fill_own(const std::int32_t* slots, std::int64_t count, float* columns) const {
    std::fill_n(columns, n_types_ * kTile, 0.0F);
    if (types_ == nullptr) return;
    for (std::int64_t i = 0; i < count; ++i) {
        if (slots[i] >= n_own_) continue;
        for (std::int64_t k = 0; k < n_types_; ++k) {
            if ((type_bits_[slots[i]] >> k & 1) != 0) columns[k * kTile + i] = last_type_[slots[i]] == k ? 1.0F : 0.5F;
        }
    }
}

}  // namespace mtaw
