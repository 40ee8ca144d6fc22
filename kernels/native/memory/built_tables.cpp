#include "memory/built_tables.hpp"

#include <algorithm>
#include <cstddef>

#include "memory/build.hpp"
#include "memory/click_index.hpp"
#include "memory/row_builder.hpp"

namespace mtaw {

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
