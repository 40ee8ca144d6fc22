// A delta of the memory that one thread writes to while others query it, for the sanitizers: in the end it must be, to
// the bit, what the same events leave without queries.
//
//     learning_check ISA...
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "isa.hpp"
#include "memory/delta.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"
#include "memory_log.hpp"

namespace {

using Random = std::mt19937_64;

constexpr std::int64_t kRoom = 40;  // items that the tables do not know
constexpr std::int64_t kCatalog = kItems + kRoom, kRanked = 25, kSteps = 1500;
constexpr int kReaders = 8;
constexpr std::uint64_t kEvents = 7;
constexpr mtaw::MemorySettings kSettings{12, 40, 10.0, 10, 5};

std::int64_t one_of(Random& random, std::int64_t count) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(count));
}

mtaw::RankerNet random_ranker() {
    constexpr std::int64_t f = mtaw::kFeatures, n1 = 32, n2 = 16;
    const auto numbers = [](std::int64_t count, float spread) {
        std::normal_distribution<float> normal(0, spread);
        std::vector<float> values(static_cast<std::size_t>(count));
        for (float& value : values) value = normal(generator);
        return values;
    };
    const auto mean = numbers(f, 1), scale = numbers(f, 1), linear = numbers(f, 0.1F), w1 = numbers(f * n1, 0.1F),
               b1 = numbers(n1, 1), w2 = numbers(n1 * n2, 0.1F), b2 = numbers(n2, 1), w3 = numbers(n2, 0.2F);
    return mtaw::RankerNet({f, n1, n2, mean.data(), scale.data(), linear.data(), w1.data(), b1.data(), w2.data(),
                            b2.data(), w3.data(), 0.5F});
}

// The same events every time, in calls as `portions` has them.
void learn(mtaw::MemoryDelta& delta, std::uint64_t portions) {
    Random random(kEvents), cut(portions);
    std::vector<std::int64_t> handles;
    std::vector<std::int32_t> items;
    const auto flush = [&] {
        delta.click(handles.data(), items.data(), static_cast<std::int64_t>(items.size()));
        handles.clear();
        items.clear();
    };
    for (std::int64_t step = 0; step < kSteps; ++step) {
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
        items.push_back(static_cast<std::int32_t>(std::min(one_of(random, kCatalog), one_of(random, kCatalog))));
        if (cut() % 9 == 0) flush();
    }
    flush();
}

struct Answer {
    std::vector<std::int32_t> ids;
    std::vector<float> scores;

    bool operator==(const Answer& other) const {
        const auto same = [](float a, float b) {
            return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
        };
        return ids == other.ids &&
               std::equal(scores.begin(), scores.end(), other.scores.begin(), other.scores.end(), same);
    }
};

Answer ask(const mtaw::SessionMemory& memory, const mtaw::RankerNet& ranker, Random& random,
           mtaw::MemoryScratch& scratch) {
    std::vector<std::int32_t> clicks;
    if (random() % 8 == 0) {  // the query of a session in the delta
        const mtaw::MemoryDelta::Ordered sessions = memory.delta()->ordered();
        const auto count = static_cast<std::int64_t>(sessions.handles.size());
        if (const auto s = static_cast<std::size_t>(one_of(random, std::max<std::int64_t>(count, 1))); count > 0) {
            clicks.assign(sessions.items.begin() + sessions.offsets[s],
                          sessions.items.begin() + sessions.offsets[s + 1]);
        }
    }
    for (std::int64_t m = clicks.empty() ? 1 + one_of(random, 12) : 0; m > 0; --m) {
        clicks.push_back(static_cast<std::int32_t>(one_of(random, kCatalog)));
    }
    Answer answer{std::vector<std::int32_t>(kRanked), std::vector<float>(kRanked)};
    const mtaw::MemoryRequest request{clicks.data(), static_cast<std::int64_t>(clicks.size())};
    memory.rank(request, nullptr, ranker, kRanked, answer.ids.data(), answer.scores.data(), scratch);
    return answer;
}

// Whether it is a ranking: items of the catalog, none twice, the best first, then nothing.
bool is_ranking(const Answer& answer) {
    std::vector<std::int32_t> found(answer.ids);
    std::erase(found, -1);
    const auto count = static_cast<std::ptrdiff_t>(found.size());
    const bool sorted = std::is_sorted(answer.scores.begin(), answer.scores.begin() + count, std::greater<>());
    std::sort(found.begin(), found.end());
    const bool distinct = std::adjacent_find(found.begin(), found.end()) == found.end();
    return sorted && distinct && (found.empty() || (found.front() >= 0 && found.back() < kCatalog));
}

void check(const mtaw::MemoryView& tables, const mtaw::RankerNet& ranker, mtaw::Isa isa) {
    constexpr mtaw::MemoryQuerySettings kQuery{60, 150, 100};  // the ones that are served
    mtaw::MemoryDelta delta(tables, kSettings, kCatalog, 50), alone(tables, kSettings, kCatalog, 50);
    const mtaw::SessionMemory memory(tables, kQuery, kCatalog, isa, &delta);
    std::atomic<bool> done{false}, fine{true};
    std::vector<std::thread> readers;
    for (std::uint64_t number = 0; number < kReaders; ++number) {
        readers.emplace_back([&, number] {
            Random random(number + 31);
            mtaw::MemoryScratch scratch;
            while (!done) {
                if (!is_ranking(ask(memory, ranker, random, scratch))) fine = false;
                if (random() % 64 == 0 && delta.sizes().clicks < 0) fine = false;
            }
        });
    }
    learn(delta, 1);
    done = true;
    for (std::thread& reader : readers) reader.join();
    expect(fine, "while a thread clicks, an answer is a ranking");
    learn(alone, 2);
    const mtaw::SessionMemory quiet(tables, kQuery, kCatalog, isa, &alone);
    Random random(3), again(3);
    mtaw::MemoryScratch scratch;
    for (int query = 0; query < 100; ++query) {
        const Answer expected = ask(quiet, ranker, again, scratch);
        expect(ask(memory, ranker, random, scratch) == expected, "queries meanwhile change nothing");
    }
}

}  // namespace

int main(int count, char** names) {
    Log log;
    log.add(200);
    const Tables tables = build(log, kSettings, 1);
    const mtaw::RankerNet ranker = random_ranker();
    for (int i = 1; i < count; ++i) check({tables.view(), kSettings.recency}, ranker, mtaw::isa_named(names[i]));
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
