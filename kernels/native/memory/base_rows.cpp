#include "memory/base_rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "memory/tables.hpp"
#include "memory/pair_terms.hpp"
#include "memory/build.hpp"

namespace mtaw {
BaseRows::BaseRows(const MemoryView& view, const MemorySettings& settings) : view_(view), settings_(settings) {}

BaseRows::SessionRemoval BaseRows::prepare_removal(std::int64_t session) const {
    const std::int32_t* const clicks = view_.session_items + view_.session_offsets[session];
    const std::int64_t n_clicks = view_.session_offsets[session + 1] - view_.session_offsets[session];
    std::vector<std::int32_t> items(clicks, clicks + n_clicks);
    std::sort(items.begin(), items.end());
    items.erase(std::unique(items.begin(), items.end()), items.end());
    const std::vector<std::vector<std::int32_t>> remaining = sessions_with(items, session);
    SessionRemoval removal{session, n_dropped_, {}};
    for (std::size_t i = 0; i < items.size(); ++i) {
        const std::int32_t item = items[i];
        auto patch = std::make_shared<Patch>();
        std::copy_n(counts(item), kCountKinds, patch->counts);
        std::int64_t previous_click = -1;
        for (std::int64_t t = 0; t < n_clicks; ++t) {
            if (clicks[t] != item) continue;
            --patch->counts[kClicks];
            patch->counts[kRepeatedLater] -= previous_click >= 0 ? 1 : 0;
            patch->counts[kRepeatedAtOnce] -= previous_click >= 0 && previous_click == t - 1 ? 1 : 0;
            previous_click = t;
        }
        --patch->counts[kSessions];
        patch->counts[kNewest] = remaining[i].empty() ? -1 : remaining[i].back();
        sum_row(item, remaining[i], session, *patch);
        removal.patches.emplace_back(item, std::move(patch));
    }
    return removal;
}

void BaseRows::drop(const SessionRemoval& dropped) {
    const std::int64_t session = dropped.session;
    if (dropped_.empty()) {
        dropped_.assign(word(view_.n_sessions) + 1, 0);
        dropped_before_word_.assign(dropped_.size(), 0);
    }
    dropped_[word(session)] |= std::uint64_t{1} << (session & 63);
    for (std::size_t w = word(session) + 1; w < dropped_before_word_.size(); ++w) ++dropped_before_word_[w];
    ++n_dropped_;
    for (const auto& [item, patch] : dropped.patches) patches_[item] = patch;
}

std::vector<std::vector<std::int32_t>> BaseRows::sessions_with(const std::vector<std::int32_t>& items,
                                                               std::int64_t excluded_session) const {
    std::vector<std::vector<std::int32_t>> found(items.size());
    std::vector<std::uint32_t> entry_of_item;  // 1 + index in `items`, if the postings lack some of its sessions
    for (std::size_t i = 0; i < items.size(); ++i) {
        const std::int32_t item = items[i];
        const std::int64_t begin = view_.post_offsets[item], end = view_.post_offsets[item + 1];
        if (end - begin < view_.counts[item * kCountKinds + kSessions]) {
            entry_of_item.resize(static_cast<std::size_t>(view_.n_items), 0);
            entry_of_item[static_cast<std::size_t>(item)] = static_cast<std::uint32_t>(i + 1);
            continue;
        }
        for (std::int64_t p = begin; p < end; ++p) {
            if (view_.postings[p] != excluded_session && !is_dropped(view_.postings[p])) {
                found[i].push_back(view_.postings[p]);
            }
        }
    }
    for (std::int64_t s = 0; !entry_of_item.empty() && s < view_.n_sessions; ++s) {
        if (s == excluded_session || is_dropped(s)) continue;
        for (std::int64_t t = view_.session_offsets[s]; t < view_.session_offsets[s + 1]; ++t) {
            const std::uint32_t entry = entry_of_item[static_cast<std::size_t>(view_.session_items[t])];
            if (entry == 0) continue;
            std::vector<std::int32_t>& sessions = found[entry - 1];
            if (sessions.empty() || sessions.back() != s) sessions.push_back(static_cast<std::int32_t>(s));
        }
    }
    return found;
}

void BaseRows::sum_row(std::int32_t item, const std::vector<std::int32_t>& sessions, std::int64_t excluded_session,
                       Patch& out) const {
    std::vector<PairSums> pairs;
    std::unordered_map<std::int32_t, std::size_t> pair_index;
    const auto number_after = [&](std::int64_t session) {
        return number(session) - (session > excluded_session ? 1 : 0);
    };
    const std::int64_t newest = sessions.empty() ? 0 : number_after(sessions.back());
    for (const std::int32_t session : sessions) {
        const std::int32_t* const clicks = view_.session_items + view_.session_offsets[session];
        const std::int64_t n_clicks = view_.session_offsets[session + 1] - view_.session_offsets[session];
        const std::vector<std::uint8_t> first = first_clicks(clicks, n_clicks);
        const auto distinct = static_cast<std::int32_t>(std::count(first.begin(), first.end(), 1));
        const double recency_weight =
            std::exp(-static_cast<double>(newest - number_after(session)) / settings_.recency);
        const double share = 1.0 / std::max(distinct - 1, 1);
        const auto pair_of = [&](std::int32_t other) -> PairSums& {
            const auto [entry, is_new] = pair_index.try_emplace(other, pairs.size());
            if (is_new) pairs.push_back({{}, other, -1});
            pairs[entry->second].latest = session;
            return pairs[entry->second];
        };
        visit_session(
            item, clicks, n_clicks, first, settings_, settings_.once(session),
            [&](std::int32_t other, std::int64_t distance) { pair_of(other).add_near(distance, recency_weight); },
            [&](std::int32_t other) { pair_of(other).add_same(share); });
    }
    RowRanker ranker;
    const auto n_pairs = static_cast<std::int64_t>(pairs.size());
    const std::int64_t n_kept = settings_.max_neighbors == 0 ? n_pairs : std::min(n_pairs, settings_.max_neighbors);
    out.neighbors.resize(static_cast<std::size_t>(n_kept));
    out.latest.resize(static_cast<std::size_t>(n_kept));
    out.values.resize(static_cast<std::size_t>(n_kept * kPairKinds));
    ranker.write(pairs, n_kept, out.totals, out.neighbors.data(), out.latest.data(), out.values.data());
}

bool BaseRows::sum_pair(std::int32_t item, std::int32_t other, std::int64_t max_sessions, double* sums) const {
    const auto sessions_of = [&](std::int32_t item_id) {
        return view_.post_offsets[item_id + 1] - view_.post_offsets[item_id];
    };
    const std::int32_t rarer_item = sessions_of(item) <= sessions_of(other) ? item : other;
    if (sessions_of(rarer_item) > max_sessions ||
        view_.counts[rarer_item * kCountKinds + kSessions] != sessions_of(rarer_item)) {
        return false;
    }
    PairSums pair{};
    const std::int64_t newest = number(counts(item)[kNewest]);
    const std::int32_t partner = rarer_item == item ? other : item;
    // The partner's postings may lack its oldest sessions: these are read.
    const std::int32_t *with_partner = view_.postings + view_.post_offsets[partner],
                       *const end = view_.postings + view_.post_offsets[partner + 1];
    const std::int32_t first_listed = with_partner == end ? 0 : *with_partner;
    const bool lacks_sessions = end - with_partner < view_.counts[partner * kCountKinds + kSessions];
    for (std::int64_t p = view_.post_offsets[rarer_item]; p < view_.post_offsets[rarer_item + 1]; ++p) {
        const std::int32_t session = view_.postings[p];
        while (with_partner != end && *with_partner < session) ++with_partner;
        const bool is_listed = with_partner != end && *with_partner == session;
        if ((!is_listed && !(lacks_sessions && session < first_listed)) || is_dropped(session)) continue;
        const std::int32_t* const clicks = view_.session_items + view_.session_offsets[session];
        const std::int64_t n_clicks = view_.session_offsets[session + 1] - view_.session_offsets[session];
        if (!is_listed && std::find(clicks, clicks + n_clicks, partner) == clicks + n_clicks) continue;
        const std::vector<std::uint8_t> first = first_clicks(clicks, n_clicks);
        const auto distinct = std::count(first.begin(), first.end(), 1);
        const double recency_weight = std::exp(-static_cast<double>(newest - number(session)) / settings_.recency);
        const double share = 1.0 / static_cast<double>(std::max<std::int64_t>(distinct - 1, 1));
        visit_session(
            item, clicks, n_clicks, first, settings_, settings_.once(session),
            [&](std::int32_t neighbor, std::int64_t distance) {
                if (neighbor == other) {
                    pair.add_near(distance, recency_weight);
                }
            },
            [&](std::int32_t neighbor) {
                if (neighbor == other) {
                    pair.add_same(share);
                }
            });
    }
    std::copy_n(pair.value, kPairKinds, sums);
    return true;
}

std::int64_t BaseRows::n_bytes() const {
    const auto bytes = [](const auto& array) {
        return static_cast<std::int64_t>(array.capacity() * sizeof(*array.data()));
    };
    std::int64_t total = bytes(dropped_) + bytes(dropped_before_word_);
    for (const auto& [item, patch] : patches_) {
        total += static_cast<std::int64_t>(sizeof(Patch)) + 32 + bytes(patch->neighbors) + bytes(patch->latest) +
                 bytes(patch->values);
    }
    return total;
}

}  // namespace mtaw
