// Side features: what is known of a candidate beyond clicks on it and its pairs. For each context column of the tables
//
//   c_share   log of its share of the decayed clicks in the visit's value, smoothed by its popularity at large
//   c_lift    log of that share against its popularity at large; 0 if the visit has no value
//
// and of the items' content, for each category column and for a time column
//
//   i_same    1 if its category is the last own item's, -1 if it is another, 0 if one of them is missing
//   i_part    2 * (the part of the own items with a category that have this one) - 1; 0 if none has one, or it has none
//   i_age     log of the minutes since its time, + 1; without a time, since its first click
//
// bench/memory_reference/trends.py has the same formulas in Python.
#pragma once

#include <cstdint>

#include "trends/tables.hpp"

namespace mtaw {

constexpr std::int64_t kMaxCategories = 4;
constexpr std::int64_t kMaxSide = 2 * kMaxContext + 2 * kMaxCategories + 1;
constexpr float kContextPrior = 50.0F;  // decayed clicks that popularity at large counts as, within a value
constexpr std::int32_t kNoCategory = -1;
constexpr std::int64_t kNoTime = INT64_MIN;

// Columns of an item table. Items past the end have neither category nor time.
struct ItemContent {
    std::int64_t n_items = 0;
    std::int64_t n_categories = 0;
    const std::int32_t* categories[kMaxCategories] = {};  // codes, kNoCategory if missing
    const std::int64_t* created = nullptr;                // ms, kNoTime if missing; null: no such column

    std::int64_t n_features() const { return 2 * n_categories + (created != nullptr ? 1 : 0); }
    std::int32_t category(std::int64_t column, std::int64_t item) const {
        return item < n_items ? categories[column][item] : kNoCategory;
    }
    std::int64_t time(std::int64_t item) const { return item < n_items ? created[item] : kNoTime; }
};

// Columns of side features.
inline std::int64_t n_side_features(const ContextShape& shape, const ItemContent* content) {
    return 2 * shape.n_columns + (content == nullptr ? 0 : content->n_features());
}

}  // namespace mtaw
