#include "memory/base_rows.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

#include "memory/bfloat16.hpp"
#include "memory/pair_terms.hpp"
#include "memory/row_builder.hpp"

namespace mtaw {
namespace {

constexpr double kGone = 0x1p-7;  // of what is taken away: less than that left over is rounding

}  // namespace

BaseRows::BaseRows(const MemoryView& view, const MemorySettings& settings) : view_(view), settings_(settings) {}

std::vector<std::int32_t> BaseRows::drop(std::int64_t session) {
    if (dropped_.empty()) {
        dropped_.assign(word(view_.n_sessions) + 1, 0);
        before_word_.assign(dropped_.size(), 0);
    }
    dropped_[word(session)] |= std::uint64_t{1} << (session & 63);
    for (std::size_t w = word(session) + 1; w < before_word_.size(); ++w) ++before_word_[w];
    ++n_dropped_;
    const std::int32_t* const clicks = view_.session_items + view_.session_offsets[session];
    const std::int64_t m = view_.session_offsets[session + 1] - view_.session_offsets[session];
    std::vector<std::int32_t> items(clicks, clicks + m);
    std::sort(items.begin(), items.end());
    items.erase(std::unique(items.begin(), items.end()), items.end());
    for (const std::int32_t item : items) patch(item, session, clicks, m);
    return items;
}

// A row without what `session` gave to it; the session is marked as dropped already.
void BaseRows::patch(std::int32_t item, std::int64_t session, const std::int32_t* clicks, std::int64_t m) {
    auto made = std::make_unique<Patch>();
    std::copy_n(counts(item), kCountKinds, made->counts);
    std::int32_t before = -1;
    for (std::int64_t t = 0; t < m; ++t) {
        if (clicks[t] != item) continue;
        --made->counts[kClicks];
        made->counts[kRepeatedLater] -= before >= 0 ? 1 : 0;
        made->counts[kRepeatedAtOnce] -= before >= 0 && before == t - 1 ? 1 : 0;
        before = static_cast<std::int32_t>(t);
    }
    --made->counts[kSessions];
    std::vector<std::int32_t> left;
    for (std::int64_t p = view_.post_offsets[item]; p < view_.post_offsets[item + 1]; ++p) {
        if (!is_dropped(view_.postings[p])) left.push_back(view_.postings[p]);
    }
    made->counts[kNewest] = left.empty() ? -1 : left.back();
    // Of more sessions than there are postings the rest is not known: one still had it, at the latest before these.
    const bool all_known = static_cast<std::int64_t>(left.size()) == made->counts[kSessions];
    if (left.empty() && !all_known) made->counts[kNewest] = 0;
    if (all_known) {
        sum_anew(item, left, *made);
    } else {
        take_away(item, session, row(item), *made);
    }
    patches_[item] = std::move(made);
}

void BaseRows::sum_anew(std::int32_t item, const std::vector<std::int32_t>& sessions, Patch& out) const {
    std::vector<PairSums> pairs;
    std::unordered_map<std::int32_t, std::size_t> place;
    const std::int64_t newest = sessions.empty() ? 0 : number(sessions.back());
    for (const std::int32_t s : sessions) {
        const std::int32_t* const clicks = view_.session_items + view_.session_offsets[s];
        const std::int64_t m = view_.session_offsets[s + 1] - view_.session_offsets[s];
        const std::vector<std::uint8_t> first = first_clicks(clicks, m);
        const auto distinct = static_cast<std::int32_t>(std::count(first.begin(), first.end(), 1));
        const double fresh = std::exp(-static_cast<double>(newest - number(s)) / settings_.recency);
        const double share = 1.0 / std::max(distinct - 1, 1);
        const auto pair_of = [&](std::int32_t other) -> PairSums& {
            const auto [at, is_new] = place.try_emplace(other, pairs.size());
            if (is_new) pairs.push_back({{}, other, -1});
            pairs[at->second].latest = s;
            return pairs[at->second];
        };
        visit_session(
            item, clicks, m, first, settings_, settings_.once(s),
            [&](std::int32_t other, std::int64_t distance) { pair_of(other).add_near(distance, fresh); },
            [&](std::int32_t other) { pair_of(other).add_same(share); });
    }
    RowRanker ranker;
    const auto n_pairs = static_cast<std::int64_t>(pairs.size());
    const std::int64_t kept = settings_.max_neighbors == 0 ? n_pairs : std::min(n_pairs, settings_.max_neighbors);
    out.neighbors.resize(static_cast<std::size_t>(kept));
    out.latest.resize(static_cast<std::size_t>(kept));
    out.values.resize(static_cast<std::size_t>(kept * kPairKinds));
    ranker.write(pairs, kept, out.totals, out.neighbors.data(), out.latest.data(), out.values.data());
}

bool BaseRows::sum_pair(std::int32_t item, std::int32_t other, std::int64_t most, double* sums) const {
    const auto sessions_of = [&](std::int32_t one) { return view_.post_offsets[one + 1] - view_.post_offsets[one]; };
    const std::int32_t rarer = sessions_of(item) <= sessions_of(other) ? item : other;
    // Patched rows have lost more than the sum of what is left shows.
    if (sessions_of(rarer) > most || view_.counts[rarer * kCountKinds + kSessions] != sessions_of(rarer)) return false;
    if (patch_of(item) != nullptr || patch_of(other) != nullptr) return false;
    PairSums pair{};
    const std::int64_t newest = view_.counts[item * kCountKinds + kNewest];
    for (std::int64_t p = view_.post_offsets[rarer]; p < view_.post_offsets[rarer + 1]; ++p) {
        const std::int64_t s = view_.postings[p];
        const std::int32_t* const clicks = view_.session_items + view_.session_offsets[s];
        const std::int64_t m = view_.session_offsets[s + 1] - view_.session_offsets[s];
        const std::int32_t partner = rarer == item ? other : item;
        if (std::find(clicks, clicks + m, partner) == clicks + m) continue;
        const std::vector<std::uint8_t> first = first_clicks(clicks, m);
        const auto distinct = std::count(first.begin(), first.end(), 1);
        const double fresh = std::exp(-static_cast<double>(newest - s) / settings_.recency);
        const double share = 1.0 / static_cast<double>(std::max<std::int64_t>(distinct - 1, 1));
        visit_session(
            item, clicks, m, first, settings_, settings_.once(s),
            [&](std::int32_t met, std::int64_t distance) { if (met == other) pair.add_near(distance, fresh); },
            [&](std::int32_t met) { if (met == other) pair.add_same(share); });
    }
    std::copy_n(pair.value, kPairKinds, sums);
    return true;
}

void BaseRows::take_away(std::int32_t item, std::int64_t session, const RowView& before, Patch& out) const {
    const std::int32_t* const clicks = view_.session_items + view_.session_offsets[session];
    const std::int64_t m = view_.session_offsets[session + 1] - view_.session_offsets[session];
    const std::vector<std::uint8_t> first = first_clicks(clicks, m);
    const auto distinct = static_cast<std::int32_t>(std::count(first.begin(), first.end(), 1));
    const std::int32_t old_newest = counts(item)[kNewest];
    // What is left ages from the row's newest session that is left.
    const double younger =
        std::exp(static_cast<double>(number(old_newest) - number(out.counts[kNewest])) / settings_.recency);
    const double fresh = std::exp(-static_cast<double>(number(old_newest) - number(session)) / settings_.recency);
    const double share = 1.0 / std::max(distinct - 1, 1);
    std::unordered_map<std::int32_t, PairSums> gone;
    const auto pair_of = [&](std::int32_t other) -> PairSums& {
        return gone.try_emplace(other, PairSums{{}, other, -1}).first->second;
    };
    visit_session(
        item, clicks, m, first, settings_, settings_.once(session),
        [&](std::int32_t other, std::int64_t distance) { pair_of(other).add_near(distance, fresh); },
        [&](std::int32_t other) { pair_of(other).add_same(share); });
    double total[kPairKinds] = {};
    for (const auto& [other, pair] : gone) {
        for (int kind = 0; kind < kPairKinds; ++kind) total[kind] += pair.value[kind];
    }
    const auto left_of = [&](double had, double taken, int kind) {
        const double left = had - taken;
        return left <= taken * kGone ? 0.0 : left * (kind == kRec ? younger : 1.0);
    };
    for (int kind = 0; kind < kPairKinds; ++kind) {
        out.totals[kind] = static_cast<float>(left_of(static_cast<double>(before.totals[kind]), total[kind], kind));
    }
    for (std::int64_t p = 0; p < before.count; ++p) {
        const std::uint16_t* const had = before.values + p * kPairKinds;
        const auto found = gone.find(before.neighbors[p]);
        std::uint16_t values[kPairKinds];
        bool is_left = found == gone.end();
        for (int kind = 0; kind < kPairKinds; ++kind) {
            const double taken = found == gone.end() ? 0.0 : found->second.value[kind];
            const double value = left_of(static_cast<double>(from_bfloat16(had[kind])), taken, kind);
            values[kind] = to_bfloat16(value);
            is_left = is_left || (kind != kAa && kind != kRec && value > 0);
        }
        if (!is_left) continue;
        out.neighbors.push_back(before.neighbors[p]);
        out.latest.push_back(before.latest[p] == session ? latest_with(item, before.neighbors[p], before.latest[p])
                                                         : before.latest[p]);
        out.values.insert(out.values.end(), values, values + kPairKinds);
    }
}

// The latest session that is left and holds both, by their postings; `kept` where these do not go back so far.
std::int32_t BaseRows::latest_with(std::int32_t item, std::int32_t other, std::int32_t kept) const {
    const std::int32_t* const a = view_.postings + view_.post_offsets[item];
    const std::int32_t* const b = view_.postings + view_.post_offsets[other];
    std::int64_t i = view_.post_offsets[item + 1] - view_.post_offsets[item] - 1;
    std::int64_t j = view_.post_offsets[other + 1] - view_.post_offsets[other] - 1;
    while (i >= 0 && j >= 0) {
        if (a[i] == b[j]) {
            if (!is_dropped(a[i])) return a[i];
            --i;
            --j;
        } else if (a[i] > b[j]) {
            --i;
        } else {
            --j;
        }
    }
    return kept;
}

std::int64_t BaseRows::n_bytes() const {
    const auto bytes = [](const auto& array) {
        return static_cast<std::int64_t>(array.capacity() * sizeof(*array.data()));
    };
    std::int64_t total = bytes(dropped_) + bytes(before_word_);
    for (const auto& [item, patch] : patches_) {
        total += static_cast<std::int64_t>(sizeof(Patch)) + 32 + bytes(patch->neighbors) + bytes(patch->latest) +
                 bytes(patch->values);
    }
    return total;
}

}  // namespace mtaw
