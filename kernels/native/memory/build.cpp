#include "memory/build.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>

#include "compiler.hpp"
#include "memory/pair_terms.hpp"
#include "memory/tables.hpp"
#include "threads.hpp"

namespace mtaw {
namespace {

void check_offsets(const PastSessions& sessions) {
    constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
    for (std::int64_t s = 0; s < sessions.count; ++s) {
        if (sessions.offsets[s + 1] < sessions.offsets[s]) {
            throw std::invalid_argument("offsets must not descend, but session " + std::to_string(s) + " has " +
                                        std::to_string(sessions.offsets[s]) + " .. " +
                                        std::to_string(sessions.offsets[s + 1]));
        }
    }
    if (sessions.offsets[sessions.count] > kMax || sessions.count > kMax) {
        throw std::invalid_argument(std::to_string(sessions.offsets[sessions.count]) + " clicks in " +
                                    std::to_string(sessions.count) +
                                    " sessions are more than int32 can number: remove the oldest sessions");
    }
}

[[noreturn]] void refuse_item(std::int64_t session, std::int32_t item, std::int64_t n_items) {
    throw std::out_of_range("session " + std::to_string(session) + " holds item " + std::to_string(item) +
                            ", outside 0.." + std::to_string(n_items - 1));
}

}  // namespace

ClickIndex index_clicks(const PastSessions& sessions) {
    check_offsets(sessions);
    const auto n_items = static_cast<std::size_t>(sessions.n_items);
    const auto n_clicks = static_cast<std::size_t>(sessions.offsets[sessions.count]);
    ClickIndex index;
    index.offsets.assign(n_items + 1, 0);
    index.first.assign(n_clicks, 0);
    index.distinct.assign(static_cast<std::size_t>(sessions.count), 0);
    index.sessions.assign(n_items, 0);
    std::vector<std::int32_t> seen_in(n_items, -1);
    for (std::int64_t s = 0; s < sessions.count; ++s) {
        for (std::int64_t t = sessions.offsets[s]; t < sessions.offsets[s + 1]; ++t) {
            const std::int32_t item = sessions.items[t];
            if (item < 0 || item >= sessions.n_items) refuse_item(s, item, sessions.n_items);
            const auto index_of_item = static_cast<std::size_t>(item);
            ++index.offsets[index_of_item + 1];
            if (seen_in[index_of_item] == s) continue;
            seen_in[index_of_item] = static_cast<std::int32_t>(s);
            index.first[static_cast<std::size_t>(t)] = 1;
            ++index.distinct[static_cast<std::size_t>(s)];
            ++index.sessions[index_of_item];
        }
    }
    for (std::size_t i = 0; i < n_items; ++i) index.offsets[i + 1] += index.offsets[i];
    index.clicks.resize(n_clicks);
    std::vector<std::int64_t> next(index.offsets.begin(), index.offsets.end() - 1);
    for (std::int64_t s = 0; s < sessions.count; ++s) {
        for (std::int64_t t = sessions.offsets[s]; t < sessions.offsets[s + 1]; ++t) {
            std::int64_t& next_click = next[static_cast<std::size_t>(sessions.items[t])];
            index.clicks[static_cast<std::size_t>(next_click++)] = {static_cast<std::int32_t>(t),
                                                                    static_cast<std::int32_t>(s)};
        }
    }
    return index;
}

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

namespace {

constexpr std::int64_t kItemsPerBlock = 64;  // items that a thread takes at a time
constexpr std::int64_t kMaxWindow = std::numeric_limits<std::int32_t>::max();

std::int64_t limited(std::int64_t count, std::int64_t limit) { return limit == 0 ? count : std::min(count, limit); }

void accumulate(std::vector<std::int64_t>& offsets) {
    for (std::size_t i = 1; i < offsets.size(); ++i) offsets[i] += offsets[i - 1];
}

}  // namespace

void check_settings(const MemorySettings& settings) {
    if (settings.window < 1) throw std::invalid_argument("window must be at least 1 click");
    if (settings.span < 1) throw std::invalid_argument("span must be at least 1 click");
    if (std::max(settings.window, settings.span) > kMaxWindow) {
        throw std::invalid_argument("window and span must be at most " + std::to_string(kMaxWindow) + " clicks");
    }
    if (!(settings.recency > 0 && std::isfinite(settings.recency))) {
        throw std::invalid_argument("recency must be a positive number of sessions");
    }
    if (settings.max_neighbors < 0) throw std::invalid_argument("max_neighbors must be at least 1, or 0 for all");
    if (settings.max_postings < 0) throw std::invalid_argument("max_postings must be at least 1, or 0 for all");
}

TableBuild::TableBuild(const PastSessions& sessions, const MemorySettings& settings, int threads,
                       const OlderTables* older, ItemRange items)
    : sessions_(sessions), settings_(settings), threads_(threads), older_(older), items_(items) {
    check_settings(settings);
    if (items.begin < 0 || items.begin > items.end || items.end > sessions.n_items) {
        throw std::invalid_argument("items " + std::to_string(items.begin) + " .. " + std::to_string(items.end) +
                                    " are no range of 0 .. " + std::to_string(sessions.n_items));
    }
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    index_ = index_clicks(sessions_);
    is_copied_ = find_copied_rows();
    row_offsets_.assign(static_cast<std::size_t>(sessions_.n_items) + 1, 0);
    post_offsets_.assign(static_cast<std::size_t>(sessions_.n_items) + 1, 0);
    for_each_item([&](RowBuilder& builder, std::int64_t item) {
        const auto index = static_cast<std::size_t>(item);
        row_offsets_[index + 1] =
            is_copied_[index] != 0
                ? older_->tables.row_offsets[item + 1] - older_->tables.row_offsets[item]
                : limited(builder.count_neighbors(static_cast<std::int32_t>(item)), settings_.max_neighbors);
        post_offsets_[index + 1] = limited(index_.sessions[index], settings_.max_postings);
    });
    accumulate(row_offsets_);
    accumulate(post_offsets_);
}

void TableBuild::write(const TablesOut& out) const {
    std::copy(row_offsets_.begin(), row_offsets_.end(), out.row_offsets);
    std::copy(post_offsets_.begin(), post_offsets_.end(), out.post_offsets);
    for_each_item([&](RowBuilder& builder, std::int64_t item) {
        if (is_copied_[static_cast<std::size_t>(item)] != 0) {
            copy_row(item, out);
        } else {
            builder.write_row(static_cast<std::int32_t>(item), out);
        }
        builder.write_counts(static_cast<std::int32_t>(item), out);
        builder.write_postings(static_cast<std::int32_t>(item), out);
    });
}

// Calls work(builder, item) for every item of the range once, on some thread.
template <typename Work>
void TableBuild::for_each_item(const Work& work) const {
    std::atomic<std::int64_t> next{items_.begin};
    fork_join(threads_, [&](int) {
        RowBuilder builder(sessions_, settings_, index_);
        while (true) {
            const std::int64_t begin = next.fetch_add(kItemsPerBlock);
            if (begin >= items_.end) return;
            const std::int64_t end = std::min(begin + kItemsPerBlock, items_.end);
            for (std::int64_t item = begin; item < end; ++item) work(builder, item);
        }
    });
}

std::vector<std::uint8_t> TableBuild::find_copied_rows() const {
    if (older_ == nullptr) return std::vector<std::uint8_t>(static_cast<std::size_t>(sessions_.n_items), 0);
    std::vector<std::uint8_t> is_copied(static_cast<std::size_t>(sessions_.n_items), 1);
    const TablesView& tables = older_->tables;
    const auto rebuild = [&](const std::int32_t* items, std::int64_t begin, std::int64_t end) {
        for (std::int64_t t = begin; t < end; ++t) is_copied[static_cast<std::size_t>(items[t])] = 0;
    };
    rebuild(tables.session_items, 0, tables.session_offsets[older_->expired]);
    rebuild(sessions_.items, sessions_.offsets[tables.n_sessions - older_->expired],
            sessions_.offsets[sessions_.count]);
    return is_copied;
}

// The same row with renumbered sessions.
void TableBuild::copy_row(std::int64_t item, const TablesOut& out) const {
    const TablesView& from = older_->tables;
    const auto expired = static_cast<std::int32_t>(older_->expired);
    const std::int64_t begin = from.row_offsets[item], to = out.row_offsets[item];
    const std::int64_t length = from.row_offsets[item + 1] - begin;
    std::copy_n(from.neighbors + begin, length, out.neighbors + to);
    std::copy_n(from.values + begin * kPairKinds, length * kPairKinds, out.values + to * kPairKinds);
    for (std::int64_t p = 0; p < length; ++p) out.latest[to + p] = from.latest[begin + p] - expired;
    std::copy_n(from.totals + item * kPairKinds, kPairKinds, out.totals + item * kPairKinds);
}

TablesView BuiltTables::view(const PastSessions& sessions) const {
    return {sessions.n_items, sessions.count, row_offsets.data(),  neighbors.data(), latest.data(),    values.data(),
            totals.data(),    counts.data(),  post_offsets.data(), postings.data(),  sessions.offsets, sessions.items};
}

BuiltTables build_tables(const PastSessions& sessions, const MemorySettings& settings) {
    check_settings(settings);
    const ClickIndex index = index_clicks(sessions);
    const auto n = static_cast<std::size_t>(sessions.n_items);
    const auto limited = [](std::size_t count, std::int64_t limit) {
        return limit == 0 ? count : std::min(count, static_cast<std::size_t>(limit));
    };
    BuiltTables tables;
    tables.row_offsets.assign(n + 1, 0);
    tables.post_offsets.assign(n + 1, 0);
    tables.totals.resize(n * kPairKinds);
    tables.counts.resize(n * kCountKinds);
    for (std::size_t item = 0; item < n; ++item) {
        const std::size_t n_postings = limited(static_cast<std::size_t>(index.sessions[item]), settings.max_postings);
        tables.post_offsets[item + 1] = tables.post_offsets[item] + static_cast<std::int64_t>(n_postings);
    }
    tables.postings.resize(static_cast<std::size_t>(tables.post_offsets[n]));
    // Rows are mostly short; more grow the arrays.
    const auto expected_pairs = static_cast<std::size_t>(2 * sessions.offsets[sessions.count]);
    tables.neighbors.reserve(expected_pairs);
    tables.latest.reserve(expected_pairs);
    tables.values.reserve(expected_pairs * kPairKinds);
    RowBuilder builder(sessions, settings, index);
    for (std::size_t i = 0; i < n; ++i) {
        const auto item = static_cast<std::int32_t>(i);
        const std::size_t begin = tables.neighbors.size();
        const std::size_t end = begin + limited(builder.sum_pairs(item), settings.max_neighbors);
        tables.neighbors.resize(end);
        tables.latest.resize(end);
        tables.values.resize(end * kPairKinds);
        tables.row_offsets[i + 1] = static_cast<std::int64_t>(end);
        const TablesOut out{sessions.n_items,
                            sessions.count,
                            tables.row_offsets.data(),
                            tables.neighbors.data(),
                            tables.latest.data(),
                            tables.values.data(),
                            tables.totals.data(),
                            tables.counts.data(),
                            tables.post_offsets.data(),
                            tables.postings.data(),
                            nullptr,
                            nullptr};
        builder.write_summed(item, out);
        builder.write_counts(item, out);
        builder.write_postings(item, out);
    }
    return tables;
}

}  // namespace mtaw
