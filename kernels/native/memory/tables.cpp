#include "memory/tables.hpp"

#include "array_checks.hpp"

namespace mtaw {
namespace {

void check_postings(const TablesView& tables) {
    for (std::int64_t item = 0; item < tables.n_items; ++item) {
        for (std::int64_t p = tables.post_offsets[item] + 1; p < tables.post_offsets[item + 1]; ++p) {
            if (tables.postings[p] <= tables.postings[p - 1]) {
                refuse("postings", p, "does not come after the one before");
            }
        }
    }
}

void check_counts(const TablesView& tables) {
    for (std::int64_t item = 0; item < tables.n_items; ++item) {
        const std::int32_t* counts = tables.counts + item * kCountKinds;
        const bool ordered = counts[kRepeatedAtOnce] >= 0 && counts[kRepeatedAtOnce] <= counts[kRepeatedLater] &&
                             counts[kRepeatedLater] <= counts[kClicks] && counts[kSessions] >= 0 &&
                             counts[kSessions] <= counts[kClicks] && counts[kSessions] <= tables.n_sessions;
        const bool newest =
            counts[kSessions] > 0 ? counts[kNewest] >= 0 && counts[kNewest] < tables.n_sessions : counts[kNewest] == -1;
        if (!ordered || !newest) refuse("counts", item, "holds numbers that do not fit each other");
    }
}

}  // namespace

void check_tables(const TablesView& tables, const MemorySettings& settings, std::int64_t n_pairs,
                  std::int64_t n_postings, std::int64_t n_clicks) {
    check_offsets("row_offsets", tables.row_offsets, tables.n_items, n_pairs, settings.max_neighbors);
    check_offsets("post_offsets", tables.post_offsets, tables.n_items, n_postings, settings.max_postings);
    check_offsets("session_offsets", tables.session_offsets, tables.n_sessions, n_clicks, 0);
    check_range("neighbors", tables.neighbors, n_pairs, tables.n_items);
    check_range("latest", tables.latest, n_pairs, tables.n_sessions);
    check_range("postings", tables.postings, n_postings, tables.n_sessions);
    check_range("session_items", tables.session_items, n_clicks, tables.n_items);
    check_bfloat16_sums("values", tables.values, n_pairs, kPairKinds);
    check_sums("totals", tables.totals, tables.n_items, kPairKinds);
    check_postings(tables);
    check_counts(tables);
}

}  // namespace mtaw
