#include "memory/query.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "compiler.hpp"
#include "memory/select.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kStrong = 20;  // strongest neighbours that a step to second ones takes
constexpr std::int64_t kWarm = 8;     // cache lines of a row that are asked for ahead of its use
constexpr std::int64_t kLineBytes = 64;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

float from_bfloat16(std::uint16_t value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

template <typename T>
void prefetch(const T* begin, std::int64_t count) {
    const auto* const bytes = reinterpret_cast<const char*>(begin);
    const std::int64_t end = std::min(count * static_cast<std::int64_t>(sizeof(T)), kWarm * kLineBytes);
    for (std::int64_t at = 0; at < end; at += kLineBytes) MTAW_PREFETCH(bytes + at);
}

std::int64_t longest_run(const std::int64_t* offsets, std::int64_t count) {
    std::int64_t longest = 0;
    for (std::int64_t i = 0; i < count; ++i) longest = std::max(longest, offsets[i + 1] - offsets[i]);
    return longest;
}

void check_setting(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value < least || value > most) {
        throw std::invalid_argument(std::string("the memory's setting ") + name + " must lie in " +
                                    std::to_string(least) + ".." + std::to_string(most) + ", not be " +
                                    std::to_string(value));
    }
}

// What one own item's row adds to each lane, but for the value.
struct RowFactors {
    alignas(64) float lanes[kSumLanes];
};

RowFactors row_factors(const float* totals, std::int64_t place, float decayed, float even, float age, float root) {
    const auto share = [&](int kind) { return 1.0F / (totals[kind] + 1.0F); };
    const float last = place == 0 ? 1.0F : 0.0F, previous = place == 1 ? 1.0F : 0.0F;
    const float next = share(kNext), fwd = share(kFwd), ses = share(kSes);
    const float rec = age / (totals[kRec] * age + 1.0F);
    RowFactors factors{};
    factors.lanes[kNextLast] = last * next;
    factors.lanes[kNextDec] = decayed * next;
    factors.lanes[kFwdDec] = decayed * fwd;
    factors.lanes[kFwdLast] = last * fwd;
    factors.lanes[kFwdPrev] = previous * fwd;
    factors.lanes[kBwdDec] = decayed * share(kBwd);
    factors.lanes[kSesDec] = decayed * ses;
    factors.lanes[kSesAll] = even * ses;
    factors.lanes[kSesLast] = last * ses;
    factors.lanes[kCosDec] = decayed * root;
    factors.lanes[kCosAll] = even * root;
    factors.lanes[kRecDec] = decayed * rec;
    factors.lanes[kRecAll] = even * rec;
    factors.lanes[kAaDec] = decayed * share(kAa);
    factors.lanes[kReached] = 1.0F;
    return factors;
}

}  // namespace

SessionMemory::SessionMemory(const MemoryView& memory, const MemoryQuerySettings& settings, std::int64_t n_catalog,
                             Isa isa)
    : memory_(memory), settings_(settings), isa_(isa), kernels_(&memory_kernels(isa)) {
    check_setting("own", settings.own, 1, kMaxOwn);
    check_setting("others", settings.others, 1, 1 << 16);
    check_setting("sessions", settings.sessions, 1, 1 << 16);
    check_setting("dense", settings.dense, 0, 1 << 16);
    if (n_catalog < memory.n_items) {
        throw std::invalid_argument("the memory is for " + std::to_string(memory.n_items) + " items, the catalog has " +
                                    std::to_string(n_catalog) + "; make both from one training");
    }
    const std::int64_t longest = longest_run(memory.session_offsets, memory.n_sessions);
    const std::int64_t met = settings.own * (1 + longest_run(memory.row_offsets, memory.n_items)) +
                             kStrong * kStrong + settings.sessions * longest + settings.dense;
    bounds_ = {
        .catalog = n_catalog,
        .sessions = memory.n_sessions,
        .slots = std::min(n_catalog, met),
        .touched = std::min(memory.n_sessions,
                            settings.own * longest_run(memory.post_offsets, memory.n_items)),
        .longest = longest,
        .similar = settings.sessions,
        .candidates = settings.own + settings.others + settings.dense,
    };
}

// The pool as the next query expects it.
void SessionMemory::release(MemoryScratch& scratch) {
    Pool& pool = scratch.pool_;
    for (std::int32_t slot = 0; slot < pool.count; ++slot) pool.place[pool.items[slot]] = 0;
    std::fill(pool.sums, sums_of(pool, pool.count), 0.0F);
    std::fill(pool.more, more_of(pool, pool.count), 0.0F);
}

std::int64_t SessionMemory::features(const MemoryRequest& request, const ItemVectors* vectors, std::int32_t* ids,
                                     float* features, MemoryScratch& scratch) const {
    gather(request, vectors, scratch);
    const auto count = static_cast<std::int64_t>(scratch.candidates_.size());
    const float* const columns = scratch.columns_.data();
    for (std::int64_t begin = 0; begin < count; begin += kTile) {
        const std::int64_t some = std::min(kTile, count - begin), depth = tile(begin, request, vectors, scratch);
        const std::int32_t* const slots = scratch.candidates_.data() + begin;
        for (std::int64_t i = 0; i < some; ++i) {
            ids[begin + i] = scratch.pool_.items[slots[i]];
            float* row = features + (begin + i) * kFeatures;
            row = std::copy(scratch.query_features_, scratch.query_features_ + kQueryFeatures, row);
            for (std::int64_t k = 0; k < depth; ++k) *row++ = columns[k * kTile + i];
            std::fill(row, row + kColumns - depth, 0.0F);
        }
    }
    release(scratch);
    return count;
}

void SessionMemory::rank(const MemoryRequest& request, const ItemVectors* vectors, const Ranker& ranker,
                         std::int64_t k, std::int32_t* ids, float* scores, MemoryScratch& scratch) const {
    gather(request, vectors, scratch);
    const auto count = static_cast<std::int64_t>(scratch.candidates_.size());
    const ItemVectors* const neural = is_neural(request) ? vectors : nullptr;
    ranker.start(scratch.query_features_, *kernels_, scratch.ranker_);
    scratch.scored_.clear();
    float lowest = kInfinity;
    for (std::int64_t begin = 0; begin < count; begin += kTile) {
        const std::int64_t some = std::min(kTile, count - begin), depth = tile(begin, request, vectors, scratch);
        const float* rows[kTile];
        float found[kTile];
        ranker.score(scratch.columns_.data(), depth, some, ahead(begin + kTile, neural, scratch, rows), *kernels_,
                     scratch.ranker_, found);
        for (std::int64_t i = 0; i < some; ++i) {
            const std::int32_t slot = scratch.candidates_[static_cast<std::size_t>(begin + i)];
            scratch.scored_.push_back({found[i], scratch.pool_.items[slot]});
            lowest = std::min(lowest, found[i]);
        }
    }
    const std::int64_t placed = std::min(k, count);
    place(placed, ids, scores, scratch);
    std::fill(ids + placed, ids + k, -1);
    std::fill(scores + placed, scores + k, -kInfinity);
    if (placed < k && vectors != nullptr) {
        const float start = count > 0 ? lowest : 0.0F;
        rank_rest(request, vectors->scale, start, k - placed, ids + placed, scores + placed, scratch);
    }
    release(scratch);
}

// The best k of scratch.scored_ in order: those under the k-th score are left out before anything is sorted.
void SessionMemory::place(std::int64_t k, std::int32_t* ids, float* scores, MemoryScratch& scratch) const {
    std::vector<Scored>& scored = scratch.scored_;
    const auto count = static_cast<std::int64_t>(scored.size());
    if (k < count) {
        using Limits = std::numeric_limits<std::int32_t>;
        for (std::int64_t i = 0; i < count; ++i) {
            const float score = scored[static_cast<std::size_t>(i)].score + 0.0F;  // -0 and 0 tie
            const auto bits = std::bit_cast<std::int32_t>(score);
            const std::int32_t ordered = bits < 0 ? bits ^ Limits::max() : bits;
            scratch.score_keys_[static_cast<std::size_t>(i)] = std::isnan(score) ? Limits::min() : ordered;
        }
        const std::int32_t* const keys = scratch.score_keys_.get();
        const std::int32_t least = cut_of(*kernels_, keys, count, k, Limits::min(), std::int64_t{Limits::max()} + 1);
        std::size_t kept = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            scored[kept] = scored[static_cast<std::size_t>(i)];
            kept += keys[i] >= least ? 1 : 0;
        }
        scored.resize(kept);
    }
    place_best(scored.data(), static_cast<std::int64_t>(scored.size()), k, ids, scores);
}

void SessionMemory::rank_rest(const MemoryRequest& request, double scale, float lowest, std::int64_t k,
                              std::int32_t* ids, float* scores, MemoryScratch& scratch) const {
    const auto bound = static_cast<float>(scale);
    float before = lowest, logit_before = kInfinity;
    std::vector<std::int32_t>& taken = scratch.candidates_;
    std::sort(taken.begin(), taken.end(), [&](std::int32_t a, std::int32_t b) {
        return scratch.pool_.items[a] < scratch.pool_.items[b];
    });
    for (std::int64_t i = 0; i < request.n_dense && k > 0; ++i) {
        const std::int32_t item = request.dense[i];
        if (item < 0) break;
        const auto found = std::lower_bound(taken.begin(), taken.end(), item, [&](std::int32_t slot, std::int32_t id) {
            return scratch.pool_.items[slot] < id;
        });
        if (found != taken.end() && scratch.pool_.items[*found] == item) continue;
        const float logit = std::min(request.logits[i], bound);
        float score = std::min(lowest - (bound - logit), before);
        if (logit < logit_before) score = std::min(score, std::nextafter(before, -kInfinity));
        before = score;
        logit_before = logit;
        *ids++ = item;
        *scores++ = score;
        --k;
    }
}

void SessionMemory::gather(const MemoryRequest& request, const ItemVectors* vectors, MemoryScratch& scratch) const {
    check(request);
    scratch.fit(bounds_);
    scratch.pool_ = {scratch.place_.data(), scratch.items_.get(), scratch.sums_.data(), scratch.more_.data(), 0,
                     memory_.totals};
    const std::int64_t used = std::min(request.m, kMaxClicks);
    list_own(request.clicks + request.m - used, used, settings_.own, scratch.own_, scratch.pool_);
    add_neighbours(scratch);
    std::int32_t* const touched = scratch.touched_.get();
    const std::int64_t room = bounds_.touched + kPadding;
    SimilarScratch similar{scratch.weights_.data(),   touched,              touched + room,       touched + 2 * room,
                           scratch.similar_.get(), scratch.fresh_.data(), scratch.kept_.data(), scratch.slots_.get()};
    add_similar_sessions(memory_, scratch.own_, settings_.sessions, *kernels_, similar, scratch.pool_,
                         scratch.facts_.largest);
    add_second(scratch);
    add_dense(request, scratch);
    state_facts(request, scratch);
    weigh(request, scratch);
    choose(request, scratch);
    const float* rows[kTile];
    const RowsAhead first = ahead(0, is_neural(request) ? vectors : nullptr, scratch, rows);
    for (std::int64_t i = 0; i < first.count; ++i) prefetch(first.rows[i], first.floats);
    query_features(scratch.facts_, *kernels_, scratch.query_features_);
}

std::int64_t SessionMemory::tile(std::int64_t begin, const MemoryRequest& request, const ItemVectors* vectors,
                                 MemoryScratch& scratch) const {
    const std::int64_t count = std::min(kTile, static_cast<std::int64_t>(scratch.candidates_.size()) - begin);
    const std::int32_t* const slots = scratch.candidates_.data() + begin;
    if (is_neural(request)) add_logits(slots, count, request.query, *vectors, scratch);
    return fill_tile(source(scratch), slots, count, *kernels_, scratch.columns_.data());
}

RowsAhead SessionMemory::ahead(std::int64_t begin, const ItemVectors* vectors, const MemoryScratch& scratch,
                               const float** rows) const {
    if (vectors == nullptr) return {rows, 0, 0};
    const std::int64_t end = std::min(begin + kTile, static_cast<std::int64_t>(scratch.candidates_.size()));
    std::int64_t count = 0;
    for (std::int64_t i = begin; i < end; ++i) {
        const std::int32_t slot = scratch.candidates_[static_cast<std::size_t>(i)];
        const std::int64_t item = scratch.pool_.items[slot];
        if (more_of(scratch.pool_, slot)[kDenseLead] == 0 && item < vectors->n) rows[count++] = vectors->rows + item * vectors->d;
    }
    return {rows, count, vectors->d};
}

void SessionMemory::check(const MemoryRequest& request) const {
    if (request.m < 1) throw std::invalid_argument("a session to rank has no clicks; leave it out");
    for (std::int64_t t = 0; t < request.m; ++t) {
        if (request.clicks[t] < 0 || request.clicks[t] >= bounds_.catalog) {
            throw std::out_of_range("click " + std::to_string(t) + " has internal item id " +
                                    std::to_string(request.clicks[t]) + ", outside 0.." +
                                    std::to_string(bounds_.catalog - 1));
        }
    }
}

// Everything lies far apart in memory: what all own items will need is on its way before the first is looked at.
void SessionMemory::prefetch_own(const OwnItems& own) const {
    for (std::int64_t u = 0; u < own.count; ++u) {
        const std::int64_t item = own.list[u].item;
        if (item >= memory_.n_items) continue;
        MTAW_PREFETCH(memory_.totals + item * kPairKinds);
        MTAW_PREFETCH(memory_.counts + item * kCountKinds);
        const std::int64_t begin = memory_.row_offsets[item], length = memory_.row_offsets[item + 1] - begin;
        prefetch(memory_.neighbours + begin, length);
        prefetch(memory_.latest + begin, length);
        prefetch(memory_.values + begin * kPairKinds, length * kPairKinds);
        const std::int64_t first = memory_.post_offsets[item];
        prefetch(memory_.postings + first, memory_.post_offsets[item + 1] - first);
    }
}

void SessionMemory::add_neighbours(MemoryScratch& scratch) const {
    const OwnItems& own = scratch.own_;
    prefetch_own(own);
    const auto known = [&](std::int64_t u) { return own.list[u].item < memory_.n_items; };
    float ages[kMaxOwn + kPadding], roots[kMaxOwn + kPadding];
    for (std::int64_t u = 0; u < own.count; ++u) {
        ages[u] = roots[u] = 0;
        if (!known(u)) continue;
        const std::int64_t item = own.list[u].item;
        const std::int64_t age = memory_.n_sessions - 1 - memory_.counts[item * kCountKinds + kNewest];
        ages[u] = static_cast<float>(-static_cast<double>(age) / memory_.recency);
        roots[u] = memory_.totals[item * kPairKinds + kSes];
    }
    std::fill(ages + own.count, ages + own.count + kPadding, 0.0F);
    std::fill(roots + own.count, roots + own.count + kPadding, 0.0F);
    kernels_->exp(ages, own.count);
    kernels_->inverse_root(roots, own.count);
    const float even = 1.0F / static_cast<float>(own.count);
    for (std::int64_t u = 0; u < own.count; ++u) {
        if (!known(u)) continue;
        const std::int64_t item = own.list[u].item;
        const float near = 1.0F / (1.0F + static_cast<float>(own.list[u].back));
        const RowFactors factors = row_factors(memory_.totals + item * kPairKinds, u, own.list[u].decayed, even,
                                               ages[u], roots[u]);
        kernels_->add_row(memory_, item, factors.lanes, near, scratch.pool_);
        if (u == 0) {
            for (std::int64_t p = memory_.row_offsets[item]; p < strong_end(item); ++p) {
                MTAW_PREFETCH(memory_.row_offsets + memory_.neighbours[p]);
                MTAW_PREFETCH(memory_.totals + std::int64_t{memory_.neighbours[p]} * kPairKinds);
            }
        }
    }
    if (!known(0)) return;
    const std::int64_t last = own.list[0].item;
    for (std::int64_t p = memory_.row_offsets[last]; p < strong_end(last); ++p) {
        const std::int64_t begin = memory_.row_offsets[memory_.neighbours[p]];
        const std::int64_t length = strong_end(memory_.neighbours[p]) - begin;
        prefetch(memory_.neighbours + begin, length);
        prefetch(memory_.values + begin * kPairKinds, length * kPairKinds);
    }
}

// Where the strongest neighbours of a row end.
std::int64_t SessionMemory::strong_end(std::int64_t row) const {
    return std::min(memory_.row_offsets[row + 1], memory_.row_offsets[row] + kStrong);
}

void SessionMemory::add_second(MemoryScratch& scratch) const {
    const std::int64_t item = scratch.own_.list[0].item;
    if (item >= memory_.n_items) return;
    const auto fwd_of = [&](std::int64_t p) { return from_bfloat16(memory_.values[p * kPairKinds + kFwd]); };
    const auto share_of = [&](std::int64_t row) { return 1.0F / (memory_.totals[row * kPairKinds + kFwd] + 1.0F); };
    const float share = share_of(item);
    for (std::int64_t p = memory_.row_offsets[item]; p < strong_end(item); ++p) {
        const std::int64_t middle = memory_.neighbours[p];
        const float first = fwd_of(p) * share;
        if (first == 0) continue;
        const float through = first * share_of(middle);
        for (std::int64_t r = memory_.row_offsets[middle]; r < strong_end(middle); ++r) {
            const std::int32_t slot = slot_of_known(scratch.pool_, memory_.neighbours[r]);
            more_of(scratch.pool_, slot)[kSecond] += fwd_of(r) * through;
        }
    }
}

void SessionMemory::add_dense(const MemoryRequest& request, MemoryScratch& scratch) const {
    for (std::int64_t i = 0; i < std::min(request.n_dense, settings_.dense); ++i) {
        if (request.dense[i] < 0) break;
        const std::int32_t slot = slot_of(scratch.pool_, request.dense[i]);
        float* const more = more_of(scratch.pool_, slot);
        more[kDenseLead] = static_cast<float>(settings_.dense - i);
        more[kLogit] = request.logits[i];
    }
}

void SessionMemory::state_facts(const MemoryRequest& request, MemoryScratch& scratch) const {
    QueryFacts& facts = scratch.facts_;
    const OwnItems& own = scratch.own_;
    const std::int64_t last = own.list[0].item;
    const std::int32_t sessions = last < memory_.n_items ? memory_.counts[last * kCountKinds + kSessions] : 0;
    facts.clicks = static_cast<float>(own.clicks);
    facts.distinct = static_cast<float>(own.count);
    facts.streak = static_cast<float>(own.streak);
    facts.last_sessions = static_cast<float>(sessions);
    facts.sessions = static_cast<float>(memory_.n_sessions);
    facts.after = static_cast<float>(memory_.n_sessions + 1);
    facts.per_session = 1.0F / facts.after;
    for (int lane = kKnn; lane <= kKnnNext; ++lane) {
        // Under the normal numbers the inverse may be infinite, and the share of what has none would be NaN.
        const bool normal = facts.largest[lane] >= std::numeric_limits<float>::min();
        facts.inverse[lane] = normal ? 1.0F / facts.largest[lane] : 0.0F;
    }
    facts.best_logit = is_neural(request) && request.n_dense > 0 && request.dense[0] >= 0 ? request.logits[0] : 0.0F;
    facts.outside = is_neural(request) ? static_cast<float>(settings_.dense) : 0.0F;
}

// The pre-score of every slot, as bits: those of positive numbers have their order.
void SessionMemory::weigh(const MemoryRequest& request, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    float* const roots = scratch.roots_.data();
    for (std::int32_t slot = 0; slot < pool.count; ++slot) {
        const std::int64_t item = pool.items[slot];
        roots[slot] = item < memory_.n_items ? memory_.totals[item * kPairKinds + kSes] : 0.0F;
    }
    std::fill(roots + pool.count, roots + pool.count + kPadding, 0.0F);
    kernels_->inverse_root(roots, pool.count);
    for (std::int32_t slot = 0; slot < pool.count; ++slot) {
        float* const more = more_of(pool, slot);
        more[kRoot] = roots[slot];
        const float score = more[kPre] = pre_score(sums_of(pool, slot), more, scratch.facts_);
        scratch.keys_[static_cast<std::size_t>(slot)] = std::bit_cast<std::int32_t>(score);
    }
    constexpr std::int32_t kBanned = std::numeric_limits<std::int32_t>::min();
    if (request.allowed != nullptr) {
        for (std::int32_t slot = 0; slot < pool.count; ++slot) {
            const std::int32_t item = pool.items[slot];
            const bool fine = (request.allowed[item >> 3] >> (item & 7) & 1) != 0;
            if (!fine) scratch.keys_[static_cast<std::size_t>(slot)] = kBanned;
        }
    }
    for (std::int64_t i = 0; i < request.n_excluded; ++i) {
        if (request.excluded[i] < 0 || request.excluded[i] >= bounds_.catalog) continue;
        const std::int32_t place = pool.place[request.excluded[i]];
        if (place != 0) scratch.keys_[static_cast<std::size_t>(place) - 1] = kBanned;
    }
}

void SessionMemory::choose(const MemoryRequest& request, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    const auto n_own = static_cast<std::int32_t>(scratch.own_.count);
    const std::int32_t* const keys = scratch.keys_.get();
    const std::int32_t n_others = pool.count - n_own;
    constexpr std::int64_t kOver = 0x7F800001;  // than the bits of any number
    std::int32_t least = 0, least_turned = -static_cast<std::int32_t>(bounds_.catalog);
    if (kernels_->count_at_least(keys + n_own, n_others, 0) > settings_.others) {
        least = cut_of(*kernels_, keys + n_own, n_others, settings_.others, 0, kOver);
        const std::int64_t better = kernels_->count_at_least(keys + n_own, n_others, least + 1);
        std::vector<std::int32_t>& ties = scratch.candidates_;
        ties.clear();
        for (std::int32_t slot = n_own; slot < pool.count; ++slot) {
            if (keys[slot] == least) ties.push_back(pool.items[slot]);
        }
        const auto n_ties = static_cast<std::int64_t>(ties.size());
        if (better + n_ties > settings_.others) {
            // The lower id is the better one: ids count downwards.
            for (std::int32_t& item : ties) item = -item;
            least_turned = cut_of(*kernels_, ties.data(), n_ties, settings_.others - better, -bounds_.catalog, 1);
        }
    }
    std::vector<std::int32_t>& chosen = scratch.candidates_;
    chosen.clear();
    const auto take = [&](std::int32_t slot) {
        chosen.push_back(slot);
        const std::int64_t item = pool.items[slot];
        if (item < memory_.n_items) MTAW_PREFETCH(memory_.counts + item * kCountKinds);
    };
    for (std::int32_t slot = 0; slot < n_own; ++slot) {
        if (keys[slot] >= 0) take(slot);
    }
    // The dense ones before the rest: their logits are known, those of the rest can come from memory meanwhile.
    for (std::int64_t i = 0; i < std::min(request.n_dense, settings_.dense) && request.dense[i] >= 0; ++i) {
        const std::int32_t slot = pool.place[request.dense[i]] - 1;
        if (slot >= n_own && keys[slot] >= 0) take(slot);
    }
    for (std::int32_t slot = n_own; slot < pool.count; ++slot) {
        const bool taken = keys[slot] > least || (keys[slot] == least && -pool.items[slot] >= least_turned);
        if (taken && more_of(pool, slot)[kDenseLead] == 0) take(slot);
    }
}

// The logits that the dense list did not bring.
void SessionMemory::add_logits(const std::int32_t* slots, std::int64_t count, const float* query,
                               const ItemVectors& vectors, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    const auto score_missing = [&](bool added) {
        std::vector<Scored>& missing = scratch.missing_;
        missing.clear();
        const auto is_missing = [&](std::int32_t slot) {
            return more_of(pool, slot)[kDenseLead] == 0 && (pool.items[slot] >= vectors.n) == added;
        };
        const std::int64_t base = added ? vectors.n : 0;
        for (std::int64_t i = 0; i < count; ++i) {
            if (is_missing(slots[i])) missing.push_back({0.0F, static_cast<std::int32_t>(pool.items[slots[i]] - base)});
        }
        score_items(query, added ? vectors.added : vectors.rows, vectors.d, vectors.scale, missing.data(),
                    static_cast<std::int64_t>(missing.size()), isa_);
        std::size_t next = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            if (is_missing(slots[i])) more_of(pool, slots[i])[kLogit] = missing[next++].score;
        }
    };
    score_missing(false);
    if (vectors.added != nullptr) score_missing(true);
}

}  // namespace mtaw
