#include "memory/co_clicked.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "memory/bfloat16.hpp"

namespace mtaw {

double CoClicked::root(const RowView& one, const RowView& other) const {
    const auto total = [](const RowView& row) { return row.totals == nullptr ? 0.0 : static_cast<double>(row.totals[kSes]); };
    return std::sqrt((total(one) + 1) * (total(other) + 1));
}

CoClicked::Neighbors CoClicked::neighbors(std::int64_t item) const {
    const RowView own = row(item);
    Neighbors found{{own.neighbors, own.neighbors + own.count}, {}};
    found.cosines.reserve(found.items.size());
    for (std::int64_t p = 0; p < own.count; ++p) {
        const auto together = static_cast<double>(from_bfloat16(own.values[p * kPairKinds + kSes]));
        found.cosines.push_back(static_cast<float>(together / root(own, row(own.neighbors[p]))));
    }
    return found;
}

double CoClicked::cosine(std::int64_t item, std::int64_t other) const {
    const RowView own = row(item), theirs = row(other);
    const std::int32_t* const end = own.neighbors + own.count;
    const std::int32_t* const found = std::find(own.neighbors, end, static_cast<std::int32_t>(other));
    if (found != end) {
        const auto together = static_cast<double>(from_bfloat16(own.values[(found - own.neighbors) * kPairKinds + kSes]));
        const auto cosine = static_cast<float>(together / root(own, theirs));
        if (cosine > 0) return static_cast<double>(cosine);
    }
    if (std::max(item, other) >= tables_->n_items) return 0;
    const auto begin = [&](std::int64_t of) { return tables_->postings + tables_->post_offsets[of]; };  // ascending
    std::vector<std::int32_t> both;
    std::set_intersection(begin(item), begin(item + 1), begin(other), begin(other + 1), std::back_inserter(both));
    if (base_ != nullptr) std::erase_if(both, [&](std::int32_t session) { return base_->is_dropped(session); });
    return static_cast<double>(both.size()) / root(own, theirs);
}

std::vector<std::size_t> CoClicked::closest(std::int32_t item, const std::vector<std::int32_t>& own) const {
    std::vector<std::pair<double, std::size_t>> near;
    for (std::size_t i = 0; i < own.size(); ++i) {
        if (const double share = cosine(own[i], item); share > 0) near.emplace_back(share, i);
    }
    std::stable_sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < std::min(near.size(), kMostReasons); ++i) places.push_back(near[i].second);
    return places;
}

}  // namespace mtaw
