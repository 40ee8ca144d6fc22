// Sessions since the tables were built: their clicks come, late ones too, and go.
#include "trends/delta.hpp"

#include <algorithm>
#include <cstddef>

namespace mtaw {

TrendsDelta::TrendsDelta(const TrendSettings& settings, const TrendLimits& limits, const TrendsView& base)
    : base_(base),
      settings_(settings),
      limits_(limits),
      shape_(base.context.shape),
      context_totals_(index(base.context.shape.n_values()), 0.0) {
    std::copy(base.clock, base.clock + kItemLanes + 1, clock_);
}

void TrendsDelta::click(std::int64_t handle, std::int32_t item, std::int64_t time, std::int64_t arrival,
                        const std::uint16_t* codes) {
    const std::int64_t latest = std::min(arrival, kMaxTime - limits_.ahead) + limits_.ahead;
    if (time > latest || time < 0) {
        time = std::clamp<std::int64_t>(time, 0, std::max<std::int64_t>(latest, 0));
        ++counters_.clamped;
    }
    advance_clock(time);
    const auto [found, is_new] = sessions_.try_emplace(handle);
    Session& session = found->second;
    if (is_new) session.once = limits_.once;
    const auto count = static_cast<std::int64_t>(session.items.size());
    std::int64_t position = count;
    while (position > std::max<std::int64_t>(0, count - kLateClicks) && session.times[index(position) - 1] > time)
        --position;
    if (position > 0) time = std::max(time, session.times[index(position) - 1]);  // one that is later than the bound
    const std::int64_t window = settings_.window;
    double weights[kItemLanes];
    // The clicks on both sides of a late one are one further apart from now on.
    const auto add_straddling = [&](double sign, std::int64_t gap) {
        for (std::int64_t j = position + gap;
             j < std::min(position + gap + window, static_cast<std::int64_t>(session.items.size())); ++j) {
            compute_weights(session.times[index(j)], sign, weights);
            for (std::int64_t i = std::max<std::int64_t>(0, j - window); i < position; ++i) {
                add_pair(session.items[index(i)], session.items[index(j)], j - i, weights);
            }
        }
    };
    if (position < count) ++counters_.late;
    if (session.once) {
        insert_once(session, position, item, time, codes);
        count_click(handle, item, time);
        return;
    }
    if (position < count) {
        add_straddling(-1.0, 0);
        if (position == 0) {  // what was the first click is none any more
            compute_weights(session.times[0], 1.0, weights);
            ItemDelta& first = delta_of(session.items[0]);
            for (int lane = 0; lane < kItemLanes; ++lane) {
                first.counts[kItemLanes + lane] += weights[lane];
                sums_[kItemLanes + lane] += weights[lane];
            }
        }
    }
    insert(session, position, item, time, codes);
    if (position < count) {
        add_straddling(1.0, 1);
        for (std::int64_t j = position + 1; j <= std::min(position + window, count); ++j) {
            compute_weights(session.times[index(j)], 1.0, weights);
            add_pair(item, session.items[index(j)], j - position, weights);
        }
    }
    compute_weights(time, 1.0, weights);
    for (std::int64_t d = 1; d <= std::min(window, position); ++d) {
        add_pair(session.items[index(position - d)], item, d, weights);
    }
    add_click(item, position > 0, weights);
    if (codes != nullptr) add_context(item, codes, weights[kContextLane]);
    count_click(handle, item, time);
}

void TrendsDelta::insert(Session& session, std::int64_t position, std::int32_t item, std::int64_t time,
                         const std::uint16_t* codes) const {
    session.items.insert(session.items.begin() + position, item);
    session.times.insert(session.times.begin() + position, time);
    if (shape_.n_columns > 0) {
        const auto where = session.codes.begin() + position * shape_.n_columns;
        if (codes != nullptr) {
            session.codes.insert(where, codes, codes + shape_.n_columns);
        } else {
            session.codes.insert(where, index(shape_.n_columns), std::uint16_t{0});
        }
    }
}

// Inserts a click into a session that counts an item once.
void TrendsDelta::insert_once(Session& session, std::int64_t position, std::int32_t item, std::int64_t time,
                              const std::uint16_t* codes) {
    const auto count = static_cast<std::int64_t>(session.items.size());
    const bool is_last = position == count;
    if (!is_last) add_session_once(session, -1.0);  // another click may be the first on the item now
    insert(session, position, item, time, codes);
    if (is_last) {
        add_click_once(session, position, 1.0);
    } else {
        add_session_once(session, 1.0);
    }
}

void TrendsDelta::add_session_once(const Session& session, double sign) {
    for (std::int64_t j = 0; j < static_cast<std::int64_t>(session.items.size()); ++j) add_click_once(session, j, sign);
}

// What the session's click at `position` adds to those before it.
void TrendsDelta::add_click_once(const Session& session, std::int64_t position, double sign) {
    const auto before = [&](std::int64_t j) {
        return std::count(session.items.begin(), session.items.begin() + j, session.items[index(j)]);
    };
    const std::int64_t repeats = before(position);
    if (repeats >= kMaxCounted) return;
    const std::int32_t item = session.items[index(position)];
    double weights[kItemLanes];
    compute_weights(session.times[index(position)], sign, weights);
    std::int64_t distance = 0;
    for (std::int64_t j = position - 1; repeats == 0 && j >= 0 && distance < settings_.window; --j) {
        if (before(j) == 0) add_pair(session.items[index(j)], item, ++distance, weights);
    }
    add_click(item, position > 0, weights);
    if (shape_.n_columns > 0)
        add_context(item, session.codes.data() + position * shape_.n_columns, weights[kContextLane]);
}

// Counts a click on an item in what is no sum.
void TrendsDelta::count_click(std::int64_t handle, std::int32_t item, std::int64_t time) {
    ++counters_.clicks;
    ItemDelta& row = delta_of(item);
    update_times(row, time);
    if (row.sessions.empty() || row.sessions.back() != handle) row.sessions.push_back(handle);
    if (!row.active) {
        row.active = true;
        active_.push_back(item);
    }
}

void TrendsDelta::update_times(ItemDelta& row, std::int64_t time) {
    row.first = row.first == kNever ? time : std::min(row.first, time);
    row.last = std::max(row.last, time);
}

bool TrendsDelta::forget(std::int64_t handle) {
    const auto found = sessions_.find(handle);
    if (found == sessions_.end()) return false;
    const Session session = std::move(found->second);
    sessions_.erase(found);
    counters_.clicks -= static_cast<std::int64_t>(session.items.size());
    remove_session(session);
    return true;
}

void TrendsDelta::forget_in_tables(const TrendsSession& removed, const TrendsView& remaining, const std::int32_t* ids) {
    std::vector<std::int64_t> order(index(removed.count));
    for (std::int64_t i = 0; i < removed.count; ++i) order[index(i)] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return removed.times[a] < removed.times[b]; });
    Session session;
    session.once = removed.once;
    for (const std::int64_t i : order) {
        session.items.push_back(removed.items[i]);
        session.times.push_back(removed.times[i]);
        for (std::int64_t c = 0; c < shape_.n_columns; ++c) {
            session.codes.push_back(removed.codes == nullptr ? std::uint16_t{0}
                                                             : removed.codes[i * shape_.n_columns + c]);
        }
        const std::int32_t* const found = std::lower_bound(ids, ids + remaining.n_items, removed.items[i]);
        base_.replace(removed.items[i], remaining, found - ids, ids);
    }
    remove_session(session);
}

// What is in no session any more leaves the sums of all items, which keep a rounding error of float64; the rows of its
// items are made again from their sessions, so that nothing is left.
void TrendsDelta::remove_session(const Session& session) {
    add_scope_ = AddScope::kTotals;
    add_session(session, -1.0);
    std::vector<std::int32_t> items = session.items;
    std::sort(items.begin(), items.end());
    items.erase(std::unique(items.begin(), items.end()), items.end());
    std::vector<std::int64_t> handles;
    for (const std::int32_t item : items) {
        ItemDelta& row = delta_of(item);
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
        row.is_rebuilt = true;
    }
    std::sort(handles.begin(), handles.end());
    handles.erase(std::unique(handles.begin(), handles.end()), handles.end());
    add_scope_ = AddScope::kRebuiltRows;
    for (const std::int64_t handle : handles) {
        const Session& remaining = sessions_.at(handle);
        add_session(remaining, 1.0);
        for (std::size_t i = 0; i < remaining.items.size(); ++i) {
            ItemDelta& row = delta_of(remaining.items[i]);
            if (row.is_rebuilt) update_times(row, remaining.times[i]);
        }
    }
    add_scope_ = AddScope::kEverything;
    for (const std::int32_t item : items) {
        delta_of(item).is_rebuilt = false;
        narrow(delta_of(item));
    }
    if (session.times.empty() || session.times.back() < newest()) return;
    clock_[kItemLanes] = base_.view().clock[kItemLanes];
    for (const ItemDelta& row : items_) clock_[kItemLanes] = std::max(clock_[kItemLanes], row.last);
}

void TrendsDelta::add_session(const Session& session, double sign) {
    if (session.once) {
        add_session_once(session, sign);
        return;
    }
    double weights[kItemLanes];
    for (std::int64_t j = 0; j < static_cast<std::int64_t>(session.items.size()); ++j) {
        compute_weights(session.times[index(j)], sign, weights);
        for (std::int64_t d = 1; d <= std::min(settings_.window, j); ++d) {
            add_pair(session.items[index(j - d)], session.items[index(j)], d, weights);
        }
        add_click(session.items[index(j)], j > 0, weights);
        if (shape_.n_columns > 0) {
            add_context(session.items[index(j)], session.codes.data() + j * shape_.n_columns, weights[kContextLane]);
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

const std::vector<std::int32_t>& TrendsDelta::active(std::int64_t since, std::size_t max_active) {
    if (active_.size() > max_active) {
        const auto removed = std::remove_if(active_.begin(), active_.end(), [&](std::int32_t item) {
            ItemDelta& row = delta_of(item);
            row.active = row.last >= since;
            return !row.active;
        });
        active_.erase(removed, active_.end());
    }
    return active_;
}

ItemDelta& TrendsDelta::delta_of(std::int32_t item) {
    if (item >= static_cast<std::int64_t>(slots_.size())) slots_.resize(index(item) + 1, 0);
    std::int32_t& slot = slots_[index(item)];
    if (slot == 0) {
        items_.emplace_back().item = item;
        slot = static_cast<std::int32_t>(items_.size());
    }
    return items_[index(slot) - 1];
}

}  // namespace mtaw
