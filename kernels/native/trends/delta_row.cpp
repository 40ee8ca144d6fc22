// The pairs of an item since the tables were built, and how its row is kept short to read.
#include <algorithm>
#include <cstddef>

#include "trends/delta.hpp"

namespace mtaw {
namespace {

// Its index, or `count`.
std::int64_t index_of(const std::int32_t* values, std::int64_t count, std::int32_t wanted) {
    constexpr std::int64_t kScanBlock = 16;  // looked through without a branch
    std::int64_t i = 0;
    for (; i + kScanBlock <= count; i += kScanBlock) {
        std::int32_t found = 0;
        for (std::int64_t j = 0; j < kScanBlock; ++j) found |= values[i + j] == wanted ? -1 : 0;
        if (found != 0) break;
    }
    while (i < count && values[i] != wanted) ++i;
    return i;
}

}  // namespace

void TrendsDelta::add_pair(std::int32_t earlier, std::int32_t later, std::int64_t distance, const double* weights) {
    if (earlier == later) return;
    const double share = 1.0 / static_cast<double>(distance);
    add_term(earlier, later, 0, share, weights);
    add_term(later, earlier, kPairLanes, share, weights);
}

void TrendsDelta::add_term(std::int32_t item, std::int32_t neighbor, int first_lane, double share,
                           const double* weights) {
    if (add_scope_ == AddScope::kTotals) return;
    ItemDelta& row = delta_of(item);
    if (add_scope_ == AddScope::kRebuiltRows && !row.is_rebuilt) return;
    auto count = static_cast<std::int64_t>(row.neighbors.size());
    std::int64_t pair = index_of(row.neighbors.data(), count, neighbor);
    if (pair == count) {
        if (count >= limits_.row_neighbors) cut_row(row);
        pair = static_cast<std::int64_t>(row.neighbors.size());
        row.neighbors.push_back(neighbor);
        row.values.resize(row.values.size() + kPairSums, 0.0);
        if (row.narrowed) {
            const TrendRow base = base_.row(item);
            const std::int64_t found = index_of(base.neighbors, base.count, neighbor);
            row.base_indices.push_back(found == base.count ? -1 : static_cast<std::int32_t>(found));
        }
        ++n_pairs_;
    }
    double* const value = row.values.data() + pair * kPairSums + first_lane;
    double* const total = row.totals + first_lane;
    for (int lane = 0; lane < kPairLanes; ++lane) {
        const double part = share * weights[kFirstPairLane + lane];
        value[lane] += part;
        total[lane] += part;
    }
    if (pair >= row.n_read) read_pair(row, pair);
}

// A pair that a query does not read yet has a new term: what is strong enough is found again after some of them.
void TrendsDelta::read_pair(ItemDelta& row, std::int64_t pair) {
    constexpr std::int64_t kChangeShare = 32;  // of the pairs that there are, or that are read
    const std::int64_t last_read = row.n_read++;
    if (last_read != pair) {
        std::swap(row.neighbors[index(pair)], row.neighbors[index(last_read)]);
        std::swap_ranges(row.values.begin() + pair * kPairSums, row.values.begin() + (pair + 1) * kPairSums,
                         row.values.begin() + last_read * kPairSums);
        if (row.narrowed) std::swap(row.base_indices[index(pair)], row.base_indices[index(last_read)]);
    }
    if (row.narrowed && row.base_indices[index(last_read)] >= 0) {
        const std::int32_t base_index = row.base_indices[index(last_read)];
        const bool is_read = std::any_of(row.base_runs.begin(), row.base_runs.end(), [&](const auto& run) {
            return run.first <= base_index && base_index < run.second;
        });
        if (!is_read) row.base_runs.emplace_back(base_index, base_index + 1);
    }
    ++row.changes;
    const std::int64_t pairs = std::max(settings_.max_neighbors, static_cast<std::int64_t>(row.neighbors.size()));
    if (row.changes * kChangeShare > pairs) narrow(row);
}

// Finds the pairs that a query reads: as many as tables keep, by what a rebuilt row would be cut by.
void TrendsDelta::narrow(ItemDelta& row) {
    row.changes = 0;
    const TrendRow base = base_.row(row.item);
    const auto count = static_cast<std::int64_t>(row.neighbors.size());
    const std::int64_t max_pairs = settings_.max_neighbors;
    if (max_pairs == 0 || (!row.narrowed && base.count + count <= max_pairs)) return;
    double to_now[kPairLanes], to_epoch[kPairSums], totals[kPairSums];
    for (int lane = 0; lane < kPairLanes; ++lane) {
        const int item_lane = kFirstPairLane + lane;
        const std::int64_t half_life = settings_.half_lives.ms[item_lane];
        to_now[lane] = decay_power(clock_[item_lane] * half_life - newest(), half_life);
        to_epoch[lane] = to_epoch[kPairLanes + lane] =
            decay_power((base_.view().clock[item_lane] - clock_[item_lane]) * half_life, half_life);
    }
    for (int k = 0; k < kPairSums; ++k) {
        totals[k] = row.totals[k] + (base.totals == nullptr ? 0.0 : static_cast<double>(base.totals[k]) * to_epoch[k]);
    }
    const auto add_base = [&](std::int64_t base_index, double* sums) {
        for (int k = 0; k < kPairSums; ++k) {
            sums[k] += static_cast<double>(widened(base.values[base_index * kPairSums + k])) * to_epoch[k];
        }
    };
    struct Ranked {
        double strength;
        std::int32_t neighbor;
        std::int64_t source;  // among these pairs, or -1 - the index of one that the tables alone have
    };
    std::vector<Ranked> ranked;
    ranked.reserve(index(count + base.count));
    base_index_of_item_.resize(std::max(base_index_of_item_.size(), index(limits_.capacity)), 0);
    for (std::int64_t p = 0; p < base.count; ++p) {
        base_index_of_item_[index(base.neighbors[p])] = static_cast<std::int32_t>(p + 1);
    }
    row.base_indices.resize(index(count));
    std::vector<std::uint8_t> marks(index(base.count), 0);  // of the tables' pairs: whether these pairs have it too
    for (std::int64_t i = 0; i < count; ++i) {
        double sums[kPairSums];
        std::copy_n(row.values.data() + i * kPairSums, kPairSums, sums);
        const std::int32_t base_index = row.base_indices[index(i)] =
            base_index_of_item_[index(row.neighbors[index(i)])] - 1;
        if (base_index >= 0) {
            marks[index(base_index)] = 1;
            add_base(base_index, sums);
        }
        ranked.push_back({pair_strength(sums, totals, to_now), row.neighbors[index(i)], i});
    }
    for (std::int64_t p = 0; p < base.count; ++p) {
        base_index_of_item_[index(base.neighbors[p])] = 0;
        if (marks[index(p)] != 0) continue;
        double sums[kPairSums] = {};
        add_base(p, sums);
        ranked.push_back({pair_strength(sums, totals, to_now), base.neighbors[p], -1 - p});
    }
    const auto n_kept = std::min(index(max_pairs), ranked.size());
    if (n_kept < ranked.size()) {
        std::nth_element(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(n_kept), ranked.end(),
                         [](const Ranked& x, const Ranked& y) {
                             return x.strength != y.strength ? x.strength > y.strength : x.neighbor < y.neighbor;
                         });
    }
    std::fill(marks.begin(), marks.end(), 0);  // from here on: whether it is read
    std::vector<std::uint8_t> is_read(index(count), 0);
    for (std::size_t i = 0; i < n_kept; ++i) {
        const std::int64_t base_index =
            ranked[i].source >= 0 ? row.base_indices[index(ranked[i].source)] : -1 - ranked[i].source;
        if (ranked[i].source >= 0) is_read[index(ranked[i].source)] = 1;
        if (base_index >= 0) marks[index(base_index)] = 1;
    }
    std::vector<std::int32_t> neighbors, base_indices;
    std::vector<double> values;
    neighbors.reserve(row.neighbors.capacity());
    values.reserve(row.values.capacity());
    for (const std::uint8_t wanted : {std::uint8_t{1}, std::uint8_t{0}}) {
        for (std::int64_t i = 0; i < count; ++i) {
            if (is_read[index(i)] != wanted) continue;
            neighbors.push_back(row.neighbors[index(i)]);
            base_indices.push_back(row.base_indices[index(i)]);
            values.insert(values.end(), row.values.begin() + i * kPairSums, row.values.begin() + (i + 1) * kPairSums);
        }
        if (wanted == 1) row.n_read = static_cast<std::int64_t>(neighbors.size());
    }
    row.neighbors = std::move(neighbors);
    row.base_indices = std::move(base_indices);
    row.values = std::move(values);
    row.narrowed = true;
    row.base_runs.clear();
    for (std::int32_t p = 0; p < base.count; ++p) {
        if (marks[index(p)] == 0) continue;
        if (row.base_runs.empty() || row.base_runs.back().second != p) row.base_runs.emplace_back(p, p);
        row.base_runs.back().second = p + 1;
    }
}

// Keeps the strongest half of a row.
void TrendsDelta::cut_row(ItemDelta& row) {
    double to_now[kPairLanes];
    for (int lane = 0; lane < kPairLanes; ++lane) {
        const std::int64_t half_life = settings_.half_lives.ms[kFirstPairLane + lane];
        to_now[lane] = decay_power(clock_[kFirstPairLane + lane] * half_life - newest(), half_life);
    }
    const std::size_t count = row.neighbors.size(), n_kept = std::max<std::size_t>(count / 2, 1);
    std::vector<double> strengths(count);
    std::vector<std::size_t> order(count);
    for (std::size_t i = 0; i < count; ++i) {
        order[i] = i;
        strengths[i] = pair_strength(row.values.data() + i * kPairSums, row.totals, to_now);
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        if (strengths[a] != strengths[b]) return strengths[a] > strengths[b];
        return row.neighbors[a] < row.neighbors[b];
    });
    std::vector<std::int32_t> neighbors(n_kept);
    std::vector<double> values(n_kept * kPairSums);
    for (std::size_t i = 0; i < n_kept; ++i) {
        neighbors[i] = row.neighbors[order[i]];
        std::copy_n(row.values.data() + order[i] * kPairSums, kPairSums, values.data() + i * kPairSums);
    }
    row.neighbors = std::move(neighbors);
    row.values = std::move(values);
    row.n_read = static_cast<std::int64_t>(n_kept);
    narrow(row);
    counters_.cut += static_cast<std::int64_t>(count - n_kept);
    n_pairs_ -= static_cast<std::int64_t>(count - n_kept);
}

}  // namespace mtaw
