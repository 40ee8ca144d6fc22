// Random logs and their memory tables, for the programs that test these without Python.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "memory/build.hpp"
#include "memory/tables.hpp"

namespace {

constexpr std::int64_t kItems = 150;  // more than one block of items for every thread
int failures = 0;
std::mt19937_64 generator(11);

inline std::int64_t below(std::int64_t end) {
    return std::uniform_int_distribution<std::int64_t>(0, end - 1)(generator);
}

struct Log {
    std::vector<std::int32_t> items;
    std::vector<std::int64_t> offsets{0};
    std::int64_t n_items = kItems;

    void add(std::int64_t sessions) {
        for (std::int64_t s = 0; s < sessions; ++s) {
            for (std::int64_t m = below(25); m > 0; --m) {
                items.push_back(static_cast<std::int32_t>(std::min(below(n_items), below(n_items))));
            }
            offsets.push_back(static_cast<std::int64_t>(items.size()));
        }
    }

    [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(offsets.size()) - 1; }

    // Without the first sessions.
    [[nodiscard]] Log without(std::int64_t expired) const {
        const std::int64_t begin = offsets[static_cast<std::size_t>(expired)];
        Log rest{{items.begin() + begin, items.end()}, {}, n_items};
        for (std::size_t s = static_cast<std::size_t>(expired); s < offsets.size(); ++s) {
            rest.offsets.push_back(offsets[s] - begin);
        }
        return rest;
    }

    [[nodiscard]] mtaw::PastSessions sessions() const { return {items.data(), offsets.data(), count(), n_items}; }
};

// Arrays of exactly the tables' sizes, so that AddressSanitizer sees a step past any end.
struct Tables {
    Log log;
    std::vector<std::int64_t> row_offsets, post_offsets;
    std::vector<std::int32_t> neighbors, latest, counts, postings;
    std::vector<std::uint16_t> values;
    std::vector<float> totals;

    [[nodiscard]] mtaw::TablesView view() const {
        return {log.n_items,         log.count(),     row_offsets.data(), neighbors.data(),
                latest.data(),       values.data(),   totals.data(),      counts.data(),
                post_offsets.data(), postings.data(), log.offsets.data(), log.items.data()};
    }

    bool operator==(const Tables& other) const {
        return row_offsets == other.row_offsets && post_offsets == other.post_offsets && neighbors == other.neighbors &&
               latest == other.latest && counts == other.counts && postings == other.postings &&
               values == other.values && totals == other.totals;
    }

    void check(const mtaw::MemorySettings& settings) const {
        mtaw::check_tables(view(), settings, static_cast<std::int64_t>(neighbors.size()),
                           static_cast<std::int64_t>(postings.size()), static_cast<std::int64_t>(log.items.size()));
    }
};

inline Tables build(const Log& log, const mtaw::MemorySettings& settings, int threads,
                    const mtaw::OlderTables* older = nullptr) {
    Tables tables;
    tables.log = log;
    const mtaw::TableBuild plan(log.sessions(), settings, threads, older, {0, log.n_items});
    const auto n_items = static_cast<std::size_t>(log.n_items);
    const auto n_pairs = static_cast<std::size_t>(plan.n_pairs());
    tables.row_offsets.resize(n_items + 1);
    tables.post_offsets.resize(n_items + 1);
    tables.neighbors.resize(n_pairs);
    tables.latest.resize(n_pairs);
    tables.values.resize(n_pairs * mtaw::kPairKinds);
    tables.totals.resize(n_items * mtaw::kPairKinds);
    tables.counts.resize(n_items * mtaw::kCountKinds);
    tables.postings.resize(static_cast<std::size_t>(plan.n_postings()));
    plan.write({log.n_items, log.count(), tables.row_offsets.data(), tables.neighbors.data(), tables.latest.data(),
                tables.values.data(), tables.totals.data(), tables.counts.data(), tables.post_offsets.data(),
                tables.postings.data(), nullptr, nullptr});
    return tables;
}

inline void expect(bool holds, const char* what) {
    if (holds) return;
    ++failures;
    std::printf("failed: %s\n", what);
}

template <typename T>
void damage(std::vector<T>& array) {
    if (!array.empty()) {
        reinterpret_cast<unsigned char*>(array.data())[below(static_cast<std::int64_t>(array.size() * sizeof(T)))] ^=
            static_cast<unsigned char>(1 << below(8));
    }
}

// One bit of one array changed.
inline void damage_some(Tables& tables) {
    switch (below(10)) {
        case 0: damage(tables.row_offsets); break;
        case 1: damage(tables.post_offsets); break;
        case 2: damage(tables.log.offsets); break;
        case 3: damage(tables.log.items); break;
        case 4: damage(tables.neighbors); break;
        case 5: damage(tables.latest); break;
        case 6: damage(tables.counts); break;
        case 7: damage(tables.postings); break;
        case 8: damage(tables.values); break;
        default: damage(tables.totals); break;
    }
}

}  // namespace
