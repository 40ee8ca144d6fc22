#include "memory/built_tables.hpp"

#include <algorithm>
#include <cstddef>

#include "memory/build.hpp"
#include "memory/click_index.hpp"
#include "memory/row_builder.hpp"

namespace mtaw {

TablesView BuiltTables::view(const PastSessions& sessions) const {
    return {sessions.n_items,  sessions.count,    row_offsets.data(),  neighbors.data(), latest.data(),    values.data(),
            totals.data(),     counts.data(),     post_offsets.data(), postings.data(),  sessions.offsets, sessions.items};
}

BuiltTables build_tables(const PastSessions& sessions, const MemorySettings& settings) {
    check_settings(settings);
    const ClickIndex index = index_clicks(sessions);
    const auto n = static_cast<std::size_t>(sessions.n_items);
    const auto at_most = [](std::size_t count, std::int64_t limit) {
        return limit == 0 ? count : std::min(count, static_cast<std::size_t>(limit));
    };
    BuiltTables made;
    made.row_offsets.assign(n + 1, 0);
    made.post_offsets.assign(n + 1, 0);
    made.totals.resize(n * kPairKinds);
    made.counts.resize(n * kCountKinds);
    for (std::size_t item = 0; item < n; ++item) {
        const std::size_t held = at_most(static_cast<std::size_t>(index.sessions[item]), settings.max_postings);
        made.post_offsets[item + 1] = made.post_offsets[item] + static_cast<std::int64_t>(held);
    }
    made.postings.resize(static_cast<std::size_t>(made.post_offsets[n]));
    // Rows are mostly short; more grow the arrays.
    const auto some = static_cast<std::size_t>(2 * sessions.offsets[sessions.count]);
    made.neighbors.reserve(some);
    made.latest.reserve(some);
    made.values.reserve(some * kPairKinds);
    RowBuilder builder(sessions, settings, index);
    for (std::size_t place = 0; place < n; ++place) {
        const auto item = static_cast<std::int32_t>(place);
        const std::size_t begin = made.neighbors.size();
        const std::size_t end = begin + at_most(builder.sum_pairs(item), settings.max_neighbors);
        made.neighbors.resize(end);
        made.latest.resize(end);
        made.values.resize(end * kPairKinds);
        made.row_offsets[place + 1] = static_cast<std::int64_t>(end);
        const TablesOut out{sessions.n_items,          sessions.count,       made.row_offsets.data(), made.neighbors.data(),
                            made.latest.data(),        made.values.data(),   made.totals.data(),      made.counts.data(),
                            made.post_offsets.data(),  made.postings.data(), nullptr,                 nullptr};
        builder.write_summed(item, out);
        builder.write_counts(item, out);
        builder.write_postings(item, out);
    }
    return made;
}

}  // namespace mtaw
