// The events of a delta, and what each changes.
#include "memory/delta.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>

#include "memory/build.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kEventsPerLock = 32;  // which queries wait for
constexpr double kMaxPrior = 1e30;           // its sums stay within float32

}  // namespace

MemoryDelta::MemoryDelta(const MemoryView& base, const MemorySettings& settings, std::int64_t n_catalog,
                         std::int64_t max_clicks)
    : base_(base, settings), aging_(settings.recency), max_clicks_(max_clicks) {
    check_settings(settings);
    if (n_catalog < base.n_items || n_catalog > std::numeric_limits<std::int32_t>::max()) {
        throw std::invalid_argument("a delta over " + std::to_string(base.n_items) +
                                    " items cannot have capacity for " + std::to_string(n_catalog) +
                                    ": give a capacity of 0 or more, 2147483647 items in all");
    }
    if (max_clicks < 1) throw std::invalid_argument("max_clicks must be at least 1, not " + std::to_string(max_clicks));
    by_item_.assign(static_cast<std::size_t>(n_catalog), {0.0F, 0});
    for (std::int64_t i = 0; i < base.n_items; ++i)
        by_item_[static_cast<std::size_t>(i)].ses = base.totals[i * kPairKinds + kSes];
    touched_.assign(static_cast<std::size_t>(n_catalog >> 6) + 1, 0);
}

void MemoryDelta::click(const std::int64_t* handles, const std::int32_t* items, std::int64_t n_events) {
    for (std::int64_t e = 0; e < n_events; ++e) check_item(items[e]);
    for (std::int64_t begin = 0; begin < n_events; begin += kEventsPerLock) {
        if (begin > 0) std::this_thread::yield();
        const ChangeLock::Write lock(change_lock_);
        for (std::int64_t e = begin; e < std::min(begin + kEventsPerLock, n_events); ++e) {
            std::int32_t slot = sessions_.find(handles[e]);
            if (slot < 0) slot = sessions_.add(handles[e]);
            if (static_cast<std::int64_t>(sessions_.at(slot).clicks.size()) >= max_clicks_) {
                ++ignored_;
            } else {
                append(slot, items[e]);
            }
        }
    }
}

void MemoryDelta::resume(std::int64_t handle, std::int64_t base_session) {
    check_base_session(base_session);
    const ChangeLock::Write lock(change_lock_);
    if (sessions_.find(handle) >= 0) {
        throw std::invalid_argument("session " + std::to_string(handle) +
                                    " has clicks already: resume it before its first");
    }
    if (base_.is_dropped(base_session)) {
        throw std::out_of_range("session " + std::to_string(base_session) +
                                " of the tables is gone: it was forgotten or resumed");
    }
    drop_base(base_.prepare_removal(base_session));
    const std::int32_t slot = sessions_.add(handle);
    const MemoryView& tables = base_.tables();
    for (std::int64_t t = tables.session_offsets[base_session]; t < tables.session_offsets[base_session + 1]; ++t) {
        append(slot, tables.session_items[t]);
    }
}

bool MemoryDelta::forget(std::int64_t handle) {
    const ChangeLock::Write lock(change_lock_);
    const std::int32_t slot = sessions_.find(handle);
    if (slot >= 0) remove(slot);
    return slot >= 0;
}

bool MemoryDelta::forget_base(std::int64_t base_session) {
    check_base_session(base_session);
    while (true) {
        BaseRows::SessionRemoval dropped;
        {
            const ReadLock lock = read();  // rows of popular items take long; queries go on
            if (base_.is_dropped(base_session)) return false;
            dropped = base_.prepare_removal(base_session);
        }
        const ChangeLock::Write lock(change_lock_);
        if (base_.n_dropped() != dropped.n_dropped) continue;  // another thread was faster
        drop_base(dropped);
        return true;
    }
}

void MemoryDelta::add_prior(std::int32_t item, std::int32_t neighbor, const double* values) {
    check_item(item);
    check_item(neighbor);
    if (item == neighbor) throw std::invalid_argument("item " + std::to_string(item) + " is no neighbor of its own");
    for (int kind = 0; kind < kPairKinds; ++kind) {
        if (!(values[kind] >= 0 && values[kind] <= kMaxPrior)) {
            throw std::invalid_argument("the values of a prior must be in 0..1e30");
        }
    }
    const ChangeLock::Write lock(change_lock_);
    DeltaRow& row = row_at(item);
    DeltaPrior prior{neighbor, {}};
    std::copy_n(values, kPairKinds, prior.values);
    row.make_rare().priors.push_back(prior);
    row.add_prior(row.pair_with(neighbor, base_), values);
    maintain(row);
}

DeltaRow& MemoryDelta::row_at(std::int32_t item) {
    const auto index = static_cast<std::size_t>(item);
    if (by_item_[index].row_plus_one == 0) {
        rows_.emplace_back(item, &counts_.add(), &by_item_[index].ses);
        by_item_[index].row_plus_one = static_cast<std::int32_t>(rows_.size());
        touched_[index >> 6] |= std::uint64_t{1} << (index & 63);
        init_row(rows_.back());
    }
    return rows_[static_cast<std::size_t>(by_item_[index].row_plus_one) - 1];
}

void MemoryDelta::append(std::int32_t slot, std::int32_t item) {
    const std::int32_t previous_stamp = sessions_.stamp(slot);
    const bool is_new = sessions_.append(slot, item);
    const std::int32_t new_stamp = sessions_.stamp(slot);
    const DeltaSessions::Session& session = sessions_.at(slot);
    const auto t = static_cast<std::int64_t>(session.clicks.size()) - 1;
    DeltaRow& row = row_at(item);
    ++row.counts->clicks;
    if (is_new) {
        ++row.counts->sessions;
        row.postings.push_back(slot);
    } else {
        ++row.counts->repeated_later;
        row.counts->repeated_at_once += session.clicks[static_cast<std::size_t>(t) - 1] == item ? 1 : 0;
    }
    for (const std::int32_t position : session.firsts) {
        DeltaRow& session_row = row_at(session.clicks[static_cast<std::size_t>(position)]);
        session_row.counts->update_newest(previous_stamp, new_stamp);
        session_row.move_to_end(slot);
        if (!is_new || session_row.item != item) mark_followed(session_row, slot, is_new);
    }
    add_terms(slot, item, is_new, t);
    if (++n_events_ % kEventsPerLock == 0) rank_rows();
    if (sessions_.is_sparse()) {
        sessions_.compress([&](const auto& renew) {
            for (DeltaRow& each_row : rows_) {
                each_row.fold_mark = renew(each_row.fold_mark);
                if (each_row.merged == nullptr) continue;
                each_row.merged->newest = renew(each_row.merged->newest);
                const auto base_sessions = static_cast<std::int32_t>(base_.tables().n_sessions);
                for (std::int32_t& latest : each_row.merged->latest) {
                    if (latest >= base_sessions) latest = base_sessions + renew(latest - base_sessions);
                }
            }
            counts_.each([&](DeltaCounts& counts) {
                for (std::int32_t* const stamp : {&counts.newest, &counts.before_newest}) {
                    if (*stamp >= 0) *stamp = renew(*stamp);
                }
            });
        });
    }
}

// The terms of the session's click t with those before it.
void MemoryDelta::add_terms(std::int32_t slot, std::int32_t item, bool is_new, std::int64_t t) {
    const DeltaSessions::Session& session = sessions_.at(slot);
    const MemorySettings& settings = base_.settings();
    DeltaRow& row = row_at(item);
    paired_items_.clear();
    const auto add = [&](std::int64_t j, std::int32_t distance, bool same) {
        const std::int32_t other = session.clicks[static_cast<std::size_t>(j)];
        DeltaRow& other_row = row_at(other);
        row.add_term({row.pair_with(other, base_), slot, -distance, same});
        other_row.add_term({other_row.pair_with(item, base_), slot, distance, same});
        for (const DeltaRow* const merged_row : {&row, &other_row}) {
            if (merged_row->merged != nullptr && same) merged_row->merged->aa += sessions_.share(slot);
        }
        paired_items_.push_back(other);
    };
    const auto touch_all = [&] {
        for (const std::int32_t other : paired_items_) maintain(row_at(other));
        maintain(row);
    };
    auto first = static_cast<std::int64_t>(session.firsts.size()) - (is_new ? 2 : 1);
    const auto is_first = [&](std::int64_t j) {
        while (first >= 0 && session.firsts[static_cast<std::size_t>(first)] > j) --first;
        return first >= 0 && session.firsts[static_cast<std::size_t>(first)] == j;
    };
    if (once()) {
        for (std::int64_t distance = 1; is_new && first >= 0; --first, ++distance) {
            const std::int64_t j = session.firsts[static_cast<std::size_t>(first)];
            const bool is_near = distance <= settings.window, same = t - j <= settings.span;
            if (!is_near && !same) break;
            add(j, is_near ? static_cast<std::int32_t>(distance) : 0, same);
        }
        touch_all();
        return;
    }
    const std::int64_t near_from = std::max<std::int64_t>(0, t - settings.window);
    for (std::int64_t j = t - 1; j >= near_from; --j) {
        if (session.clicks[static_cast<std::size_t>(j)] == item) continue;
        add(j, static_cast<std::int32_t>(t - j), is_new && is_first(j) && t - j <= settings.span);
    }
    if (is_new) {
        while (first >= 0 && session.firsts[static_cast<std::size_t>(first)] >= near_from) --first;
        for (; first >= 0 && t - session.firsts[static_cast<std::size_t>(first)] <= settings.span; --first) {
            add(session.firsts[static_cast<std::size_t>(first)], 0, true);
        }
    }
    touch_all();
}

void MemoryDelta::remove(std::int32_t slot) {
    const DeltaSessions::Session& session = sessions_.at(slot);
    std::vector<std::int32_t> items;
    for (const std::int32_t position : session.firsts)
        items.push_back(session.clicks[static_cast<std::size_t>(position)]);
    for (const std::int32_t item : items) remove_session(row_at(item), slot);
    sessions_.remove(slot);
    for (const std::int32_t item : items) {
        DeltaRow& row = row_at(item);
        row.may_enter_strong = true;
        maintain(row);
    }
}

void MemoryDelta::remove_session(DeltaRow& row, std::int32_t slot) {
    const ShortArray<std::int32_t>& clicks = sessions_.at(slot).clicks;
    std::int64_t previous_click = -1;
    for (std::int64_t t = 0; t < static_cast<std::int64_t>(clicks.size()); ++t) {
        if (clicks[static_cast<std::size_t>(t)] != row.item) continue;
        --row.counts->clicks;
        row.counts->repeated_later -= previous_click >= 0 ? 1 : 0;
        row.counts->repeated_at_once -= previous_click >= 0 && previous_click == t - 1 ? 1 : 0;
        previous_click = t;
    }
    --row.counts->sessions;
    row.postings.remove(slot);
    const auto stamp_from_end = [&](std::size_t back) {
        return row.postings.size() < back ? -1 : sessions_.stamp(row.postings[row.postings.size() - back]);
    };
    row.counts->newest = stamp_from_end(1);
    row.counts->before_newest = stamp_from_end(2);
    struct RemainingTerm {
        std::int32_t neighbor;
        DeltaTerm term;
    };
    std::vector<RemainingTerm> remaining;
    for (const DeltaTerm& term : row.terms) {
        if (term.session != slot) remaining.push_back({row.pairs[static_cast<std::size_t>(term.pair)].neighbor, term});
    }
    // Sums the remaining terms again, so that no rounding error is left.
    row.clear_pairs();
    init_row(row);
    if (row.rare != nullptr) {
        for (const DeltaPrior& prior : row.rare->priors)
            row.add_prior(row.pair_with(prior.neighbor, base_), prior.values);
    }
    for (RemainingTerm& entry : remaining) {
        entry.term.pair = row.pair_with(entry.neighbor, base_);
        row.add_term(entry.term);
    }
}

void MemoryDelta::drop_base(const BaseRows::SessionRemoval& dropped) {
    base_.drop(dropped);
    for (const auto& [item, patch] : dropped.patches) {
        if (find(item) == nullptr) {
            by_item_[static_cast<std::size_t>(item)].ses = base_.row(item).totals[kSes];
            continue;
        }
        DeltaRow& row = row_at(item);
        init_row(row);
        for (DeltaPair& pair : row.pairs) {
            row.set_weak(pair, false);
            row.link(pair, base_);
        }
        row.merged.reset();
        row.strong.clear();
        mark_strong(row);
        row.cut_terms = 0;
        row.may_enter_strong = true;
        maintain(row);
    }
}

void MemoryDelta::check_item(std::int32_t item) const {
    if (item >= 0 && item < n_catalog()) return;
    throw std::out_of_range("item " + std::to_string(item) + " is outside 0.." + std::to_string(n_catalog() - 1) +
                            ", the items that this delta has capacity for");
}

void MemoryDelta::check_base_session(std::int64_t session) const {
    if (session >= 0 && session < base_.tables().n_sessions) return;
    throw std::out_of_range("session " + std::to_string(session) + " is outside 0.." +
                            std::to_string(base_.tables().n_sessions - 1) + ", those of the tables");
}

}  // namespace mtaw
