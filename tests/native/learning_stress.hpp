// A delta that one thread writes to while many query it: its final state must be, to the bit, what the same events
// leave without queries.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "memory/delta.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"

namespace mtaw {

struct LearningShop {
    const MemoryView tables;
    const MemorySettings settings;
    const MemoryQuerySettings query;
    const RankerNet& ranker;
    const Isa isa;
};

constexpr std::int64_t kRoom = 40;  // items that the tables do not know
constexpr std::int64_t kRanked = 25;

using LearningRandom = std::mt19937_64;

inline std::int64_t one_of(LearningRandom& random, std::int64_t count) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(count));
}

// The events of `seed`, in calls as `portions` has them.
inline void learn(MemoryDelta& delta, std::uint64_t seed, std::int64_t n_steps, std::uint64_t portions) {
    LearningRandom random(seed), cut(portions);
    std::vector<std::int64_t> handles;
    std::vector<std::int32_t> items;
    const auto flush = [&] {
        delta.click(handles.data(), items.data(), static_cast<std::int64_t>(items.size()));
        handles.clear();
        items.clear();
    };
    for (std::int64_t step = 0; step < n_steps; ++step) {
        const std::int64_t handle = one_of(random, 12) + step / 8;
        if (random() % 40 == 0) {
            flush();
            const std::int64_t session = one_of(random, delta.base().tables().n_sessions);
            switch (random() % 3) {
                case 0: delta.forget(handle); break;
                case 1: delta.forget_base(session); break;
                default:
                    if (delta.sessions().find(handle) < 0 && !delta.base().is_dropped(session))
                        delta.resume(handle, session);
            }
        }
        handles.push_back(handle);
        items.push_back(
            static_cast<std::int32_t>(std::min(one_of(random, delta.n_catalog()), one_of(random, delta.n_catalog()))));
        if (cut() % 9 == 0) flush();
    }
    flush();
}

struct LearnedAnswer {
    std::vector<std::int32_t> ids;
    std::vector<float> scores;

    bool operator==(const LearnedAnswer& other) const {
        const auto same = [](float a, float b) {
            return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
        };
        return ids == other.ids &&
               std::equal(scores.begin(), scores.end(), other.scores.begin(), other.scores.end(), same);
    }
};

inline LearnedAnswer ask(const LearningShop& shop, const SessionMemory& memory, LearningRandom& random,
                         MemoryScratch& scratch) {
    std::vector<std::int32_t> clicks;
    if (random() % 8 == 0) {  // the query of a session in the delta
        const MemoryDelta::Ordered sessions = memory.delta()->ordered();
        const auto count = static_cast<std::int64_t>(sessions.handles.size());
        if (const auto s = static_cast<std::size_t>(one_of(random, std::max<std::int64_t>(count, 1))); count > 0) {
            clicks.assign(sessions.items.begin() + sessions.offsets[s],
                          sessions.items.begin() + sessions.offsets[s + 1]);
        }
    }
    for (std::int64_t m = clicks.empty() ? 1 + one_of(random, 12) : 0; m > 0; --m) {
        clicks.push_back(static_cast<std::int32_t>(one_of(random, memory.n_catalog())));
    }
    LearnedAnswer answer{std::vector<std::int32_t>(kRanked), std::vector<float>(kRanked)};
    const MemoryRequest request{clicks.data(), static_cast<std::int64_t>(clicks.size())};
    memory.rank(request, nullptr, shop.ranker, kRanked, answer.ids.data(), answer.scores.data(), scratch);
    return answer;
}

// Whether it is a ranking: items of the catalog, none twice, the best first, then nothing.
inline bool is_ranking(const LearnedAnswer& answer, std::int64_t n_catalog) {
    std::vector<std::int32_t> found(answer.ids);
    std::erase(found, -1);
    const auto count = static_cast<std::ptrdiff_t>(found.size());
    const bool sorted = std::is_sorted(answer.scores.begin(), answer.scores.begin() + count, std::greater<>());
    std::sort(found.begin(), found.end());
    const bool distinct = std::adjacent_find(found.begin(), found.end()) == found.end();
    return sorted && distinct && (found.empty() || (found.front() >= 0 && found.back() < n_catalog));
}

inline bool learn_while_asked(const LearningShop& shop, std::int64_t n_threads, std::int64_t n_steps) {
    constexpr std::uint64_t kEvents = 7;
    const std::int64_t n_catalog = shop.tables.n_items + kRoom;
    MemoryDelta delta(shop.tables, shop.settings, n_catalog, 50), alone(shop.tables, shop.settings, n_catalog, 50);
    const SessionMemory memory(shop.tables, shop.query, n_catalog, shop.isa, &delta);
    std::atomic<bool> done{false}, fine{true};
    std::vector<std::thread> readers;
    for (std::int64_t number = 0; number < n_threads; ++number) {
        readers.emplace_back([&, number] {
            LearningRandom random(static_cast<std::uint64_t>(number) + 31);
            MemoryScratch scratch;
            while (!done) {
                if (!is_ranking(ask(shop, memory, random, scratch), n_catalog)) fine = false;
                if (random() % 64 == 0 && delta.sizes().clicks < 0) fine = false;
            }
        });
    }
    learn(delta, kEvents, n_steps, 1);
    done = true;
    for (std::thread& reader : readers) reader.join();
    if (!fine) std::printf("while a thread clicked, an answer was no ranking\n");
    learn(alone, kEvents, n_steps, 2);
    const SessionMemory quiet(shop.tables, shop.query, n_catalog, shop.isa, &alone);
    LearningRandom random(3), again(3);
    MemoryScratch scratch;
    for (int q = 0; q < 100; ++q) {
        if (ask(shop, memory, random, scratch) == ask(shop, quiet, again, scratch)) continue;
        std::printf("query %d: the delta with queries meanwhile is not the one without\n", q);
        fine = false;
    }
    return fine;
}

}  // namespace mtaw
