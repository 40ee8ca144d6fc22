#include "memory/co_clicked.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "memory/tables.hpp"

namespace mtaw {

double CoClicked::cosine_norm(const RowView& first, const RowView& other) const {
    const auto total = [](const RowView& row) {
        return row.totals == nullptr ? 0.0 : static_cast<double>(row.totals[kSes]);
    };
    return std::sqrt((total(first) + 1) * (total(other) + 1));
}

CoClicked::Neighbors CoClicked::neighbors(std::int64_t item) const {
    const RowView item_row = row(item);
    Neighbors found{{item_row.neighbors, item_row.neighbors + item_row.count}, {}};
    found.cosines.reserve(found.items.size());
    for (std::int64_t p = 0; p < item_row.count; ++p) {
        const auto n_together = static_cast<double>(from_bfloat16(item_row.values[p * kPairKinds + kSes]));
        found.cosines.push_back(static_cast<float>(n_together / cosine_norm(item_row, row(item_row.neighbors[p]))));
    }
    return found;
}

double CoClicked::cosine(std::int64_t item, std::int64_t other) const {
    const RowView item_row = row(item), other_row = row(other);
    const double stored = stored_sessions(item_row, other), norm = cosine_norm(item_row, other_row);
    // As a float, so that a pair has the cosine that `neighbors` gives it.
    const auto cosine = static_cast<float>(stored / norm);
    return cosine > 0 ? static_cast<double>(cosine) : shared_sessions(item, other) / norm;
}

double CoClicked::sessions(std::int64_t item, std::int64_t other) const {
    const double stored = stored_sessions(row(item), other);
    return stored > 0 ? stored : shared_sessions(item, other);
}

double CoClicked::stored_sessions(const RowView& item_row, std::int64_t other) {
    const std::int32_t* const end = item_row.neighbors + item_row.count;
    const std::int32_t* const found = std::find(item_row.neighbors, end, static_cast<std::int32_t>(other));
    if (found == end) return 0;
    return static_cast<double>(from_bfloat16(item_row.values[(found - item_row.neighbors) * kPairKinds + kSes]));
}

double CoClicked::shared_sessions(std::int64_t item, std::int64_t other) const {
    if (std::max(item, other) >= tables_->n_items) return 0;
    // Postings ascend.
    const auto begin = [&](std::int64_t item_id) { return tables_->postings + tables_->post_offsets[item_id]; };
    std::vector<std::int32_t> shared;
    std::set_intersection(begin(item), begin(item + 1), begin(other), begin(other + 1), std::back_inserter(shared));
    if (base_ != nullptr) {
        std::erase_if(shared, [&](std::int32_t session) { return base_->is_dropped(session); });
    }
    return static_cast<double>(shared.size());
}

std::vector<std::size_t> CoClicked::closest(std::int32_t item, const std::vector<std::int32_t>& own) const {
    std::vector<std::pair<double, std::size_t>> by_cosine;
    for (std::size_t i = 0; i < own.size(); ++i) {
        if (const double share = cosine(own[i], item); share > 0) by_cosine.emplace_back(share, i);
    }
    std::stable_sort(by_cosine.begin(), by_cosine.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<std::size_t> indices;
    for (std::size_t i = 0; i < std::min(by_cosine.size(), kMaxReasons); ++i) indices.push_back(by_cosine[i].second);
    return indices;
}

}  // namespace mtaw
