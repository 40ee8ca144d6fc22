// libFuzzer's target over the session memory: any bytes become past sessions, their tables and trends, a ranker and
// requests. Damaged tables are refused by the check or answer without a crash; every instruction set gives the same
// bits.
//
// Arrays have their exact sizes on the heap, so that AddressSanitizer sees a step past any end.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "../native/memory_log.hpp"
#include "bytes.hpp"
#include "isa.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"
#include "score/score.hpp"
#include "trends/build.hpp"
#include "trends/trends.hpp"

namespace {

constexpr std::int64_t kMaxRequests = 4;
constexpr std::int64_t kMinute = 60'000, kLogEnd = 1'764'150'000'000;  // ms

mtaw::TrendSettings trend_settings() {
    return {
        {{kMinute, 5 * kMinute, 15 * kMinute, 60 * kMinute, 240 * kMinute, 1440 * kMinute, 10080 * kMinute}}, 5, 20};
}

// Arrays of exactly the tables' sizes. The clicks of the log come a minute apart, the last one at kLogEnd.
struct TrendArrays {
    std::int64_t n_items;
    std::vector<std::int64_t> row_offsets, times, clock;
    std::vector<std::int32_t> neighbors;
    std::vector<std::uint16_t> values;
    std::vector<float> totals, counts;
    std::vector<double> sums;

    explicit TrendArrays(const Log& log) : n_items(log.n_items) {
        std::vector<std::int64_t> clicked;
        const auto n_clicks = static_cast<std::int64_t>(log.items.size());
        for (std::int64_t i = 0; i < n_clicks; ++i) clicked.push_back(kLogEnd - (n_clicks - 1 - i) * kMinute);
        mtaw::TimedSessions sessions{log.items.data(), log.offsets.data(), clicked.data(), log.count(),
                                     n_items,          log.count()};
        sessions.last = n_items;
        mtaw::TrendsBuild plan(sessions, trend_settings(), 1);
        const auto n = static_cast<std::size_t>(n_items), n_pairs = static_cast<std::size_t>(plan.n_pairs());
        row_offsets.resize(n + 1);
        neighbors.resize(n_pairs);
        values.resize(n_pairs * mtaw::kPairSums);
        totals.resize(n * mtaw::kPairSums);
        counts.resize(n * mtaw::kItemSums);
        times.resize(2 * n);
        sums.resize(mtaw::kItemSums);
        clock.resize(mtaw::kItemLanes + 1);
        plan.write({row_offsets.data(), neighbors.data(), values.data(), totals.data(), counts.data(), times.data(),
                    sums.data(), clock.data()});
    }

    [[nodiscard]] mtaw::TrendsView view() const {
        return {row_offsets.data(),
                neighbors.data(),
                values.data(),
                totals.data(),
                counts.data(),
                times.data(),
                sums.data(),
                clock.data(),
                n_items,
                static_cast<std::int64_t>(neighbors.size()),
                {}};
    }
};

// A setting: mostly within first .. first + count - 1, at times anything.
std::int64_t setting(Bytes& bytes, std::int64_t first, std::int64_t count) {
    return bytes.chance(12) ? bytes.take<std::int64_t>() : first + bytes.below(count);
}

std::int32_t id(Bytes& bytes, std::int64_t n_items) {
    const bool any = bytes.chance(60) || n_items == 0;
    return any ? bytes.take<std::int32_t>() : static_cast<std::int32_t>(bytes.below(n_items));
}

// `count` numbers, of a usual spread or of any.
Floats numbers(Bytes& bytes, std::int64_t count, bool usual) {
    if (!usual) return floats(bytes, static_cast<std::size_t>(count), true);
    std::minstd_rand random(bytes.take<std::uint16_t>() + 1U);
    std::normal_distribution<float> normal(0, 0.3F);
    Floats values(static_cast<std::size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
}

Log log_of(Bytes& bytes) {
    Log log;
    log.n_items = bytes.chance(12) ? 0 : 1 + bytes.below(bytes.chance(8) ? 1500 : 60);
    std::minstd_rand random(bytes.take<std::uint16_t>() + 1U);
    const bool drawn = bytes.chance(2);  // else every click is two of the fuzzer's bytes
    for (std::int64_t sessions = bytes.below(bytes.chance(6) ? 300 : 40); sessions > 0; --sessions) {
        for (std::int64_t m = bytes.below(bytes.chance(12) ? 80 : 9); m > 0; --m) {
            const bool random_one = drawn && log.n_items > 0;
            log.items.push_back(random_one ? static_cast<std::int32_t>(random() % static_cast<unsigned>(log.n_items))
                                           : id(bytes, log.n_items));
        }
        log.offsets.push_back(static_cast<std::int64_t>(log.items.size()));
    }
    if (bytes.chance(30)) log.offsets[bytes.take<std::uint16_t>() % log.offsets.size()] = bytes.take<std::int64_t>();
    return log;
}

// One number of an array that is not as it was built.
template <typename T>
void lie(Bytes& bytes, std::vector<T>& array) {
    if (array.empty()) return;
    T& value = array[bytes.take<std::uint16_t>() % array.size()];
    switch (bytes.below(4)) {
        case 0: value = bytes.take<T>(); break;
        case 1: value = static_cast<T>(bytes.below(70)); break;
        case 2: value = array[bytes.take<std::uint16_t>() % array.size()]; break;
        default: value = std::numeric_limits<T>::max();
    }
}

void lie_somewhere(Bytes& bytes, Tables& tables) {
    switch (bytes.below(10)) {
        case 0: return lie(bytes, tables.row_offsets);
        case 1: return lie(bytes, tables.post_offsets);
        case 2: return lie(bytes, tables.log.offsets);
        case 3: return lie(bytes, tables.log.items);
        case 4: return lie(bytes, tables.neighbors);
        case 5: return lie(bytes, tables.latest);
        case 6: return lie(bytes, tables.counts);
        case 7: return lie(bytes, tables.postings);
        case 8: return lie(bytes, tables.values);
        default: return lie(bytes, tables.totals);
    }
}

bool passes(const Tables& tables, const mtaw::MemorySettings& settings) {
    try {
        tables.check(settings);
        return true;
    } catch (const std::invalid_argument&) {
        return false;
    }
}

mtaw::RankerNet ranker_of(Bytes& bytes, bool usual, bool timed, std::int64_t n_types) {
    const auto units = [&](std::int64_t panels) {
        return bytes.chance(20) ? bytes.below(300) : mtaw::kPanel * (1 + bytes.below(panels));
    };
    const std::int64_t f = mtaw::kFeatures + (timed ? mtaw::kTrendFeatures : 0) + mtaw::kTypeParts * n_types;
    const std::int64_t n1 = units(8), n2 = units(4);
    const auto array = [&](std::int64_t count) { return numbers(bytes, count, usual); };
    const Floats mean = array(f), scale = array(f), linear = array(f), w1 = array(f * n1), b1 = array(n1),
                 w2 = array(n1 * n2), b2 = array(n2), w3 = array(n2), bias = array(1);
    return mtaw::RankerNet({f, n1, n2, mean.data(), scale.data(), linear.data(), w1.data(), b1.data(), w2.data(),
                            b2.data(), w3.data(), bias[0], n_types});
}

// The items' vectors, of which some are those of added items.
struct Vectors {
    std::int64_t n, n_added, d;
    Floats rows, added;
    double scale;

    Vectors(Bytes& bytes, std::int64_t n_catalog, bool usual)
        : n_added(bytes.chance(2) ? bytes.below(n_catalog + 1) : 0), d(1 + bytes.below(40)) {
        n = n_catalog - n_added;
        rows = numbers(bytes, n * d, usual);
        added = numbers(bytes, n_added * d, usual);
        scale = usual || !bytes.chance(3) ? 1 + static_cast<double>(bytes.below(40)) : bytes.take<double>();
    }

    mtaw::ItemVectors view() const { return {rows.data(), n, n_added > 0 ? added.data() : nullptr, d, scale, n_added}; }

    float logit(const Floats& query, std::int32_t item) const {
        mtaw::Scored one{0.0F, item < n ? item : static_cast<std::int32_t>(item - n)};
        mtaw::score_items(query.data(), item < n ? rows.data() : added.data(), d, scale, &one, 1, mtaw::Isa::portable);
        return one.score;
    }
};

struct Request {
    std::int64_t n_catalog, k;
    Ids clicks, dense, excluded;
    Floats query, logits;
    std::vector<std::uint8_t> allowed, always, types;
    std::vector<std::int64_t> times;
    std::int64_t n_types;
    bool neural, filtered, honest = true;
    const mtaw::Trends* trends;
    std::int64_t now = 0;

    Request(Bytes& bytes, const Vectors& vectors, bool usual, const mtaw::Trends* timed, std::int64_t known_types)
        : n_catalog(vectors.n + vectors.n_added), n_types(known_types), trends(timed) {
        const auto n_bytes = static_cast<std::size_t>(n_catalog + 7) / 8;
        if (trends != nullptr)
            now = bytes.chance(12) ? bytes.take<std::int64_t>() : kLogEnd + bytes.below(200) * kMinute;
        if (trends != nullptr && bytes.chance(3)) always.assign(n_bytes, bytes.take<std::uint8_t>());
        for (std::int64_t m = bytes.below(bytes.chance(10) ? 700 : 12); m > 0; --m) {
            clicks.push_back(id(bytes, n_catalog));
            types.push_back(static_cast<std::uint8_t>(bytes.below(n_types + 2)));
            times.push_back(bytes.chance(9) ? mtaw::kNever : kLogEnd + m);
        }
        if (bytes.chance(4)) types.clear();
        if (trends == nullptr || bytes.chance(2)) times.clear();
        k = 1 + bytes.below(bytes.chance(4) ? n_catalog + 20 : 25);
        filtered = bytes.chance(2);
        if (filtered) allowed.assign(n_bytes, bytes.take<std::uint8_t>());
        for (std::int64_t n = bytes.below(20); n > 0; --n) excluded.push_back(id(bytes, n_catalog));
        neural = !bytes.chance(4);
        if (neural) add_neural(bytes, vectors, usual);
    }

    bool may_be_found(std::int32_t item) const {
        const bool listed = std::find(excluded.begin(), excluded.end(), item) != excluded.end();
        return !listed && (!filtered || (allowed[static_cast<std::size_t>(item / 8)] >> item % 8 & 1) != 0);
    }

    mtaw::MemoryRequest view() const {
        const auto size = [](const auto& array) { return static_cast<std::int64_t>(array.size()); };
        mtaw::MemoryRequest request{clicks.data(), size(clicks)};
        if (neural) {
            request.query = query.data();
            request.dense = dense.data();
            request.logits = logits.data();
            request.n_dense = size(dense);
        }
        if (filtered) request.allowed = allowed.data();
        if (!always.empty()) request.always_ranked = always.data();
        request.n_types = n_types;
        if (!types.empty()) request.types = types.data();
        if (!times.empty()) request.times = times.data();
        request.trends = trends;
        request.now = now;
        request.excluded = excluded.data();
        request.n_excluded = size(excluded);
        return request;
    }

   private:
    // The best items by the query, or, as the bindings allow it, any.
    void add_neural(Bytes& bytes, const Vectors& vectors, bool usual) {
        query = numbers(bytes, vectors.d, usual);
        const std::int64_t width = bytes.below(bytes.chance(3) ? n_catalog + 20 : 120);
        honest = !bytes.chance(4);
        if (!honest) {
            logits = floats(bytes, static_cast<std::size_t>(width), false);
            for (std::int64_t i = 0; i < width; ++i) {
                dense.push_back(static_cast<std::int32_t>(bytes.below(n_catalog + 1)) - 1);
            }
            return;
        }
        std::vector<mtaw::Scored> all;
        for (std::int32_t item = 0; item < n_catalog; ++item) {
            if (may_be_found(item)) all.push_back({vectors.logit(query, item), item});
        }
        std::sort(all.begin(), all.end(), mtaw::Better{});
        all.resize(static_cast<std::size_t>(width), {-std::numeric_limits<float>::infinity(), -1});
        for (const mtaw::Scored& one : all) {
            dense.push_back(one.id);
            logits.push_back(one.score);
        }
    }
};

struct Answer {
    Ids ids, candidates;
    Floats scores, features;

    Answer(const mtaw::SessionMemory& memory, const mtaw::RankerNet& ranker, const Request& request,
           const Vectors& vectors, mtaw::MemoryScratch& scratch)
        : ids(static_cast<std::size_t>(request.k)),
          candidates(static_cast<std::size_t>(memory.max_candidates())),
          scores(ids.size()),
          features(candidates.size() * static_cast<std::size_t>(mtaw::SessionMemory::n_features(request.view()))) {
        const mtaw::ItemVectors rows = vectors.view();
        const mtaw::ItemVectors* const given = request.neural ? &rows : nullptr;
        memory.rank(request.view(), given, ranker, request.k, ids.data(), scores.data(), scratch);
        const std::int64_t count = memory.features(request.view(), given, candidates.data(), features.data(), scratch);
        candidates.resize(static_cast<std::size_t>(count));
        features.resize(static_cast<std::size_t>(count * mtaw::SessionMemory::n_features(request.view())));
    }

    bool operator==(const Answer& other) const {
        // One NaN is as good as another: which one comes of two is for the compiler to choose.
        const auto same_bits = [](const Floats& a, const Floats& b) {
            return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
                return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y) ||
                       (std::isnan(x) && std::isnan(y));
            });
        };
        return ids == other.ids && candidates == other.candidates && same_bits(scores, other.scores) &&
               same_bits(features, other.features);
    }
};

void check_list(const Answer& answer, const Request& request) {
    const std::set<std::int32_t> candidates(answer.candidates.begin(), answer.candidates.end());
    for (const std::int32_t item : candidates) {
        require(item >= 0 && item < request.n_catalog && request.may_be_found(item), "a candidate may be found");
    }
    const auto end = std::find(answer.ids.begin(), answer.ids.end(), -1);
    require(std::all_of(end, answer.ids.end(), [](std::int32_t item) { return item == -1; }), "nothing after the end");
    const auto known = [&](std::int32_t item) { return item >= 0 && item < request.n_catalog; };
    require(std::all_of(answer.ids.begin(), end, known), "an answer is in the catalog");
    if (!request.honest) return;
    const std::set<std::int32_t> found(answer.ids.begin(), end);
    require(candidates.size() == answer.candidates.size(), "a candidate is one once");
    require(static_cast<std::ptrdiff_t>(found.size()) == end - answer.ids.begin(), "an item is found once");
    const std::size_t first = std::min(candidates.size(), answer.ids.size());
    for (std::size_t rank = 0; rank < found.size(); ++rank) {
        require(request.may_be_found(answer.ids[rank]), "an item may be found");
        require((rank < first) == candidates.contains(answer.ids[rank]), "candidates come before the others");
    }
    require(found.size() >= first, "every candidate has a rank");
    float before = std::numeric_limits<float>::infinity();
    for (std::size_t rank = 0; rank < found.size(); ++rank) {
        if (std::isnan(answer.scores[rank])) continue;
        require(answer.scores[rank] <= before, "scores fall");
        before = answer.scores[rank];
    }
}

// Of tables as they were built: what a feature can be, but for those of the vectors.
void check_features(const Floats& features, std::int64_t n_features) {
    for (std::size_t at = 0; at < features.size(); ++at) {
        const std::size_t column = at % static_cast<std::size_t>(n_features);
        if (column >= static_cast<std::size_t>(mtaw::kFeatures)) continue;
        const std::string_view name = mtaw::kFeatureNames[column];
        if (name == "logit" || name == "logit_gap") continue;
        require(features[at] > -20.0F && features[at] < 60.0F, "a feature is what its formula can give");
    }
}

void run(Bytes& bytes) {
    constexpr mtaw::Isa kSets[] = {mtaw::Isa::portable, mtaw::Isa::avx2, mtaw::Isa::avx512};
    const double recency = bytes.chance(12) ? bytes.take<double>() : 0.5 + static_cast<double>(bytes.below(30));
    const mtaw::MemorySettings settings{setting(bytes, 1, 12), setting(bytes, 1, 40), recency, setting(bytes, 0, 25),
                                        setting(bytes, 0, 12)};
    const Log sound_log = log_of(bytes);
    // As the binding sees to it.
    if (sound_log.offsets.front() != 0 || sound_log.offsets.back() != static_cast<std::int64_t>(sound_log.items.size()))
        return;
    Tables tables = build(sound_log, settings, 1);
    require(passes(tables, settings), "tables that were built pass the check");
    const bool sound = bytes.chance(2), usual = !bytes.chance(3);
    for (std::int64_t lies = sound ? 0 : 1 + bytes.below(12); lies > 0; --lies) lie_somewhere(bytes, tables);
    if (!sound && !passes(tables, settings)) return;
    const std::int64_t n_catalog =
        std::max<std::int64_t>(1, sound_log.n_items + (bytes.chance(3) ? bytes.below(30) : 0));
    const Vectors vectors(bytes, n_catalog, usual);
    std::optional<TrendArrays> arrays;
    std::optional<mtaw::Trends> trends;
    if (bytes.chance(2)) {
        arrays.emplace(sound_log);
        trends.emplace(arrays->view(), trend_settings(), mtaw::TrendLimits{n_catalog, kMinute, 64});
    }
    const mtaw::Trends* const timed = trends ? &*trends : nullptr;
    const std::int64_t n_types = bytes.below(mtaw::kMaxTypes + 1);
    const mtaw::RankerNet ranker = ranker_of(bytes, usual, timed != nullptr, n_types);
    const mtaw::MemoryQuerySettings sizes{setting(bytes, 1, 64), setting(bytes, 1, 200), setting(bytes, 0, 120),
                                          setting(bytes, 0, 90), setting(bytes, 0, bytes.chance(2) ? 400 : 30)};
    const mtaw::MemoryView view{tables.view(), settings.recency};
    mtaw::MemoryScratch scratch;
    for (std::int64_t n = 0; n < kMaxRequests && !bytes.empty(); ++n) {
        const Request request(bytes, vectors, usual, timed, n_types);
        try {
            mtaw::MemoryScratch fresh;
            const mtaw::SessionMemory memory(view, sizes, n_catalog, mtaw::Isa::portable);
            const Answer expected(memory, ranker, request, vectors, fresh);
            check_list(expected, request);
            if (sound && usual && request.honest)
                check_features(expected.features, mtaw::SessionMemory::n_features(request.view()));
            for (const mtaw::Isa isa : kSets) {
                if (isa > mtaw::cpu_isa()) continue;
                const mtaw::SessionMemory other(view, sizes, n_catalog, isa);
                require(Answer(other, ranker, request, vectors, scratch) == expected, "every way gives the same bits");
            }
        } catch (const std::out_of_range&) {
        } catch (const std::invalid_argument&) {}
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    try {
        run(bytes);
    } catch (const std::out_of_range&) {
    } catch (const std::invalid_argument&) {}
    return 0;
}
