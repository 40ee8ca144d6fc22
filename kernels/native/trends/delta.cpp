#include "trends/delta.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>

namespace mtaw {
namespace {

// Half-lives that the newest click may be past t0: its weight and the sums stay far from float64's ends.
constexpr std::int64_t kMaxPast = 256;

std::size_t at(std::int64_t place) { return static_cast<std::size_t>(place); }

float widened(std::uint16_t value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

// Its place, or `count`.
std::int64_t place_of(const std::int32_t* values, std::int64_t count, std::int32_t wanted) {
    constexpr std::int64_t kRun = 16;  // looked through without a branch
    std::int64_t i = 0;
    for (; i + kRun <= count; i += kRun) {
        std::int32_t found = 0;
        for (std::int64_t j = 0; j < kRun; ++j) found |= values[i + j] == wanted ? -1 : 0;
        if (found != 0) break;
    }
    while (i < count && values[i] != wanted) ++i;
    return i;
}

}  // namespace

TrendsDelta::TrendsDelta(const TrendSettings& settings, const TrendLimits& limits, const TrendsView& base)
    : base_(base),
      settings_(settings),
      limits_(limits),
      shape_(base.context.shape),
      context_totals_(at(base.context.shape.n_values()), 0.0) {
    std::copy(base.clock, base.clock + kItemLanes + 1, clock_);
}

void TrendsDelta::click(std::int64_t handle, std::int32_t item, std::int64_t time, std::int64_t arrival,
                        const std::uint16_t* codes) {
    const std::int64_t latest = std::min(arrival, kMaxTime - limits_.ahead) + limits_.ahead;
    if (time > latest || time < 0) {
        time = std::clamp<std::int64_t>(time, 0, std::max<std::int64_t>(latest, 0));
        ++counters_.clamped;
    }
    advance(time);
    const auto [found, is_new] = sessions_.try_emplace(handle);
    Session& session = found->second;
    if (is_new) session.once = limits_.once;
    const auto count = static_cast<std::int64_t>(session.items.size());
    std::int64_t place = count;
    while (place > std::max<std::int64_t>(0, count - kLateClicks) && session.times[at(place) - 1] > time) --place;
    if (place > 0) time = std::max(time, session.times[at(place) - 1]);  // one that is later than the bound
    const std::int64_t window = settings_.window;
    double weights[kItemLanes];
    // The clicks on both sides of a late one are one further apart from now on.
    const auto add_straddling = [&](double sign, std::int64_t gap) {
        for (std::int64_t j = place + gap; j < std::min(place + gap + window, static_cast<std::int64_t>(session.items.size()));
             ++j) {
            weigh(session.times[at(j)], sign, weights);
            for (std::int64_t i = std::max<std::int64_t>(0, j - window); i < place; ++i) {
                add_pair(session.items[at(i)], session.items[at(j)], j - i, weights);
            }
        }
    };
    if (place < count) ++counters_.late;
    if (session.once) {
        insert_once(session, place, item, time, codes);
        meet(handle, item, time);
        return;
    }
    if (place < count) {
        add_straddling(-1.0, 0);
        if (place == 0) {  // what was the first click is none any more
            weigh(session.times[0], 1.0, weights);
            ItemDelta& first = of(session.items[0]);
            for (int lane = 0; lane < kItemLanes; ++lane) {
                first.counts[kItemLanes + lane] += weights[lane];
                sums_[kItemLanes + lane] += weights[lane];
            }
        }
    }
    insert(session, place, item, time, codes);
    if (place < count) {
        add_straddling(1.0, 1);
        for (std::int64_t j = place + 1; j <= std::min(place + window, count); ++j) {
            weigh(session.times[at(j)], 1.0, weights);
            add_pair(item, session.items[at(j)], j - place, weights);
        }
    }
    weigh(time, 1.0, weights);
    for (std::int64_t d = 1; d <= std::min(window, place); ++d) add_pair(session.items[at(place - d)], item, d, weights);
    add_click(item, place > 0, weights);
    if (codes != nullptr) add_context(item, codes, weights[kContextLane]);
    meet(handle, item, time);
}

void TrendsDelta::insert(Session& session, std::int64_t place, std::int32_t item, std::int64_t time,
                         const std::uint16_t* codes) const {
    session.items.insert(session.items.begin() + place, item);
    session.times.insert(session.times.begin() + place, time);
    if (shape_.n_columns > 0) {
        const auto where = session.codes.begin() + place * shape_.n_columns;
        if (codes != nullptr) {
            session.codes.insert(where, codes, codes + shape_.n_columns);
        } else {
            session.codes.insert(where, at(shape_.n_columns), std::uint16_t{0});
        }
    }
}

// Inserts a click into a session that counts an item once.
void TrendsDelta::insert_once(Session& session, std::int64_t place, std::int32_t item, std::int64_t time,
                              const std::uint16_t* codes) {
    const auto count = static_cast<std::int64_t>(session.items.size());
    const bool is_last = place == count;
    if (!is_last) add_once(session, -1.0);  // another click may be the first on the item now
    insert(session, place, item, time, codes);
    if (is_last) {
        add_last_once(session, place, 1.0);
    } else {
        add_once(session, 1.0);
    }
}

void TrendsDelta::add_once(const Session& session, double sign) {
    for (std::int64_t j = 0; j < static_cast<std::int64_t>(session.items.size()); ++j) add_last_once(session, j, sign);
}

// What the session's click at `place` adds to those before it.
void TrendsDelta::add_last_once(const Session& session, std::int64_t place, double sign) {
    const auto before = [&](std::int64_t j) {
        return std::count(session.items.begin(), session.items.begin() + j, session.items[at(j)]);
    };
    const std::int64_t repeats = before(place);
    if (repeats >= kMostCounted) return;
    const std::int32_t item = session.items[at(place)];
    double weights[kItemLanes];
    weigh(session.times[at(place)], sign, weights);
    std::int64_t distance = 0;
    for (std::int64_t j = place - 1; repeats == 0 && j >= 0 && distance < settings_.window; --j) {
        if (before(j) == 0) add_pair(session.items[at(j)], item, ++distance, weights);
    }
    add_click(item, place > 0, weights);
    if (shape_.n_columns > 0) add_context(item, session.codes.data() + place * shape_.n_columns, weights[kContextLane]);
}

// Counts a click on an item in what is no sum.
void TrendsDelta::meet(std::int64_t handle, std::int32_t item, std::int64_t time) {
    ++counters_.clicks;
    ItemDelta& row = of(item);
    meet(row, time);
    if (row.sessions.empty() || row.sessions.back() != handle) row.sessions.push_back(handle);
    if (!row.active) {
        row.active = true;
        active_.push_back(item);
    }
}

void TrendsDelta::meet(ItemDelta& row, std::int64_t time) {
    row.first = row.first == kNever ? time : std::min(row.first, time);
    row.last = std::max(row.last, time);
}

bool TrendsDelta::forget(std::int64_t handle) {
    const auto found = sessions_.find(handle);
    if (found == sessions_.end()) return false;
    const Session session = std::move(found->second);
    sessions_.erase(found);
    counters_.clicks -= static_cast<std::int64_t>(session.items.size());
    take_out(session);
    return true;
}

void TrendsDelta::forget_in_tables(const TrendsSession& gone, const TrendsView& left, const std::int32_t* ids) {
    std::vector<std::int64_t> order(at(gone.count));
    for (std::int64_t i = 0; i < gone.count; ++i) order[at(i)] = i;
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return gone.times[a] < gone.times[b]; });
    Session session;
    session.once = gone.once;
    for (const std::int64_t i : order) {
        session.items.push_back(gone.items[i]);
        session.times.push_back(gone.times[i]);
        for (std::int64_t c = 0; c < shape_.n_columns; ++c) {
            session.codes.push_back(gone.codes == nullptr ? std::uint16_t{0} : gone.codes[i * shape_.n_columns + c]);
        }
        const std::int32_t* const place = std::lower_bound(ids, ids + left.n_items, gone.items[i]);
        base_.replace(gone.items[i], left, place - ids, ids);
    }
    take_out(session);
}

// What is in no session any more leaves the sums of all items, which keep a rounding error of float64; the rows of its
// items are made again from their sessions, so that nothing is left.
void TrendsDelta::take_out(const Session& session) {
    adds_ = Adds::kAllItems;
    add_session(session, -1.0);
    std::vector<std::int32_t> items = session.items;
    std::sort(items.begin(), items.end());
    items.erase(std::unique(items.begin(), items.end()), items.end());
    std::vector<std::int64_t> handles;
    for (const std::int32_t item : items) {
        ItemDelta& row = of(item);
        n_pairs_ -= static_cast<std::int64_t>(row.neighbors.size());
        n_context_ -= static_cast<std::int64_t>(row.context.size());
        std::sort(row.sessions.begin(), row.sessions.end());
        row.sessions.erase(std::unique(row.sessions.begin(), row.sessions.end()), row.sessions.end());
        std::erase_if(row.sessions, [&](std::int64_t handle) { return !sessions_.contains(handle); });
        handles.insert(handles.end(), row.sessions.begin(), row.sessions.end());
        ItemDelta empty{};
        empty.item = item;
        empty.active = row.active;
        empty.sessions = std::move(row.sessions);
        row = std::move(empty);
        row.renewed = true;
    }
    std::sort(handles.begin(), handles.end());
    handles.erase(std::unique(handles.begin(), handles.end()), handles.end());
    adds_ = Adds::kRenewed;
    for (const std::int64_t handle : handles) {
        const Session& left = sessions_.at(handle);
        add_session(left, 1.0);
        for (std::size_t i = 0; i < left.items.size(); ++i) {
            ItemDelta& row = of(left.items[i]);
            if (row.renewed) meet(row, left.times[i]);
        }
    }
    adds_ = Adds::kAll;
    for (const std::int32_t item : items) {
        of(item).renewed = false;
        narrow(of(item));
    }
    if (session.times.empty() || session.times.back() < newest()) return;
    clock_[kItemLanes] = base_.view().clock[kItemLanes];
    for (const ItemDelta& row : items_) clock_[kItemLanes] = std::max(clock_[kItemLanes], row.last);
}

void TrendsDelta::add_session(const Session& session, double sign) {
    if (session.once) {
        add_once(session, sign);
        return;
    }
    double weights[kItemLanes];
    for (std::int64_t j = 0; j < static_cast<std::int64_t>(session.items.size()); ++j) {
        weigh(session.times[at(j)], sign, weights);
        for (std::int64_t d = 1; d <= std::min(settings_.window, j); ++d) {
            add_pair(session.items[at(j - d)], session.items[at(j)], d, weights);
        }
        add_click(session.items[at(j)], j > 0, weights);
        if (shape_.n_columns > 0) {
            add_context(session.items[at(j)], session.codes.data() + j * shape_.n_columns, weights[kContextLane]);
        }
    }
}

std::int64_t TrendsDelta::n_bytes() const {
    std::int64_t clicks = 0;
    for (const auto& [handle, session] : sessions_) clicks += static_cast<std::int64_t>(session.items.capacity());
    const auto pair = static_cast<std::int64_t>(sizeof(std::int32_t) + kPairSums * sizeof(double));
    return static_cast<std::int64_t>(slots_.capacity() * sizeof(std::int32_t) + items_.capacity() * sizeof(ItemDelta) +
                                     active_.capacity() * sizeof(std::int32_t)) +
           n_pairs_ * pair * 3 / 2 + n_context_ * 15 + clicks * (12 + 2 * shape_.n_columns) + n_sessions() * 96;
}

const std::vector<std::int32_t>& TrendsDelta::active(std::int64_t since, std::size_t most) {
    if (active_.size() > most) {
        const auto gone = std::remove_if(active_.begin(), active_.end(), [&](std::int32_t item) {
            ItemDelta& row = of(item);
            row.active = row.last >= since;
            return !row.active;
        });
        active_.erase(gone, active_.end());
    }
    return active_;
}

ItemDelta& TrendsDelta::of(std::int32_t item) {
    if (item >= static_cast<std::int64_t>(slots_.size())) slots_.resize(at(item) + 1, 0);
    std::int32_t& slot = slots_[at(item)];
    if (slot == 0) {
        items_.emplace_back().item = item;
        slot = static_cast<std::int32_t>(items_.size());
    }
    return items_[at(slot) - 1];
}

void TrendsDelta::weigh(std::int64_t time, double sign, double* weights) const {
    for (int lane = 0; lane < kItemLanes; ++lane) {
        const std::int64_t h = settings_.half_lives.ms[lane];
        weights[lane] = sign * decay_power(time - clock_[lane] * h, h);
    }
}

// Moves the t0 that `time` has left too far behind.
void TrendsDelta::advance(std::int64_t time) {
    clock_[kItemLanes] = std::max(clock_[kItemLanes], time);
    for (int lane = 0; lane < kItemLanes; ++lane) {
        const std::int64_t epoch = floor_div(time, settings_.half_lives.ms[lane]), moved = epoch - clock_[lane];
        if (moved <= kMaxPast) continue;
        clock_[lane] = epoch;
        ++counters_.moves;
        const auto shift = [moved](double& value) {
            value = std::ldexp(value, -static_cast<int>(std::min<std::int64_t>(moved, 4000)));
            if (std::abs(value) < kMinSum) value = 0;
        };
        const auto shift_pairs = [&](double* values) {
            shift(values[lane - kFirstPairLane]);
            shift(values[lane - kFirstPairLane + kPairLanes]);
        };
        shift(sums_[lane]);
        shift(sums_[kItemLanes + lane]);
        if (lane == kContextLane) {
            for (double& total : context_totals_) shift(total);
        }
        for (ItemDelta& row : items_) {
            shift(row.counts[lane]);
            shift(row.counts[kItemLanes + lane]);
            if (lane == kContextLane) {
                for (double& sum : row.context_sums) shift(sum);
            }
            if (lane < kFirstPairLane) continue;
            shift_pairs(row.totals);
            for (std::size_t p = 0; p < row.neighbors.size(); ++p) shift_pairs(row.values.data() + p * kPairSums);
        }
    }
}

void TrendsDelta::add_click(std::int32_t item, bool later, const double* weights) {
    const auto add = [&](double* sums) {
        for (int lane = 0; lane < kItemLanes; ++lane) {
            sums[lane] += weights[lane];
            if (later) sums[kItemLanes + lane] += weights[lane];
        }
    };
    if (adds_ != Adds::kRenewed) add(sums_);
    if (adds_ == Adds::kAllItems) return;
    ItemDelta& row = of(item);
    if (adds_ == Adds::kAll || row.renewed) add(row.counts);
}

void TrendsDelta::add_pair(std::int32_t earlier, std::int32_t later, std::int64_t distance, const double* weights) {
    if (earlier == later) return;
    const double share = 1.0 / static_cast<double>(distance);
    add_term(earlier, later, 0, share, weights);
    add_term(later, earlier, kPairLanes, share, weights);
}

void TrendsDelta::add_term(std::int32_t item, std::int32_t neighbor, int first_lane, double share,
                           const double* weights) {
    if (adds_ == Adds::kAllItems) return;
    ItemDelta& row = of(item);
    if (adds_ == Adds::kRenewed && !row.renewed) return;
    auto count = static_cast<std::int64_t>(row.neighbors.size());
    std::int64_t place = place_of(row.neighbors.data(), count, neighbor);
    if (place == count) {
        if (count >= limits_.row_neighbors) cut(row);
        place = static_cast<std::int64_t>(row.neighbors.size());
        row.neighbors.push_back(neighbor);
        row.values.resize(row.values.size() + kPairSums, 0.0);
        if (row.narrowed) {
            const TrendRow base = base_.row(item);
            const std::int64_t found = place_of(base.neighbors, base.count, neighbor);
            row.places.push_back(found == base.count ? -1 : static_cast<std::int32_t>(found));
        }
        ++n_pairs_;
    }
    double* const value = row.values.data() + place * kPairSums + first_lane;
    double* const total = row.totals + first_lane;
    for (int lane = 0; lane < kPairLanes; ++lane) {
        const double part = share * weights[kFirstPairLane + lane];
        value[lane] += part;
        total[lane] += part;
    }
    if (place >= row.n_read) read_pair(row, place);
}

// A pair that a query does not read yet has a new term: what is strong enough is found again after some of them.
void TrendsDelta::read_pair(ItemDelta& row, std::int64_t place) {
    constexpr std::int64_t kChangeShare = 32;  // of the pairs that there are, or that are read
    const std::int64_t to = row.n_read++;
    if (to != place) {
        std::swap(row.neighbors[at(place)], row.neighbors[at(to)]);
        std::swap_ranges(row.values.begin() + place * kPairSums, row.values.begin() + (place + 1) * kPairSums,
                         row.values.begin() + to * kPairSums);
        if (row.narrowed) std::swap(row.places[at(place)], row.places[at(to)]);
    }
    if (row.narrowed && row.places[at(to)] >= 0) {
        const std::int32_t in_base = row.places[at(to)];
        const bool is_read = std::any_of(row.base_runs.begin(), row.base_runs.end(), [&](const auto& run) {
            return run.first <= in_base && in_base < run.second;
        });
        if (!is_read) row.base_runs.emplace_back(in_base, in_base + 1);
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
    const std::int64_t most = settings_.max_neighbors;
    if (most == 0 || (!row.narrowed && base.count + count <= most)) return;
    double to_now[kPairLanes], to_epoch[kPairSums], totals[kPairSums];
    for (int lane = 0; lane < kPairLanes; ++lane) {
        const int of = kFirstPairLane + lane;
        const std::int64_t h = settings_.half_lives.ms[of];
        to_now[lane] = decay_power(clock_[of] * h - newest(), h);
        to_epoch[lane] = to_epoch[kPairLanes + lane] = decay_power((base_.view().clock[of] - clock_[of]) * h, h);
    }
    for (int k = 0; k < kPairSums; ++k) {
        totals[k] = row.totals[k] + (base.totals == nullptr ? 0.0 : static_cast<double>(base.totals[k]) * to_epoch[k]);
    }
    const auto add_base = [&](std::int64_t place, double* sums) {
        for (int k = 0; k < kPairSums; ++k) {
            sums[k] += static_cast<double>(widened(base.values[place * kPairSums + k])) * to_epoch[k];
        }
    };
    struct Ranked {
        double strength;
        std::int32_t neighbor;
        std::int64_t at;  // among these pairs, or -1 - the place of one that the tables alone have
    };
    std::vector<Ranked> ranked;
    ranked.reserve(at(count + base.count));
    base_places_.resize(std::max(base_places_.size(), at(limits_.capacity)), 0);
    for (std::int64_t p = 0; p < base.count; ++p) base_places_[at(base.neighbors[p])] = static_cast<std::int32_t>(p + 1);
    row.places.resize(at(count));
    std::vector<std::uint8_t> marks(at(base.count), 0);  // places that these pairs have too
    for (std::int64_t i = 0; i < count; ++i) {
        double sums[kPairSums];
        std::copy_n(row.values.data() + i * kPairSums, kPairSums, sums);
        const std::int32_t place = row.places[at(i)] = base_places_[at(row.neighbors[at(i)])] - 1;
        if (place >= 0) {
            marks[at(place)] = 1;
            add_base(place, sums);
        }
        ranked.push_back({pair_strength(sums, totals, to_now), row.neighbors[at(i)], i});
    }
    for (std::int64_t p = 0; p < base.count; ++p) {
        base_places_[at(base.neighbors[p])] = 0;
        if (marks[at(p)] != 0) continue;
        double sums[kPairSums] = {};
        add_base(p, sums);
        ranked.push_back({pair_strength(sums, totals, to_now), base.neighbors[p], -1 - p});
    }
    const auto kept = std::min(at(most), ranked.size());
    if (kept < ranked.size()) {
        std::nth_element(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(kept), ranked.end(), [](const Ranked& x, const Ranked& y) {
            return x.strength != y.strength ? x.strength > y.strength : x.neighbor < y.neighbor;
        });
    }
    std::fill(marks.begin(), marks.end(), 0);  // from here on: places that are read
    std::vector<std::uint8_t> read(at(count), 0);
    for (std::size_t i = 0; i < kept; ++i) {
        const std::int64_t place = ranked[i].at >= 0 ? row.places[at(ranked[i].at)] : -1 - ranked[i].at;
        if (ranked[i].at >= 0) read[at(ranked[i].at)] = 1;
        if (place >= 0) marks[at(place)] = 1;
    }
    std::vector<std::int32_t> neighbors, places;
    std::vector<double> values;
    neighbors.reserve(row.neighbors.capacity());
    values.reserve(row.values.capacity());
    for (const std::uint8_t now : {std::uint8_t{1}, std::uint8_t{0}}) {
        for (std::int64_t i = 0; i < count; ++i) {
            if (read[at(i)] != now) continue;
            neighbors.push_back(row.neighbors[at(i)]);
            places.push_back(row.places[at(i)]);
            values.insert(values.end(), row.values.begin() + i * kPairSums, row.values.begin() + (i + 1) * kPairSums);
        }
        if (now == 1) row.n_read = static_cast<std::int64_t>(neighbors.size());
    }
    row.neighbors = std::move(neighbors);
    row.places = std::move(places);
    row.values = std::move(values);
    row.narrowed = true;
    row.base_runs.clear();
    for (std::int32_t place = 0; place < base.count; ++place) {
        if (marks[at(place)] == 0) continue;
        if (row.base_runs.empty() || row.base_runs.back().second != place) row.base_runs.emplace_back(place, place);
        row.base_runs.back().second = place + 1;
    }
}

void TrendsDelta::add_context(std::int32_t item, const std::uint16_t* codes, double weight) {
    ItemDelta& row = of(item);
    const bool to_all = adds_ != Adds::kRenewed, to_row = adds_ == Adds::kAll || (adds_ == Adds::kRenewed && row.renewed);
    for (std::int64_t c = 0; c < shape_.n_columns; ++c) {
        const std::int64_t value = shape_.value_of(c, codes[c]);
        if (value < 0) continue;
        if (to_all) context_totals_[at(value)] += weight;
        if (!to_row) continue;
        const auto found = std::find(row.context.begin(), row.context.end(), static_cast<std::uint16_t>(value));
        if (found != row.context.end()) {
            row.context_sums[at(found - row.context.begin())] += weight;
            continue;
        }
        if (row.context.size() >= kContextRow) cut_context(row);
        row.context.push_back(static_cast<std::uint16_t>(value));
        row.context_sums.push_back(weight);
        ++n_context_;
    }
}

// Keeps the half of an item's values with the most clicks, ties by the lower value.
void TrendsDelta::cut_context(ItemDelta& row) {
    std::vector<std::size_t> order(row.context.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        const double first = std::abs(row.context_sums[a]), second = std::abs(row.context_sums[b]);
        return first != second ? first > second : row.context[a] < row.context[b];
    });
    order.resize(order.size() / 2);
    std::vector<std::uint16_t> values;
    std::vector<double> sums;
    for (const std::size_t i : order) {
        values.push_back(row.context[i]);
        sums.push_back(row.context_sums[i]);
    }
    n_context_ -= static_cast<std::int64_t>(row.context.size() - values.size());
    row.context = std::move(values);
    row.context_sums = std::move(sums);
}

// Keeps the strongest half of a row.
void TrendsDelta::cut(ItemDelta& row) {
    double to_now[kPairLanes];
    for (int lane = 0; lane < kPairLanes; ++lane) {
        const std::int64_t h = settings_.half_lives.ms[kFirstPairLane + lane];
        to_now[lane] = decay_power(clock_[kFirstPairLane + lane] * h - newest(), h);
    }
    const std::size_t count = row.neighbors.size(), kept = std::max<std::size_t>(count / 2, 1);
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
    std::vector<std::int32_t> neighbors(kept);
    std::vector<double> values(kept * kPairSums);
    for (std::size_t i = 0; i < kept; ++i) {
        neighbors[i] = row.neighbors[order[i]];
        std::copy_n(row.values.data() + order[i] * kPairSums, kPairSums, values.data() + i * kPairSums);
    }
    row.neighbors = std::move(neighbors);
    row.values = std::move(values);
    row.n_read = static_cast<std::int64_t>(kept);
    narrow(row);
    counters_.cut += static_cast<std::int64_t>(count - kept);
    n_pairs_ -= static_cast<std::int64_t>(count - kept);
}

}  // namespace mtaw
