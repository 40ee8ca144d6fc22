// Queries of the memory without Python, for the sanitizers: every instruction set gives the same bits, one working
// memory serves memories of all sizes, and damaged tables that pass the check are safe to query. Prints one line a
// failure; exits 0 or 1.
//
//     memory_query_check ISA...
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "isa.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"
#include "memory_log.hpp"

namespace {

constexpr std::int64_t kAdded = 5, kDims = 9, kAll = kItems + kAdded;

std::vector<float> numbers(std::int64_t count, float spread) {
    std::normal_distribution<float> normal(0, spread);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal(generator);
    return values;
}

// A ranker with random weights, of so many types of clicks.
mtaw::RankerNet random_ranker(std::int64_t n1, std::int64_t n2, std::int64_t n_types) {
    const std::int64_t f = mtaw::kFeatures + mtaw::kTypeParts * n_types;
    const auto mean = numbers(f, 1), scale = numbers(f, 1), linear = numbers(f, 0.1F), w1 = numbers(f * n1, 0.1F),
               b1 = numbers(n1, 1), w2 = numbers(n1 * n2, 0.1F), b2 = numbers(n2, 1), w3 = numbers(n2, 0.2F);
    return mtaw::RankerNet({f, n1, n2, mean.data(), scale.data(), linear.data(), w1.data(), b1.data(), w2.data(),
                         b2.data(), w3.data(), 0.5F, n_types});
}

// A request and all that it points to, in arrays of exactly their sizes.
struct Asked {
    std::vector<std::int32_t> clicks, dense, excluded;
    std::vector<float> query = numbers(kDims, 1), logits;
    std::vector<std::uint8_t> allowed, types;
    mtaw::MemoryRequest request;

    Asked(const mtaw::ItemVectors& vectors, std::int64_t n_types) {
        for (std::int64_t m = below(12) == 0 ? 700 : 1 + below(30); m > 0; --m) {
            clicks.push_back(static_cast<std::int32_t>(below(kAll)));
            types.push_back(static_cast<std::uint8_t>(below(n_types + 2)));
        }
        std::vector<mtaw::Scored> best;
        for (std::int32_t item = 0; item < kAll; ++item) {
            const float* row = item < vectors.n ? vectors.rows + item * kDims : vectors.added + (item - vectors.n) * kDims;
            double sum = 0;
            for (std::int64_t i = 0; i < kDims; ++i) sum += static_cast<double>(query[static_cast<std::size_t>(i)]) * row[i];
            best.push_back({static_cast<float>(vectors.scale * sum), item});
        }
        std::sort(best.begin(), best.end(), mtaw::Better{});
        const std::int64_t width = below(kAll + 1);
        for (std::int64_t i = 0; i < width; ++i) {
            const bool padding = i > width - 3 && below(2) == 0;
            dense.push_back(padding ? -1 : best[static_cast<std::size_t>(i)].id);
            logits.push_back(best[static_cast<std::size_t>(i)].score);
        }
        request = {clicks.data(), static_cast<std::int64_t>(clicks.size())};
        if (below(4) > 0) {
            request.query = query.data();
            request.dense = dense.data();
            request.logits = logits.data();
            request.n_dense = width;
        }
        if (below(2) == 0) {
            for (std::int64_t i = 0; i < (kAll + 7) / 8; ++i) allowed.push_back(static_cast<std::uint8_t>(below(256)));
            request.allowed = allowed.data();
        }
        for (std::int64_t i = below(20); i > 0; --i) excluded.push_back(static_cast<std::int32_t>(below(kAll + 9) - 4));
        request.excluded = excluded.data();
        request.n_excluded = static_cast<std::int64_t>(excluded.size());
        request.n_types = n_types;
        if (below(4) > 0) request.types = types.data();
    }

    [[nodiscard]] bool may_be_found(std::int32_t item) const {
        const bool listed = std::find(excluded.begin(), excluded.end(), item) != excluded.end();
        return !listed && (allowed.empty() || (allowed[static_cast<std::size_t>(item / 8)] >> (item % 8) & 1) != 0);
    }
};

struct Answer {
    std::vector<std::int32_t> ids, candidates;
    std::vector<float> scores, features;

    bool operator==(const Answer& other) const {
        return ids == other.ids && candidates == other.candidates &&
               std::memcmp(scores.data(), other.scores.data(), scores.size() * sizeof(float)) == 0 &&
               features.size() == other.features.size() &&
               std::memcmp(features.data(), other.features.data(), features.size() * sizeof(float)) == 0;
    }
};

Answer answer(const mtaw::SessionMemory& memory, const mtaw::RankerNet& ranker, const mtaw::MemoryRequest& request,
              const mtaw::ItemVectors& vectors, std::int64_t k, mtaw::MemoryScratch& scratch) {
    Answer out;
    out.ids.resize(static_cast<std::size_t>(k));
    out.scores.resize(static_cast<std::size_t>(k));
    memory.rank(request, &vectors, ranker, k, out.ids.data(), out.scores.data(), scratch);
    out.candidates.resize(static_cast<std::size_t>(memory.max_candidates()));
    const std::int64_t n_features = mtaw::SessionMemory::n_features(request);
    out.features.resize(static_cast<std::size_t>(memory.max_candidates() * n_features));
    const std::int64_t count =
        memory.features(request, &vectors, out.candidates.data(), out.features.data(), scratch);
    out.candidates.resize(static_cast<std::size_t>(count));
    out.features.resize(static_cast<std::size_t>(count * n_features));
    return out;
}

void ask(const Tables& tables, const std::vector<mtaw::Isa>& isas, bool sound, mtaw::MemoryScratch& scratch) {
    const auto rows = numbers(kItems * kDims, 0.4F), added = numbers(kAdded * kDims, 0.4F);
    const mtaw::ItemVectors vectors{rows.data(), kItems, added.data(), kDims, 7.0, kAdded};
    const mtaw::MemoryQuerySettings settings{1 + below(64), 1 + below(40), 1 + below(30), below(40)};
    const std::int64_t n_types = below(mtaw::kMostTypes + 1);
    const mtaw::RankerNet ranker = random_ranker(8 * (1 + below(8)), 8 * (1 + below(4)), n_types);
    const mtaw::MemoryView view{tables.view(), 1.0 + static_cast<double>(below(50))};
    for (int round = 0; round < 6; ++round) {
        const Asked asked(vectors, n_types);
        const std::int64_t k = 1 + below(kAll + 20);
        const mtaw::SessionMemory first(view, settings, kAll, isas[0]);
        const Answer expected = answer(first, ranker, asked.request, vectors, k, scratch);
        for (const std::int32_t item : expected.candidates) {
            expect(item >= 0 && item < kAll && asked.may_be_found(item), "a candidate may be found");
        }
        if (sound) {
            for (const float value : expected.features) expect(std::isfinite(value), "a feature is a number");
        }
        for (const mtaw::Isa isa : isas) {
            const mtaw::SessionMemory memory(view, settings, kAll, isa);
            mtaw::MemoryScratch fresh;
            expect(answer(memory, ranker, asked.request, vectors, k, scratch) == expected, "the same bits again");
            expect(answer(memory, ranker, asked.request, vectors, k, fresh) == expected, "the same bits afresh");
        }
    }
}

}  // namespace

int main(int count, char** names) {
    std::vector<mtaw::Isa> isas;
    for (int i = 1; i < count; ++i) isas.push_back(mtaw::isa_named(names[i]));
    if (isas.empty()) isas.push_back(mtaw::active_isa());
    mtaw::MemoryScratch scratch;
    int passed = 0;
    for (int round = 0; round < 25; ++round) {
        Log log;
        if (round > 1) log.add(below(90));
        if (round == 0) log.n_items = 0;
        const mtaw::MemorySettings settings{1 + below(12), 1 + below(40), 0.5 + static_cast<double>(below(20)), below(25),
                                            below(12)};
        const Tables tables = build(log, settings, 1);
        ask(tables, isas, true, scratch);
        for (int k = 0; k < 12; ++k) {
            Tables damaged = tables;
            damage_some(damaged);
            try {
                damaged.check(settings);
            } catch (const std::invalid_argument&) {
                continue;
            }
            ++passed;
            ask(damaged, isas, false, scratch);
        }
    }
    expect(passed > 30, "damage passes at times");
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
