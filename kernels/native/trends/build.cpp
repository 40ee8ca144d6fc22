#include "trends/build.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>

#include "threads.hpp"

namespace mtaw {
namespace {

enum ClickUse : std::uint8_t { kNothing, kClicks, kPairs };
constexpr std::int64_t kItemsPerBlock = 64;  // items that a thread takes at a time

std::uint16_t to_bfloat16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// A sum within a value of the context that is less, decayed to the newest click, is left out: a click of 8 half-lives
// ago says nothing, and all of them together would outgrow the pairs.
constexpr double kMinContextSum = 0x1p-8;

// For tables: see kMinFloat.
float rounded(double sum) { return sum < static_cast<double>(kMinFloat) ? 0.0F : static_cast<float>(sum); }

}  // namespace

void check_trend_settings(const TrendSettings& settings) {
    std::int64_t previous = 0;
    for (const std::int64_t ms : settings.half_lives.ms) {
        if (ms <= previous || ms > kMaxHalfLife) {
            throw std::invalid_argument("half-lives must rise within 1.." + std::to_string(kMaxHalfLife) +
                                        " ms; one is " + std::to_string(ms));
        }
        previous = ms;
    }
    if (settings.window < 1 || settings.window > std::numeric_limits<std::int32_t>::max()) {
        throw std::invalid_argument("window must be in 1..2147483647 clicks");
    }
    if (settings.max_neighbors < 0) throw std::invalid_argument("max_neighbors must be at least 1, or 0 for all");
}

// One thread's builder of rows.
class TrendsBuild::RowBuilder {
   public:
    explicit RowBuilder(const TrendsBuild& build) : build_(build), slots_(index(build.sessions_.n_items), 0) {
        const std::int64_t newest = build.clock_[kItemLanes];
        for (int lane = 0; lane < kItemLanes; ++lane) {
            const std::int64_t half_life = build.settings_.half_lives.ms[lane];
            to_newest_[lane] = decay_power(build.clock_[lane] * half_life - newest, half_life);
        }
    }

    void add(std::int64_t item, Block& block) {
        count(item, block);
        count_context(block);
        collect(item);
        accumulate();
        cut(block);
    }

   private:
    struct Term {
        std::int64_t time;   // of the later click
        std::int64_t later;  // its index
        std::int32_t neighbor;
        std::int32_t distance;  // negative: bwd
        bool operator<(const Term& other) const {
            if (time != other.time) return time < other.time;
            if (later != other.later) return later < other.later;
            return distance < other.distance;
        }
    };

    void compute_weights(std::int64_t time, int first, double* weights) const {
        for (int lane = first; lane < kItemLanes; ++lane) {
            const std::int64_t half_life = build_.settings_.half_lives.ms[lane];
            weights[lane] = decay_power(time - build_.clock_[lane] * half_life, half_life);
        }
    }

    void count(std::int64_t item, Block& block) {
        const std::int64_t begin = build_.item_offsets_[index(item)], end = build_.item_offsets_[index(item) + 1];
        order_.assign(build_.item_clicks_.begin() + begin, build_.item_clicks_.begin() + end);
        const std::int64_t* const times = build_.sessions_.times;
        std::stable_sort(order_.begin(), order_.end(),
                         [&](std::int64_t a, std::int64_t b) { return times[a] < times[b]; });
        double sums[kItemSums] = {}, weights[kItemLanes];
        for (const std::int64_t click : order_) {
            if (build_.click_uses_[index(click)] == kNothing) continue;
            compute_weights(times[click], 0, weights);
            const bool later = build_.session_begins_[index(click)] < click;
            for (int lane = 0; lane < kItemLanes; ++lane) {
                sums[lane] += weights[lane];
                if (later) sums[kItemLanes + lane] += weights[lane];
            }
        }
        for (const double sum : sums) block.counts.push_back(rounded(sum));
        block.times.push_back(order_.empty() ? kNever : times[order_.front()]);
        block.times.push_back(order_.empty() ? kNever : times[order_.back()]);
    }

    // The clicks of the item in order_, by the values of their visits' context.
    void count_context(Block& block) {
        const ContextShape& shape = build_.sessions_.shape;
        if (shape.n_columns == 0) return;
        value_sums_.resize(index(shape.n_values()), 0.0);
        context_values_.clear();
        double weights[kItemLanes];
        for (const std::int64_t click : order_) {
            if (build_.click_uses_[index(click)] == kNothing) continue;
            compute_weights(build_.sessions_.times[click], kContextLane, weights);
            for (std::int64_t c = 0; c < shape.n_columns; ++c) {
                const std::int64_t value = shape.value_of(c, build_.sessions_.context[click * shape.n_columns + c]);
                if (value < 0) continue;
                if (value_sums_[index(value)] == 0) context_values_.push_back(static_cast<std::uint16_t>(value));
                value_sums_[index(value)] += weights[kContextLane];
            }
        }
        // A weight may be 0, and its value there twice.
        std::sort(context_values_.begin(), context_values_.end());
        context_values_.erase(std::unique(context_values_.begin(), context_values_.end()), context_values_.end());
        std::int64_t n_kept = 0;
        for (const std::uint16_t value : context_values_) {
            const double sum = value_sums_[value];
            value_sums_[value] = 0;
            if (sum * to_newest_[kContextLane] < kMinContextSum) continue;
            block.context_values.push_back(value);
            block.context_sums.push_back(rounded(sum));
            ++n_kept;
        }
        block.context_lengths.push_back(n_kept);
    }

    void collect(std::int64_t item) {
        const TimedSessions& sessions = build_.sessions_;
        terms_.clear();
        const std::int64_t window = build_.settings_.window;
        for (std::int64_t p = build_.item_offsets_[index(item)]; p < build_.item_offsets_[index(item) + 1]; ++p) {
            const std::int64_t click = build_.item_clicks_[index(p)], start = build_.session_begins_[index(click)];
            if (build_.click_uses_[index(click)] != kPairs) continue;
            std::int64_t distance = 0;
            for (std::int64_t earlier = click - 1; earlier >= start && distance < window; --earlier) {
                if (build_.click_uses_[index(earlier)] != kPairs) continue;
                ++distance;
                const std::int32_t other = sessions.items[earlier];
                if (other != item)
                    terms_.push_back({sessions.times[click], click, other, static_cast<std::int32_t>(-distance)});
            }
            distance = 0;
            const std::int64_t end = sessions.offsets[sessions.count];
            for (std::int64_t later = click + 1;
                 later < end && build_.session_begins_[index(later)] == start && distance < window; ++later) {
                if (build_.click_uses_[index(later)] != kPairs) continue;
                ++distance;
                const std::int32_t other = sessions.items[later];
                if (other != item)
                    terms_.push_back({sessions.times[later], later, other, static_cast<std::int32_t>(distance)});
            }
        }
        if (!std::is_sorted(terms_.begin(), terms_.end())) std::sort(terms_.begin(), terms_.end());
    }

    void accumulate() {
        neighbors_.clear();
        values_.clear();
        std::fill(totals_, totals_ + kPairSums, 0.0);
        double weights[kItemLanes] = {};
        std::int64_t weights_time = kNever;
        for (const Term& term : terms_) {
            if (term.time != weights_time) compute_weights(weights_time = term.time, kFirstPairLane, weights);
            std::int32_t& slot = slots_[index(term.neighbor)];
            if (slot == 0) {
                neighbors_.push_back(term.neighbor);
                values_.resize(values_.size() + kPairSums, 0.0);
                slot = static_cast<std::int32_t>(neighbors_.size());
            }
            const bool forward = term.distance > 0;
            const double share = 1.0 / static_cast<double>(forward ? term.distance : -term.distance);
            double* const value = values_.data() + (slot - 1) * kPairSums + (forward ? 0 : kPairLanes);
            double* const total = totals_ + (forward ? 0 : kPairLanes);
            for (int lane = 0; lane < kPairLanes; ++lane) {
                const double part = share * weights[kFirstPairLane + lane];
                value[lane] += part;
                total[lane] += part;
            }
        }
        for (const std::int32_t neighbor : neighbors_) slots_[index(neighbor)] = 0;
    }

    void cut(Block& block) {
        const auto count = static_cast<std::int64_t>(neighbors_.size());
        strengths_.resize(index(count));
        order_.resize(index(count));
        for (std::int64_t i = 0; i < count; ++i) {
            order_[index(i)] = i;
            strengths_[index(i)] = pair_strength(values_.data() + i * kPairSums, totals_, to_newest_ + kFirstPairLane);
        }
        std::sort(order_.begin(), order_.end(), [&](std::int64_t a, std::int64_t b) {
            if (strengths_[index(a)] != strengths_[index(b)]) return strengths_[index(a)] > strengths_[index(b)];
            return neighbors_[index(a)] < neighbors_[index(b)];
        });
        const std::int64_t limit = build_.settings_.max_neighbors;
        const std::int64_t n_kept = limit == 0 ? count : std::min(count, limit);
        for (std::int64_t i = 0; i < n_kept; ++i) {
            const std::int64_t from = order_[index(i)];
            block.neighbors.push_back(neighbors_[index(from)]);
            for (int k = 0; k < kPairSums; ++k) {
                block.values.push_back(to_bfloat16(rounded(values_[index(from * kPairSums + k)])));
            }
        }
        block.lengths.push_back(n_kept);
        for (const double total : totals_) block.totals.push_back(rounded(total));
    }

    const TrendsBuild& build_;
    std::vector<std::int32_t> slots_;  // [N] 1 + index among the neighbors
    std::vector<Term> terms_;
    std::vector<std::int64_t> order_;
    std::vector<std::int32_t> neighbors_;
    std::vector<double> values_, strengths_;
    std::vector<double> value_sums_;             // by value of the context, 0 between items
    std::vector<std::uint16_t> context_values_;  // values of an item
    double totals_[kPairSums], to_newest_[kItemLanes];
};

TrendsBuild::TrendsBuild(const TimedSessions& sessions, const TrendSettings& settings, int threads)
    : sessions_(sessions), settings_(settings) {
    check_trend_settings(settings);
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    std::int64_t newest = sessions.newest;
    if (sessions.first < 0 || sessions.last < sessions.first || sessions.last > sessions.n_items) {
        throw std::invalid_argument("the items to build must be a range within 0.." + std::to_string(sessions.n_items));
    }
    if (newest < 0 || newest > kMaxTime) throw std::invalid_argument("newest must be in 0..2^52 ms");
    for (std::int64_t s = 0; s < sessions.count; ++s) {
        if (sessions.offsets[s + 1] < sessions.offsets[s]) {
            throw std::invalid_argument("offsets[" + std::to_string(s + 1) + "] is less than the one before");
        }
    }
    for (std::int64_t t = 0; t < sessions.offsets[sessions.count]; ++t) {
        if (sessions.items[t] < 0 || sessions.items[t] >= sessions.n_items) {
            throw std::out_of_range("items[" + std::to_string(t) + "] is " + std::to_string(sessions.items[t]) +
                                    ", outside 0.." + std::to_string(sessions.n_items - 1));
        }
        if (sessions.times[t] < 0 || sessions.times[t] > kMaxTime) {
            throw std::out_of_range("times[" + std::to_string(t) + "] is " + std::to_string(sessions.times[t]) +
                                    ", outside 0.." + std::to_string(kMaxTime) + " ms");
        }
        newest = std::max(newest, sessions.times[t]);
        for (std::int64_t c = 0; c < sessions.shape.n_columns; ++c) {
            const std::int64_t code = sessions.context[t * sessions.shape.n_columns + c];
            if (code > sessions.shape.begins[c + 1] - sessions.shape.begins[c]) {
                throw std::out_of_range("context[" + std::to_string(t) + ", " + std::to_string(c) + "] is " +
                                        std::to_string(code) + ", outside 0.." +
                                        std::to_string(sessions.shape.begins[c + 1] - sessions.shape.begins[c]));
            }
        }
    }
    for (int lane = 0; lane < kItemLanes; ++lane) clock_[lane] = floor_div(newest, settings.half_lives.ms[lane]);
    clock_[kItemLanes] = newest;
    order_sessions();
    mark_click_uses();
    sum_all();  // before there is an index, since both need memory a click
    index_items();
    blocks_.resize(index((sessions_.last - sessions_.first + kItemsPerBlock - 1) / kItemsPerBlock));
    std::atomic<std::int64_t> next{0};
    fork_join(threads, [&](int) {
        RowBuilder rows(*this);
        for (std::int64_t b = next.fetch_add(1); b < static_cast<std::int64_t>(blocks_.size()); b = next.fetch_add(1)) {
            const std::int64_t begin = sessions_.first + b * kItemsPerBlock,
                               end = std::min(begin + kItemsPerBlock, sessions_.last);
            for (std::int64_t item = begin; item < end; ++item) rows.add(item, blocks_[index(b)]);
        }
    });
    for (const Block& block : blocks_) {
        n_pairs_ += static_cast<std::int64_t>(block.neighbors.size());
        n_context_sums_ += static_cast<std::int64_t>(block.context_values.size());
    }
}

// Sorts each session's clicks by time; ties keep their order.
void TrendsBuild::order_sessions() {
    const std::int64_t n = sessions_.offsets[sessions_.count];
    const std::int64_t width = sessions_.shape.n_columns;
    session_begins_.resize(index(n));
    std::vector<std::int64_t> order;
    for (std::int64_t s = 0; s < sessions_.count; ++s) {
        const std::int64_t begin = sessions_.offsets[s], end = sessions_.offsets[s + 1];
        std::fill(session_begins_.begin() + begin, session_begins_.begin() + end, begin);
        if (std::is_sorted(sessions_.times + begin, sessions_.times + end)) continue;
        if (items_.empty()) {
            items_.assign(sessions_.items, sessions_.items + n);
            times_.assign(sessions_.times, sessions_.times + n);
            if (sessions_.context != nullptr) codes_.assign(sessions_.context, sessions_.context + n * width);
        }
        order.resize(index(end - begin));
        for (std::int64_t i = 0; i < end - begin; ++i) order[index(i)] = begin + i;
        std::stable_sort(order.begin(), order.end(),
                         [&](std::int64_t a, std::int64_t b) { return sessions_.times[a] < sessions_.times[b]; });
        for (std::int64_t i = 0; i < end - begin; ++i) {
            items_[index(begin + i)] = sessions_.items[order[index(i)]];
            times_[index(begin + i)] = sessions_.times[order[index(i)]];
            if (width > 0) {
                std::copy_n(sessions_.context + order[index(i)] * width, width, codes_.begin() + (begin + i) * width);
            }
        }
    }
    if (!items_.empty()) {
        sessions_.items = items_.data();
        sessions_.times = times_.data();
        if (width > 0) sessions_.context = codes_.data();
    }
}

void TrendsBuild::mark_click_uses() {
    click_uses_.assign(session_begins_.size(), kPairs);
    for (std::int64_t s = std::max<std::int64_t>(sessions_.once_from, 0); s < sessions_.count; ++s) {
        const std::int32_t* const begin = sessions_.items + sessions_.offsets[s];
        for (std::int64_t t = sessions_.offsets[s]; t < sessions_.offsets[s + 1]; ++t) {
            const std::int32_t* const click = sessions_.items + t;
            const std::int64_t n_before = std::count(begin, click, *click);
            click_uses_[index(t)] = n_before == 0 ? kPairs : n_before < kMaxCounted ? kClicks : kNothing;
        }
    }
}

void TrendsBuild::index_items() {
    const std::int64_t n = sessions_.offsets[sessions_.count];
    item_offsets_.assign(index(sessions_.n_items) + 1, 0);
    for (std::int64_t t = 0; t < n; ++t) ++item_offsets_[index(sessions_.items[t]) + 1];
    for (std::size_t i = 1; i < item_offsets_.size(); ++i) item_offsets_[i] += item_offsets_[i - 1];
    item_clicks_.resize(index(n));
    std::vector<std::int64_t> next(item_offsets_.begin(), item_offsets_.end() - 1);
    for (std::int64_t t = 0; t < n; ++t) item_clicks_[index(next[index(sessions_.items[t])]++)] = t;
}

void TrendsBuild::sum_all() {
    const ContextShape& shape = sessions_.shape;
    context_totals_.assign(index(shape.n_values()), 0.0);
    const std::int64_t n = sessions_.offsets[sessions_.count];
    std::vector<std::int64_t> order(index(n));
    for (std::int64_t t = 0; t < n; ++t) order[index(t)] = t;
    const std::int64_t* const times = sessions_.times;
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return times[a] < times[b]; });
    for (const std::int64_t t : order) {
        if (click_uses_[index(t)] == kNothing) continue;
        for (int lane = 0; lane < kItemLanes; ++lane) {
            const std::int64_t half_life = settings_.half_lives.ms[lane];
            const double weight = decay_power(times[t] - clock_[lane] * half_life, half_life);
            sums_[lane] += weight;
            if (session_begins_[index(t)] < t) sums_[kItemLanes + lane] += weight;
            if (lane != kContextLane) continue;
            for (std::int64_t c = 0; c < shape.n_columns; ++c) {
                const std::int64_t value = shape.value_of(c, sessions_.context[t * shape.n_columns + c]);
                if (value >= 0) context_totals_[index(value)] += weight;
            }
        }
    }
}

void TrendsBuild::write(const TrendsOut& out) {
    std::int64_t item = 0, pair = 0, context_item = 0, context_sum = 0;
    if (out.context_offsets != nullptr) out.context_offsets[0] = 0;
    out.row_offsets[0] = 0;
    for (Block& block : blocks_) {
        std::copy(block.neighbors.begin(), block.neighbors.end(), out.neighbors + pair);
        std::copy(block.values.begin(), block.values.end(), out.values + pair * kPairSums);
        std::copy(block.totals.begin(), block.totals.end(), out.totals + item * kPairSums);
        std::copy(block.counts.begin(), block.counts.end(), out.counts + item * kItemSums);
        std::copy(block.times.begin(), block.times.end(), out.times + item * 2);
        for (const std::int64_t length : block.lengths) out.row_offsets[++item] = pair += length;
        if (out.context_offsets != nullptr) {
            std::copy(block.context_values.begin(), block.context_values.end(), out.context_values + context_sum);
            std::copy(block.context_sums.begin(), block.context_sums.end(), out.context_sums + context_sum);
            for (const std::int64_t length : block.context_lengths)
                out.context_offsets[++context_item] = context_sum += length;
        }
        block = {};
    }
    std::copy(sums_, sums_ + kItemSums, out.sums);
    if (out.context_totals != nullptr) std::copy(context_totals_.begin(), context_totals_.end(), out.context_totals);
    std::copy(clock_, clock_ + kItemLanes + 1, out.clock);
}

}  // namespace mtaw
