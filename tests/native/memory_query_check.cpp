// Queries of the memory without Python, for the sanitizers: every instruction set gives the same bits, one working
// memory serves memories of all sizes, damaged tables that pass the check are safe to query, and a request ranks all or
// some of its candidates. Prints one line a failure; exits 0 or 1.
//
//     memory_query_check ISA...
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "isa.hpp"
#include "kth_largest.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"
#include "memory_log.hpp"
#include "trend_tables.hpp"

namespace {

constexpr std::int64_t kAdded = 5, kDims = 9, kAll = kItems + kAdded;

std::vector<float> numbers(std::int64_t count, float spread) {
    std::normal_distribution<float> normal(0, spread);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal(generator);
    return values;
}

// A ranker with random weights, of so many types of clicks, with trends or without.
mtaw::RankerNet random_ranker(std::int64_t n1, std::int64_t n2, std::int64_t n_types, bool timed) {
    const std::int64_t f = mtaw::kFeatures + (timed ? mtaw::kTrendFeatures : 0) + mtaw::kTypeParts * n_types;
    const auto mean = numbers(f, 1), scale = numbers(f, 1), linear = numbers(f, 0.1F), w1 = numbers(f * n1, 0.1F),
               b1 = numbers(n1, 1), w2 = numbers(n1 * n2, 0.1F), b2 = numbers(n2, 1), w3 = numbers(n2, 0.2F);
    return mtaw::RankerNet({f, n1, n2, mean.data(), scale.data(), linear.data(), w1.data(), b1.data(), w2.data(),
                            b2.data(), w3.data(), 0.5F, n_types});
}

// A request and all that it points to, in arrays of exactly their sizes.
struct Asked {
    std::vector<std::int32_t> clicks, dense, excluded;
    std::vector<float> query = numbers(kDims, 1), logits;
    std::vector<std::uint8_t> allowed, types, always;
    std::vector<std::int64_t> times;
    mtaw::MemoryRequest request;

    Asked(const mtaw::ItemVectors& vectors, std::int64_t n_types, const mtaw::Trends* trends) {
        for (std::int64_t m = below(12) == 0 ? 700 : 1 + below(30); m > 0; --m) {
            clicks.push_back(static_cast<std::int32_t>(below(kAll)));
            types.push_back(static_cast<std::uint8_t>(below(n_types + 2)));
        }
        std::vector<mtaw::Scored> best;
        for (std::int32_t item = 0; item < kAll; ++item) {
            const float* row =
                item < vectors.n ? vectors.rows + item * kDims : vectors.added + (item - vectors.n) * kDims;
            double sum = 0;
            for (std::int64_t i = 0; i < kDims; ++i)
                sum += static_cast<double>(query[static_cast<std::size_t>(i)]) * row[i];
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
            allowed = random_bits();
            request.allowed = allowed.data();
        }
        for (std::int64_t i = below(20); i > 0; --i) excluded.push_back(static_cast<std::int32_t>(below(kAll + 9) - 4));
        request.excluded = excluded.data();
        request.n_excluded = static_cast<std::int64_t>(excluded.size());
        request.n_types = n_types;
        if (below(4) > 0) request.types = types.data();
        if (trends == nullptr) return;
        request.trends = trends;
        request.now = kLogEnd + below(90) * kMinute;
        for (std::size_t i = 0; i < clicks.size(); ++i)
            times.push_back(below(9) == 0 ? mtaw::kNever : kLogEnd + static_cast<std::int64_t>(i));
        if (below(2) == 0) request.times = times.data();
        always = random_bits();
        if (below(2) == 0) request.always_ranked = always.data();
    }

    static std::vector<std::uint8_t> random_bits() {
        std::vector<std::uint8_t> bits;
        for (std::int64_t i = 0; i < (kAll + 7) / 8; ++i) bits.push_back(static_cast<std::uint8_t>(below(256)));
        return bits;
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
    const std::int64_t count = memory.features(request, &vectors, out.candidates.data(), out.features.data(), scratch);
    out.candidates.resize(static_cast<std::size_t>(count));
    out.features.resize(static_cast<std::size_t>(count * n_features));
    return out;
}

// A limit of what is ranked that no request reaches, and a request that always ranks everything: as without a limit.
void check_limits(const mtaw::MemoryView& view, mtaw::MemoryQuerySettings settings, const mtaw::RankerNet& ranker,
                  const Asked& asked, const mtaw::ItemVectors& vectors, std::int64_t k, mtaw::Isa isa,
                  mtaw::MemoryScratch& scratch) {
    const std::vector<std::uint8_t> everything((kAll + 7) / 8, 0xFF);
    mtaw::MemoryRequest request = asked.request;
    request.always_ranked = everything.data();
    const Answer always = answer(mtaw::SessionMemory(view, settings, kAll, isa), ranker, request, vectors, k, scratch);
    settings.ranked = 1 << 16;
    const Answer within =
        answer(mtaw::SessionMemory(view, settings, kAll, isa), ranker, asked.request, vectors, k, scratch);
    settings.ranked = 0;
    const Answer all =
        answer(mtaw::SessionMemory(view, settings, kAll, isa), ranker, asked.request, vectors, k, scratch);
    expect(always == all, "what is always ranked is ranked");
    expect(within == all, "a limit that is not reached changes nothing");
}

// trends: of the log that the tables were built from, or null.
void ask(const Tables& tables, const mtaw::Trends* trends, const std::vector<mtaw::Isa>& isas, bool sound,
         mtaw::MemoryScratch& scratch) {
    const auto rows = numbers(kItems * kDims, 0.4F), added = numbers(kAdded * kDims, 0.4F);
    const mtaw::ItemVectors vectors{rows.data(), kItems, added.data(), kDims, 7.0, kAdded};
    mtaw::MemoryQuerySettings settings{1 + below(64), 1 + below(40), 1 + below(30), below(40)};
    settings.trends = below(40);
    settings.ranked = below(4) == 0 ? 400 : below(30);  // more than all candidates, or fewer
    const std::int64_t n_types = below(mtaw::kMaxTypes + 1);
    const mtaw::RankerNet ranker = random_ranker(8 * (1 + below(8)), 8 * (1 + below(4)), n_types, trends != nullptr);
    const mtaw::MemoryView view{tables.view(), 1.0 + static_cast<double>(below(50))};
    for (int round = 0; round < 6; ++round) {
        const Asked asked(vectors, n_types, trends);
        const std::int64_t k = 1 + below(kAll + 20);
        const mtaw::SessionMemory first(view, settings, kAll, isas[0]);
        const Answer expected = answer(first, ranker, asked.request, vectors, k, scratch);
        for (const std::int32_t item : expected.candidates) {
            expect(item >= 0 && item < kAll && asked.may_be_found(item), "a candidate may be found");
        }
        if (sound) {
            for (const float value : expected.features) expect(std::isfinite(value), "a feature is a number");
        }
        if (trends != nullptr && round == 0) check_limits(view, settings, ranker, asked, vectors, k, isas[0], scratch);
        for (const mtaw::Isa isa : isas) {
            const mtaw::SessionMemory memory(view, settings, kAll, isa);
            mtaw::MemoryScratch fresh;
            expect(answer(memory, ranker, asked.request, vectors, k, scratch) == expected, "the same bits again");
            expect(answer(memory, ranker, asked.request, vectors, k, fresh) == expected, "the same bits afresh");
        }
    }
}

// The best of random keys with ties, as a sort finds them.
void check_cuts(mtaw::Isa isa) {
    const mtaw::ColumnKernels& kernels = mtaw::column_kernels(isa);
    for (int round = 0; round < 400; ++round) {
        const std::int64_t count = 1 + below(70), kinds = 1 + below(90), least = below(2);
        std::vector<std::int32_t> keys, ties(static_cast<std::size_t>(count));
        std::vector<std::pair<std::int32_t, std::int32_t>> best;  // lower is better
        std::vector<std::int32_t> items;
        for (std::int64_t i = 0; i < count; ++i) items.push_back(static_cast<std::int32_t>(3 * i - 20));
        std::shuffle(items.begin(), items.end(), generator);
        for (std::int64_t i = 0; i < count; ++i) {
            keys.push_back(static_cast<std::int32_t>(below(kinds) * (below(3) == 0 ? 0x1000000 : 1)));
            if (below(12) == 0) keys.back() = std::numeric_limits<std::int32_t>::min();
            if (keys.back() >= least) best.emplace_back(-keys.back(), items[static_cast<std::size_t>(i)]);
        }
        if (best.empty()) continue;
        std::sort(best.begin(), best.end());
        const std::int64_t wanted = 1 + below(static_cast<std::int64_t>(best.size()));
        const auto item_of = [&](std::int32_t i) { return items[static_cast<std::size_t>(i)]; };
        const mtaw::KeyCut cut =
            mtaw::cut_of(kernels, keys.data(), count, wanted, static_cast<std::int32_t>(least), item_of, ties.data());
        std::vector<std::pair<std::int32_t, std::int32_t>> taken;
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int32_t key = keys[static_cast<std::size_t>(i)], item = item_of(static_cast<std::int32_t>(i));
            if (cut.takes(key, item)) taken.emplace_back(-key, item);
        }
        std::sort(taken.begin(), taken.end());
        best.resize(static_cast<std::size_t>(wanted));
        expect(taken == best, "a cut takes the best");
    }
}

}  // namespace

int main(int count, char** names) {
    std::vector<mtaw::Isa> isas;
    for (int i = 1; i < count; ++i) isas.push_back(mtaw::isa_named(names[i]));
    if (isas.empty()) isas.push_back(mtaw::active_isa());
    for (const mtaw::Isa isa : isas) check_cuts(isa);
    mtaw::MemoryScratch scratch;
    int passed = 0;
    for (int round = 0; round < 25; ++round) {
        Log log;
        if (round > 1) log.add(below(90));
        if (round == 0) log.n_items = 0;
        const mtaw::MemorySettings settings{1 + below(12), 1 + below(40), 0.5 + static_cast<double>(below(20)),
                                            below(25), below(12)};
        const Tables tables = build(log, settings, 1);
        const TrendArrays arrays(log);
        mtaw::Trends trends(arrays.view(), trend_settings(), {kAll, kMinute, 64});
        std::vector<std::int64_t> handles, times;
        std::vector<std::int32_t> items;
        for (std::int64_t i = below(60); i > 0; --i) {
            handles.push_back(below(9));
            items.push_back(static_cast<std::int32_t>(below(kAll)));
            times.push_back(kLogEnd + below(60) * kMinute);
        }
        trends.click({handles.data(), items.data(), times.data(), nullptr, static_cast<std::int64_t>(items.size())});
        const mtaw::Trends* const timed = round % 2 == 0 ? &trends : nullptr;
        ask(tables, timed, isas, true, scratch);
        for (int k = 0; k < 12; ++k) {
            Tables damaged = tables;
            damage_some(damaged);
            try {
                damaged.check(settings);
            } catch (const std::invalid_argument&) {
                continue;
            }
            ++passed;
            ask(damaged, timed, isas, false, scratch);
        }
    }
    expect(passed > 30, "damage passes at times");
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
