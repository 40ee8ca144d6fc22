// The trends' part of a query: their candidates, and features of all candidates.
#include <algorithm>

#include "memory/query.hpp"

namespace mtaw {

void SessionMemory::add_trending(const MemoryRequest& request, MemoryScratch& scratch) const {
    const OwnItems& own = scratch.own_;
    std::int32_t items[kTrendOwn];
    TrendsRequest trends_request{items, std::min(own.count, kTrendOwn), request.now};
    for (std::int64_t u = 0; u < trends_request.n_own; ++u) items[u] = own.list[u].item;
    if (request.times != nullptr) set_times(request.times, request.n_clicks, trends_request);
    trends_request.catalog =
        std::min(bounds_.catalog, request.n_items);  // the trends may know new items that the memory does not
    trends_request.allowed = request.allowed;
    trends_request.excluded = request.excluded;
    trends_request.n_excluded = request.n_excluded;
    trends_request.context = request.context;
    trends_request.content = request.content;
    request.trends->start(trends_request, *kernels_, scratch.trends_);
    std::copy_n(scratch.trends_.query_features(), kTrendQueryFeatures, scratch.query_features_ + kQueryFeatures);
    if (settings_.trends == 0) return;
    scratch.trending_items_.resize(static_cast<std::size_t>(settings_.trends + kTrendRising));
    scratch.trending_scores_.resize(scratch.trending_items_.size());
    std::int32_t* const ids = scratch.trending_items_.data();
    float* const scores = scratch.trending_scores_.data();
    const std::int64_t count =
        request.trends->choose_candidates(trends_request, settings_.trends, ids, scores, *kernels_, scratch.trends_);
    scratch.trending_items_.resize(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
        signals_of(scratch.pool_, slot_of(scratch.pool_, ids[i]))[kTrending] = std::max(scores[i], kMinTrending);
    }
}

void SessionMemory::measure_trends(const MemoryRequest& request, MemoryScratch& scratch) const {
    std::vector<std::int32_t>& ids = scratch.measured_items_;
    ids.clear();
    for (const std::int32_t slot : scratch.candidates_) ids.push_back(scratch.pool_.items[slot]);
    request.trends->measure(ids.data(), static_cast<std::int64_t>(ids.size()), scratch.trends_);
}

}  // namespace mtaw
