// Keeps what a query met, where its request asks for it. Nothing here decides anything.
#include "memory/query_trace.hpp"

#include <limits>

#include "memory/query.hpp"

namespace mtaw {

void SessionMemory::trace_pool(QueryTrace& trace, const MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    const auto n_dense = static_cast<std::int32_t>(settings_.dense);
    trace = {};
    trace.n_own = scratch.own_.count;
    for (std::int32_t slot = 0; slot < pool.count; ++slot) {
        const float* const signals = signals_of(pool, slot);
        const auto lead = static_cast<std::int32_t>(signals[kDenseLead]);
        trace.items.push_back(pool.items[slot]);
        trace.reached.push_back(sums_of(pool, slot)[kReached]);
        trace.together.push_back(signals[kPreScore]);
        trace.second.push_back(signals[kSecond]);
        trace.trending.push_back(signals[kTrending]);
        trace.dense_rank.push_back(lead == 0 ? 0 : n_dense - lead + 1);
        trace.quick.push_back(quick_score(signals, quick_per_dense()));
        const bool is_banned =
            scratch.keys_[static_cast<std::size_t>(slot)] == std::numeric_limits<std::int32_t>::min();
        trace.is_allowed.push_back(is_banned ? 0 : 1);
    }
    trace.is_candidate.resize(trace.items.size(), 0);
    for (const std::int32_t slot : scratch.candidates_) trace.is_candidate[static_cast<std::size_t>(slot)] = 1;
}

void SessionMemory::trace_tile(std::int64_t begin, std::int64_t count, std::int64_t depth, const float* columns,
                               const RankerNet& ranker, QueryTrace& trace, const MemoryScratch& scratch) {
    const auto width = static_cast<std::size_t>(ranker.n_features());
    for (std::int64_t i = 0; i < count; ++i) {
        trace.ranked.push_back(scratch.pool_.items[scratch.candidates_[static_cast<std::size_t>(begin + i)]]);
        trace.features.resize(trace.features.size() + width);
        ranker.read_row(scratch.query_features_, columns + i, depth,
                        trace.features.data() + trace.features.size() - width);
    }
}

}  // namespace mtaw
