// The rows of the tables, some of them replaced: those of items whose sessions were forgotten.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "trends/tables.hpp"

namespace mtaw {

struct TrendRow {
    const std::int32_t* neighbors = nullptr;
    const std::uint16_t* values = nullptr;  // bfloat16[count, kPairSums]
    std::int64_t count = 0;
    const float* totals = nullptr;           // [kPairSums]; null if the tables do not know the item, as the next two
    const float* counts = nullptr;           // [kItemSums]
    const std::int64_t* times = nullptr;     // [2]
    const std::uint16_t* context = nullptr;  // [n_context] values of visits' context, ascending
    const float* context_sums = nullptr;     // [n_context]
    std::int64_t n_context = 0;
};

class TrendsBase {
   public:
    explicit TrendsBase(const TrendsView& view) : view_(view) {}

    const TrendsView& view() const { return view_; }
    TrendRow row(std::int64_t item) const { return patches_.empty() ? row_of(view_, item) : replaced(item); }
    // Of an item, its sums and its times alone; null if the tables do not know it.
    std::pair<const float*, const std::int64_t*> counts(std::int64_t item) const {
        if (!patches_.empty()) {
            const TrendRow row = replaced(item);
            return {row.counts, row.times};
        }
        if (item >= view_.n_items) return {nullptr, nullptr};
        return {view_.counts + item * kItemSums, view_.times + item * 2};
    }
    // Keeps a copy of row `from_row` of `from`, whose clock is that of the tables; ids: the items of its rows.
    void replace(std::int32_t item, const TrendsView& from, std::int64_t from_row, const std::int32_t* ids);

   private:
    struct Patch {
        std::vector<std::int32_t> neighbors;
        std::vector<std::uint16_t> values;
        float totals[kPairSums], counts[kItemSums];
        std::int64_t times[2];
        std::vector<std::uint16_t> context;
        std::vector<float> context_sums;
    };

    static TrendRow row_of(const TrendsView& view, std::int64_t item) {
        if (item >= view.n_items) return {};
        const std::int64_t begin = view.row_offsets[item];
        TrendRow row{
            view.neighbors + begin,         view.values + begin * kPairSums, view.row_offsets[item + 1] - begin,
            view.totals + item * kPairSums, view.counts + item * kItemSums,  view.times + item * 2};
        if (const std::int64_t* const offsets = view.context.offsets) {
            row.context = view.context.values + offsets[item];
            row.context_sums = view.context.sums + offsets[item];
            row.n_context = offsets[item + 1] - offsets[item];
        }
        return row;
    }
    TrendRow replaced(std::int64_t item) const {
        const auto found = patches_.find(static_cast<std::int32_t>(item));
        if (found == patches_.end()) return row_of(view_, item);
        const Patch& patch = *found->second;
        return {patch.neighbors.data(),
                patch.values.data(),
                static_cast<std::int64_t>(patch.neighbors.size()),
                patch.totals,
                patch.counts,
                patch.times,
                patch.context.data(),
                patch.context_sums.data(),
                static_cast<std::int64_t>(patch.context.size())};
    }

    TrendsView view_;
    std::unordered_map<std::int32_t, std::unique_ptr<Patch>> patches_;
};

inline void TrendsBase::replace(std::int32_t item, const TrendsView& from, std::int64_t from_row,
                                const std::int32_t* ids) {
    const TrendRow row = row_of(from, from_row);
    auto patch = std::make_unique<Patch>();
    for (std::int64_t p = 0; p < row.count; ++p) patch->neighbors.push_back(ids[row.neighbors[p]]);
    patch->values.assign(row.values, row.values + row.count * kPairSums);
    std::copy_n(row.totals, kPairSums, patch->totals);
    std::copy_n(row.counts, kItemSums, patch->counts);
    std::copy_n(row.times, 2, patch->times);
    patch->context.assign(row.context, row.context + row.n_context);
    patch->context_sums.assign(row.context_sums, row.context_sums + row.n_context);
    patches_[item] = std::move(patch);
}

}  // namespace mtaw
