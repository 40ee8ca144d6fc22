#include "memory/query.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "prefetch.hpp"

namespace mtaw {
namespace {

std::int64_t longest_run(const std::int64_t* offsets, std::int64_t count) {
    std::int64_t longest = 0;
    for (std::int64_t i = 0; i < count; ++i) longest = std::max(longest, offsets[i + 1] - offsets[i]);
    return longest;
}

// Candidates that trends bring.
std::int64_t max_trending(const MemoryQuerySettings& settings) {
    return settings.trends == 0 ? 0 : settings.trends + kTrendRising;
}

// The least power of two, at least 64, that holds `length`.
std::int64_t rounded_capacity(std::int64_t length) {
    std::int64_t capacity = 64;
    while (capacity < length) capacity *= 2;
    return capacity;
}

// Empties the pool of a query, also of one that runs out of memory.
using PoolGuard = std::unique_ptr<MemoryScratch, void (*)(MemoryScratch*)>;

void check_setting(const char* name, std::int64_t value, std::int64_t minimum, std::int64_t maximum) {
    if (value < minimum || value > maximum) {
        throw std::invalid_argument(std::string("the memory's setting ") + name + " must be in " +
                                    std::to_string(minimum) + ".." + std::to_string(maximum) + ", not " +
                                    std::to_string(value));
    }
}

}  // namespace

SessionMemory::SessionMemory(const MemoryView& memory, const MemoryQuerySettings& settings, std::int64_t n_catalog,
                             Isa isa, const MemoryDelta* delta)
    : memory_(memory),
      delta_(delta),
      merged_(memory_, delta),
      settings_(settings),
      isa_(isa),
      kernels_(&memory_kernels(isa)) {
    check_setting("own", settings.own, 1, kMaxOwn);
    check_setting("others", settings.others, 1, 1 << 16);
    check_setting("dense", settings.dense, 0, 1 << 16);
    check_setting("trends", settings.trends, 0, 1 << 16);
    check_setting("ranked", settings.ranked, 0, 1 << 16);
    if (n_catalog < memory.n_items) {
        throw std::invalid_argument("the memory is for " + std::to_string(memory.n_items) + " items, the catalog has " +
                                    std::to_string(n_catalog) + "; make both from one training");
    }
    if (delta != nullptr &&
        (delta->n_catalog() != n_catalog || delta->base().tables().counts != memory.counts ||
         delta->base().tables().recency != memory.recency || delta->base().tables().once_from != memory.once_from)) {
        throw std::invalid_argument(
            "the delta is of other tables, or for more or fewer items than the catalog; "
            "make it from these tables with a capacity of " +
            std::to_string(n_catalog - memory.n_items));
    }
    longest_row_ = longest_run(memory.row_offsets, memory.n_items);
    bounds_ = {
        .catalog = n_catalog,
        .candidates = settings.own + settings.others + settings.dense + max_trending(settings),
    };
}

MemoryBounds SessionMemory::bounds() const {
    MemoryBounds bounds = bounds_;
    std::int64_t longest_row = longest_row_;
    if (delta_ != nullptr) {
        // Rounded up, so that working memory does not grow with every session.
        longest_row += rounded_capacity(delta_->longest_row());
    }
    const std::int64_t max_slots =
        settings_.own * (1 + longest_row) + kStrong * kStrong + settings_.dense + max_trending(settings_);
    bounds.slots = std::min(bounds.catalog, max_slots);
    return bounds;
}

// Empties the pool for the next query; an empty pool's arrays may be gone.
void SessionMemory::clear_pool(MemoryScratch& scratch) {
    Pool& pool = scratch.pool_;
    for (std::int32_t slot = 0; slot < pool.count; ++slot) pool.slot_plus_one[pool.items[slot]] = 0;
    std::fill(pool.sums, sums_of(pool, pool.count), 0.0F);
    std::fill(pool.signals, signals_of(pool, pool.count), 0.0F);
    pool.count = 0;
}

std::int64_t SessionMemory::features(const MemoryRequest& request, const ItemVectors* vectors, std::int32_t* ids,
                                     float* features, MemoryScratch& scratch) const {
    const MemoryDelta::ReadLock delta_lock = lock();
    const TrendsLock trends_lock = lock(request.trends);
    const PoolGuard guard(&scratch, [](MemoryScratch* used) { clear_pool(*used); });
    gather_candidates(request, vectors, 0, scratch);
    const auto count = static_cast<std::int64_t>(scratch.candidates_.size());
    const float* const columns = scratch.columns_.data() + kBefore * kTile;
    const float* const near_types = columns_of(request, scratch);
    const float* const side_columns = near_types + request.n_types * kTile;
    const std::int64_t width = n_features(request), n_trends = request.trends == nullptr ? 0 : kTrendColumns;
    const std::int64_t n_side = SessionMemory::n_side(request);
    const float* const last_type = scratch.query_features_ + kQueryFeatures + (n_trends == 0 ? 0 : kTrendQueryFeatures);
    for (std::int64_t begin = 0; begin < count; begin += kTile) {
        const std::int64_t n_tile = std::min(kTile, count - begin);
        const bool own = fill_tile_columns(begin, request, vectors, scratch) - n_before(request) > kCandidateFeatures;
        const std::int64_t n_columns = own ? kColumns : kCandidateFeatures;
        const std::int32_t* const slots = scratch.candidates_.data() + begin;
        for (std::int64_t i = 0; i < n_tile; ++i) {
            ids[begin + i] = scratch.pool_.items[slots[i]];
            float* row = features + (begin + i) * width;
            row = std::copy(scratch.query_features_, scratch.query_features_ + kQueryFeatures, row);
            for (std::int64_t k = 0; k < n_columns; ++k) *row++ = columns[k * kTile + i];
            row = std::fill_n(row, kColumns - n_columns, 0.0F);
            if (n_trends > 0) row = std::copy_n(scratch.trends_.query_features(), kTrendQueryFeatures, row);
            for (std::int64_t k = 0; k < n_trends; ++k) *row++ = side_columns[(n_side + k) * kTile + i];
            for (std::int64_t k = 0; k < n_side; ++k) *row++ = side_columns[k * kTile + i];
            row = std::copy_n(last_type, request.n_types, row);
            for (std::int64_t k = 0; k < request.n_types; ++k) *row++ = near_types[k * kTile + i];
            for (std::int64_t k = 0; k < request.n_types; ++k)
                *row++ = own ? columns[(kColumns + k) * kTile + i] : 0.0F;
        }
    }
    return count;
}

void SessionMemory::rank(const MemoryRequest& request, const ItemVectors* vectors, const RankerNet& ranker,
                         std::int64_t k, std::int32_t* ids, float* scores, MemoryScratch& scratch) const {
    if (ranker.has_trends() != (request.trends != nullptr)) {
        throw std::invalid_argument(ranker.has_trends()
                                        ? "the ranker has features of trends, but the request has no trends"
                                        : "the request comes with trends, which the ranker does not know");
    }
    if (ranker.n_side() != n_side(request)) {
        throw std::invalid_argument("the ranker has " + std::to_string(ranker.n_side()) +
                                    " features of context and content, "
                                    "the request has " +
                                    std::to_string(n_side(request)));
    }
    if (ranker.n_types() != request.n_types) {
        throw std::invalid_argument("the ranker reads " + std::to_string(ranker.n_types()) +
                                    " types of clicks, the request has " + std::to_string(request.n_types));
    }
    const MemoryDelta::ReadLock delta_lock = lock();
    const TrendsLock trends_lock = lock(request.trends);
    const PoolGuard guard(&scratch, [](MemoryScratch* used) { clear_pool(*used); });
    gather_candidates(request, vectors, k, scratch);
    const auto count = static_cast<std::int64_t>(scratch.candidates_.size());
    const ItemVectors* const neural = is_neural(request) ? vectors : nullptr;
    ranker.start(scratch.query_features_, *kernels_, scratch.ranker_);
    scratch.scored_.clear();
    float lowest = kInfinity;
    for (std::int64_t begin = 0; begin < count; begin += kTile) {
        const std::int64_t n_tile = std::min(kTile, count - begin),
                           n_columns = fill_tile_columns(begin, request, vectors, scratch);
        const float* rows[kTile];
        float tile_scores[kTile];
        float* const columns = columns_of(request, scratch);
        if (request.trace != nullptr) [[unlikely]]
            trace_tile(begin, n_tile, n_columns, columns, ranker, *request.trace, scratch);
        ranker.score(columns, n_columns, n_tile, list_rows_ahead(begin + kTile, neural, scratch, rows), *kernels_,
                     scratch.ranker_, tile_scores);
        for (std::int64_t i = 0; i < n_tile; ++i) {
            const std::int32_t slot = scratch.candidates_[static_cast<std::size_t>(begin + i)];
            scratch.scored_.push_back({tile_scores[i], scratch.pool_.items[slot]});
            lowest = std::min(lowest, tile_scores[i]);
        }
        if (request.trace != nullptr) [[unlikely]]
            request.trace->scores.insert(request.trace->scores.end(), tile_scores, tile_scores + n_tile);
    }
    std::int64_t n_written = std::min(k, count);
    write_best(n_written, ids, scores, scratch);
    if (count == 0) lowest = 0.0F;
    if (n_written < k && !scratch.unranked_.empty()) {
        n_written += append_unranked(lowest, k - n_written, ids + n_written, scores + n_written, scratch);
        lowest = scores[n_written - 1];
    }
    std::fill(ids + n_written, ids + k, -1);
    std::fill(scores + n_written, scores + k, -kInfinity);
    if (n_written < k && vectors != nullptr) {
        append_dense(request, vectors->scale, lowest, k - n_written, ids + n_written, scores + n_written, scratch);
    }
}

void SessionMemory::gather_candidates(const MemoryRequest& request, const ItemVectors* vectors, std::int64_t k,
                                      MemoryScratch& scratch) const {
    check_request(request);
    scratch.fit(bounds());
    const MergedTables::SesTotals ses = merged_.ses_totals();
    scratch.pool_ = {scratch.slot_plus_one_.data(),
                     scratch.items_.get(),
                     scratch.sums_.data(),
                     scratch.signals_.data(),
                     0,
                     ses.first,
                     ses.stride,
                     ses.count};
    const std::int64_t used = std::min(request.n_clicks, kMaxClicks);
    list_own_items(request.clicks + request.n_clicks - used, used, settings_.own, scratch.own_, scratch.pool_);
    scratch.types_.set(request.clicks, request.types, request.n_clicks, request.n_types, scratch.own_, scratch.pool_);
    scratch.types_.fill_query(scratch.query_features_ + kQueryFeatures +
                              (request.trends == nullptr ? 0 : kTrendQueryFeatures));
    find_current_session(request, scratch);
    add_neighbors(scratch);
    for (std::int64_t u = 0; request.trends != nullptr && u < std::min(scratch.own_.count, kTrendOwn); ++u) {
        request.trends->prefetch_row(scratch.own_.list[u].item);
    }
    add_two_step(scratch);
    add_dense(request, scratch);
    scratch.trending_items_.clear();
    if (request.trends != nullptr) add_trending(request, scratch);
    set_query_facts(request, scratch);
    compute_pre_scores(request, scratch);
    choose_candidates(request, scratch);
    if (request.trace != nullptr) [[unlikely]]
        trace_pool(*request.trace, scratch);
    scratch.unranked_.clear();
    if (request.trends != nullptr && k > 0 && settings_.ranked > 0) prune_candidates(request, k, scratch);
    for (const std::int32_t slot : scratch.candidates_) merged_.prefetch_counts(scratch.pool_.items[slot]);
    if (request.trends != nullptr) measure_trends(request, scratch);
    const float* rows[kTile];
    const RowsAhead first = list_rows_ahead(0, is_neural(request) ? vectors : nullptr, scratch, rows);
    for (std::int64_t i = 0; i < first.count; ++i) prefetch(first.rows[i], first.floats);
    query_features(scratch.facts_, *kernels_, scratch.query_features_);
}

std::int64_t SessionMemory::fill_tile_columns(std::int64_t begin, const MemoryRequest& request,
                                              const ItemVectors* vectors, MemoryScratch& scratch) const {
    const std::int64_t count = std::min(kTile, static_cast<std::int64_t>(scratch.candidates_.size()) - begin);
    const std::int32_t* const slots = scratch.candidates_.data() + begin;
    for (std::int64_t i = 0; delta_ != nullptr && i < count; ++i)
        merged_.prefetch_newest(scratch.pool_.items[slots[i]]);
    if (is_neural(request)) add_logits(slots, count, request.query, *vectors, scratch);
    for (std::int64_t i = 0; delta_ != nullptr && i < count; ++i) {
        float& latest = signals_of(scratch.pool_, slots[i])[kLatest];
        if (latest > 0) {
            const auto raw = static_cast<std::int64_t>(latest) - 1;
            latest = static_cast<float>(merged_.number_of_latest(raw, scratch.current_) + 1);
        }
    }
    float* const columns = scratch.columns_.data() + kBefore * kTile;
    std::int64_t n_columns = fill_tile(source(scratch), slots, count, *kernels_, columns);
    float* const first_columns = columns_of(request, scratch);
    if (request.n_types > 0) {
        scratch.types_.fill_near(scratch.pool_, slots, count, first_columns);
        if (n_columns == kColumns) {
            scratch.types_.fill_own(slots, count, columns + kColumns * kTile);
            n_columns += request.n_types;
        }
    }
    if (request.trends != nullptr) {
        float* const side_columns = first_columns + request.n_types * kTile;
        request.trends->fill(begin, count, side_columns + SessionMemory::n_side(request) * kTile, side_columns,
                             *kernels_, scratch.trends_);
    }
    return n_before(request) + n_columns;
}

RowsAhead SessionMemory::list_rows_ahead(std::int64_t begin, const ItemVectors* vectors, const MemoryScratch& scratch,
                                         const float** rows) const {
    if (vectors == nullptr) return {rows, 0, 0};
    const std::int64_t end = std::min(begin + kTile, static_cast<std::int64_t>(scratch.candidates_.size()));
    std::int64_t count = 0;
    for (std::int64_t i = begin; i < end; ++i) {
        const std::int32_t slot = scratch.candidates_[static_cast<std::size_t>(i)];
        const std::int64_t item = scratch.pool_.items[slot];
        if (signals_of(scratch.pool_, slot)[kDenseLead] == 0 && item < vectors->n) {
            rows[count++] = vectors->rows + item * vectors->d;
        }
    }
    return {rows, count, vectors->d};
}

void SessionMemory::check_request(const MemoryRequest& request) const {
    if (request.n_clicks < 1) throw std::invalid_argument("a session to rank has no clicks; leave it out");
    if (request.n_types < 0 || request.n_types > kMaxTypes) {
        throw std::invalid_argument("a ranker reads at most " + std::to_string(kMaxTypes) + " types of clicks, not " +
                                    std::to_string(request.n_types));
    }
    if (request.trends != nullptr && request.trends->capacity() < bounds_.catalog) {
        throw std::invalid_argument("the trends have capacity for " + std::to_string(request.trends->capacity()) +
                                    " items, the catalog for " + std::to_string(bounds_.catalog));
    }
    for (std::int64_t t = 0; t < request.n_clicks; ++t) {
        if (request.clicks[t] < 0 || request.clicks[t] >= bounds_.catalog) {
            throw std::out_of_range("click " + std::to_string(t) + " has internal item id " +
                                    std::to_string(request.clicks[t]) + ", outside 0.." +
                                    std::to_string(bounds_.catalog - 1));
        }
    }
}

namespace {

std::unique_ptr<std::int32_t[]> integers(std::int64_t size) {
    return std::unique_ptr<std::int32_t[]>(new std::int32_t[static_cast<std::size_t>(size + kPadding)]);
}

}  // namespace

void MemoryScratch::fit(const MemoryBounds& wanted) {
    const auto size = [](std::int64_t count) { return static_cast<std::size_t>(count); };
    // The bounds are raised last: where memory runs out on the way, the next call tries again.
    MemoryBounds bounds = bounds_;
    if (wanted.catalog > bounds.catalog) slot_plus_one_.resize(size(bounds.catalog = wanted.catalog), 0);
    if (wanted.slots > bounds.slots) {
        bounds.slots = wanted.slots;
        items_ = integers(bounds.slots);
        sums_ = ZeroFloats(bounds.slots * kSumLanes);
        signals_ = ZeroFloats(bounds.slots * kSignalLanes);
        inverse_roots_ = AlignedFloats(bounds.slots + kPadding);
        keys_ = integers(bounds.slots);
        candidates_.reserve(size(bounds.slots + kPadding));
    }
    if (wanted.candidates > bounds.candidates) {
        bounds.candidates = wanted.candidates;
        scored_.reserve(size(bounds.candidates));
        score_keys_ = integers(bounds.candidates);
        ties_ = integers(bounds.candidates);
    }
    if (columns_.size() == 0) columns_ = AlignedFloats((kMaxSide + kTrendColumns + kColumns + 2 * kMaxTypes) * kTile);
    missing_.reserve(size(kTile));
    bounds_ = bounds;
}

}  // namespace mtaw
