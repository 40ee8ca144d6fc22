#include "memory/tables.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>

namespace mtaw {

namespace {

constexpr std::uint16_t kInfinityBits = 0x7F80;  // as bfloat16; NaNs and negative numbers have larger bits

[[noreturn]] void refuse(const std::string& array, std::int64_t index, const std::string& reason) {
    throw std::invalid_argument(array + "[" + std::to_string(index) + "] " + reason);
}

// longest: of a run; 0 = any.
void check_offsets(const char* name, const std::int64_t* offsets, std::int64_t count, std::int64_t end,
                   std::int64_t longest) {
    if (offsets[0] != 0) refuse(name, 0, "is " + std::to_string(offsets[0]) + ", not 0");
    for (std::int64_t i = 0; i < count; ++i) {
        if (offsets[i + 1] < offsets[i]) refuse(name, i + 1, "is less than the one before");
        if (longest != 0 && offsets[i + 1] - offsets[i] > longest) {
            refuse(name, i + 1, "ends a run longer than " + std::to_string(longest));
        }
    }
    if (offsets[count] != end) {
        refuse(name, count, "is " + std::to_string(offsets[count]) + ", not " + std::to_string(end));
    }
}

void check_range(const char* name, const std::int32_t* values, std::int64_t count, std::int64_t end) {
    // All in one go, so that compilers vectorize it: a negative number is a large unsigned one.
    std::uint32_t largest = 0;
    for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<std::uint32_t>(values[i]));
    if (count == 0 || largest < end) return;
    for (std::int64_t i = 0; i < count; ++i) {
        if (values[i] < 0 || values[i] >= end) {
            refuse(name, i, "is " + std::to_string(values[i]) + ", outside 0.." + std::to_string(end - 1));
        }
    }
}

void check_values(const std::uint16_t* values, std::int64_t count) {
    std::uint16_t largest = 0;
    for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, values[i]);
    if (largest < kInfinityBits) return;
    for (std::int64_t i = 0; i < count; ++i) {
        if (values[i] >= kInfinityBits) refuse("values", i / kPairKinds, "has a value that is negative or not finite");
    }
}

void check_totals(const float* totals, std::int64_t n_items) {
    for (std::int64_t i = 0; i < n_items * kPairKinds; ++i) {
        if (!(totals[i] >= 0 && std::isfinite(totals[i]))) {
            refuse("totals", i / kPairKinds, "has a value that is negative or not finite");
        }
    }
}

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
    check_values(tables.values, n_pairs * kPairKinds);
    check_totals(tables.totals, tables.n_items);
    check_postings(tables);
    check_counts(tables);
}

}  // namespace mtaw
