#include "memory/type_features.hpp"

#include <algorithm>

namespace mtaw {

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
