#include "memory/row_builder.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "compiler.hpp"
#include "memory/bfloat16.hpp"
#include "memory/pair_terms.hpp"

namespace mtaw {
namespace {

constexpr std::ptrdiff_t kClicksAhead = 8;  // clicks
constexpr PairKind kStrength[] = {kFwd, kBwd, kSes, kRec};

}  // namespace

RowBuilder::RowBuilder(const PastSessions& sessions, const MemorySettings& settings, const ClickIndex& index)
    : sessions_(sessions),
      settings_(settings),
      index_(index),
      pair_index_(static_cast<std::size_t>(sessions.n_items), 0) {}

std::int64_t RowBuilder::count_neighbors(std::int32_t item) {
    counted_.clear();
    const auto count_once = [&](std::int32_t other) {
        std::int32_t& mark = pair_index_[static_cast<std::size_t>(other)];
        if (mark != 0) return;
        mark = 1;
        counted_.push_back(other);
    };
    for (const ItemClick *click = clicks_begin(item), *end = clicks_end(item); click != end; ++click) {
        prefetch(click + kClicksAhead);
        visit(item, *click, [&](std::int32_t other, std::int64_t) { count_once(other); }, count_once);
    }
    for (const std::int32_t other : counted_) pair_index_[static_cast<std::size_t>(other)] = 0;
    return static_cast<std::int64_t>(counted_.size());
}

// Clicks on an item are spread over the log: what a later one needs is prefetched while earlier ones are summed. The
// clicks after an item's last are the next items', so this prefetches across rows too.
void RowBuilder::prefetch(const ItemClick* click) const {
    if (click >= index_.clicks.data() + index_.clicks.size()) return;
    const auto session = static_cast<std::size_t>(click->session);
    MTAW_PREFETCH(sessions_.offsets + session);
    MTAW_PREFETCH(index_.distinct.data() + session);
    MTAW_PREFETCH(sessions_.items + click->index);
    MTAW_PREFETCH(index_.first.data() + click->index);
}

// Calls near(other, clicks from this one to that, negative before it) for every click on another item that fwd or bwd
// pairs with this one, and same(other) for every item that ses pairs with it, each in order of time.
template <typename Near, typename Same>
void RowBuilder::visit(std::int32_t item, const ItemClick& click, const Near& near, const Same& same) const {
    const std::int64_t t = click.index;
    const std::int64_t begin = sessions_.offsets[click.session];
    const std::int64_t end = sessions_.offsets[click.session + 1];
    const auto is_first = [&](std::int64_t j) { return index_.first[static_cast<std::size_t>(j)] != 0; };
    if (!settings_.once(click.session)) {
        for (std::int64_t j = std::max(begin, t - settings_.window), last = std::min(end, t + settings_.window + 1);
             j < last; ++j) {
            if (sessions_.items[j] != item) near(sessions_.items[j], j - t);
        }
    } else if (is_first(t)) {
        visit_firsts(begin, t, end, settings_.window, is_first,
                     [&](std::int64_t j, std::int64_t distance) { near(sessions_.items[j], distance); });
    }
    if (!is_first(t)) return;
    for (std::int64_t j = std::max(begin, t - settings_.span), last = std::min(end, t + settings_.span + 1); j < last;
         ++j) {
        if (is_first(j) && sessions_.items[j] != item) same(sessions_.items[j]);
    }
}

std::size_t RowBuilder::sum_pairs(std::int32_t item) {
    pairs_.clear();
    const std::int32_t newest_session = newest(item);
    for (const ItemClick *click = clicks_begin(item), *end = clicks_end(item); click != end; ++click) {
        prefetch(click + kClicksAhead);
        const std::int32_t session = click->session;
        const double recency_weight = std::exp(-static_cast<double>(newest_session - session) / settings_.recency);
        // One distinct item alone has no pair to weigh.
        const double share = 1.0 / std::max(index_.distinct[static_cast<std::size_t>(session)] - 1, 1);
        visit(
            item, *click,
            [&](std::int32_t other, std::int64_t distance) {
                PairSums& pair = pair_of(other);
                pair.add_near(distance, recency_weight);
                pair.latest = session;
            },
            [&](std::int32_t other) {
                PairSums& pair = pair_of(other);
                pair.add_same(share);
                pair.latest = session;
            });
    }
    for (const PairSums& pair : pairs_) pair_index_[static_cast<std::size_t>(pair.item)] = 0;
    return pairs_.size();
}

void RowBuilder::write_row(std::int32_t item, const TablesOut& out) {
    sum_pairs(item);
    write_summed(item, out);
}

void RowBuilder::write_summed(std::int32_t item, const TablesOut& out) {
    const std::int64_t begin = out.row_offsets[item];
    ranker_.write(pairs_, out.row_offsets[item + 1] - begin, out.totals + static_cast<std::int64_t>(item) * kPairKinds,
                  out.neighbors + begin, out.latest + begin, out.values + begin * kPairKinds);
}

void RowRanker::write(const std::vector<PairSums>& pairs, std::int64_t n_kept, float* totals, std::int32_t* neighbors,
                      std::int32_t* latest, std::uint16_t* values) {
    double total[kPairKinds] = {};
    for (const PairSums& pair : pairs) {
        for (int kind = 0; kind < kPairKinds; ++kind) total[kind] += pair.value[kind];
    }
    for (int kind = 0; kind < kPairKinds; ++kind) totals[kind] = static_cast<float>(total[kind]);
    ranked_.clear();
    for (const PairSums& pair : pairs) {
        double strength = 0;
        for (const PairKind kind : kStrength) strength += pair.value[kind] / (total[kind] + 1.0);
        ranked_.push_back({strength, pair.item, static_cast<std::int32_t>(ranked_.size())});
    }
    const auto stronger = [](const Ranked& x, const Ranked& y) {
        return x.strength != y.strength ? x.strength > y.strength : x.item < y.item;
    };
    const auto kept_end = ranked_.begin() + n_kept;
    if (kept_end != ranked_.end()) std::nth_element(ranked_.begin(), kept_end, ranked_.end(), stronger);
    std::sort(ranked_.begin(), kept_end, stronger);
    for (std::int64_t p = 0; p < n_kept; ++p) {
        const PairSums& pair = pairs[static_cast<std::size_t>(ranked_[static_cast<std::size_t>(p)].pair)];
        neighbors[p] = pair.item;
        latest[p] = pair.latest;
        for (int kind = 0; kind < kPairKinds; ++kind) values[p * kPairKinds + kind] = to_bfloat16(pair.value[kind]);
    }
}

void RowBuilder::write_counts(std::int32_t item, const TablesOut& out) const {
    const ItemClick* begin = clicks_begin(item);
    const ItemClick* end = clicks_end(item);
    std::int32_t later = 0, at_once = 0;
    for (const ItemClick* click = begin; end - click > 1; ++click) {
        if (click[1].session != click->session) continue;
        ++later;
        at_once += click[1].index == click->index + 1;
    }
    std::int32_t* counts = out.counts + static_cast<std::int64_t>(item) * kCountKinds;
    counts[kClicks] = static_cast<std::int32_t>(end - begin);
    counts[kSessions] = index_.sessions[static_cast<std::size_t>(item)];
    counts[kRepeatedLater] = later;
    counts[kRepeatedAtOnce] = at_once;
    counts[kNewest] = newest(item);
}

void RowBuilder::write_postings(std::int32_t item, const TablesOut& out) const {
    const std::int64_t begin = out.post_offsets[item];
    std::int32_t previous_session = -1;
    std::int64_t p = out.post_offsets[item + 1];
    for (const ItemClick* click = clicks_end(item); p > begin;) {
        --click;
        if (click->session == previous_session) continue;
        previous_session = click->session;
        out.postings[--p] = previous_session;
    }
}

PairSums& RowBuilder::pair_of(std::int32_t other) {
    std::int32_t& index_plus_one = pair_index_[static_cast<std::size_t>(other)];
    if (index_plus_one == 0) {
        pairs_.push_back({{}, other, -1});
        index_plus_one = static_cast<std::int32_t>(pairs_.size());
    }
    return pairs_[static_cast<std::size_t>(index_plus_one) - 1];
}

const ItemClick* RowBuilder::clicks_begin(std::int32_t item) const {
    return index_.clicks.data() + index_.offsets[static_cast<std::size_t>(item)];
}

const ItemClick* RowBuilder::clicks_end(std::int32_t item) const {
    return index_.clicks.data() + index_.offsets[static_cast<std::size_t>(item) + 1];
}

std::int32_t RowBuilder::newest(std::int32_t item) const {
    const ItemClick* end = clicks_end(item);
    return clicks_begin(item) == end ? -1 : end[-1].session;
}

}  // namespace mtaw
