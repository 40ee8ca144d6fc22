// The scanner against brute force, on every instruction set of the CPU that runs it: one program, so that it can be
// built for another architecture, or under the sanitizers, without Python. Prints one line a failure; exits 0 or 1.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "isa.hpp"
#include "scan/read.hpp"
#include "scan/scanner.hpp"
#include "score.hpp"

namespace {

using mtaw::Isa;

constexpr std::int64_t kQueries = 19;
int failures = 0;

struct Catalog {
    std::string name;
    std::int64_t n_items;
    std::int64_t d;
    std::vector<float> rows;
};

std::mt19937_64 generator(7);

float normal() { return std::normal_distribution<float>()(generator); }

Catalog random_catalog(const char* name, std::int64_t n_items, std::int64_t d, double spread) {
    Catalog catalog{name, n_items, d, std::vector<float>(static_cast<std::size_t>(n_items * d))};
    for (std::int64_t i = 0; i < n_items; ++i) {
        const double power = std::clamp(spread * static_cast<double>(normal()), -44.0, 37.0);
        const auto size = static_cast<float>(std::pow(10.0, power));
        for (std::int64_t j = 0; j < d; ++j) catalog.rows[static_cast<std::size_t>(i * d + j)] = size * normal();
    }
    return catalog;
}

// Every item one of the first `distinct`, moved by at most `jitter` of itself.
Catalog repeated(Catalog catalog, std::int64_t distinct, float jitter) {
    for (std::int64_t i = distinct; i < catalog.n_items; ++i) {
        for (std::int64_t j = 0; j < catalog.d; ++j) {
            const float base = catalog.rows[static_cast<std::size_t>(i % distinct * catalog.d + j)];
            catalog.rows[static_cast<std::size_t>(i * catalog.d + j)] = base * (1 + jitter * normal());
        }
    }
    return catalog;
}

Catalog filled(const char* name, std::int64_t n_items, std::int64_t d, float value) {
    return {name, n_items, d, std::vector<float>(static_cast<std::size_t>(n_items * d), value)};
}

std::vector<Catalog> catalogs() {
    std::vector<Catalog> all;
    for (const std::int64_t n_items : {1, 2, 15, 16, 17, 40, 1021, 4001}) {
        for (const std::int64_t d : {1, 3, 4, 100}) all.push_back(random_catalog("random", n_items, d, 0));
    }
    all.push_back(random_catalog("wide", 3001, 26, 8));
    all.push_back(random_catalog("very wide", 500, 7, 25));
    all.push_back(repeated(random_catalog("duplicates", 6007, 24, 0), 40, 0));
    all.push_back(repeated(random_catalog("near ties", 6007, 40, 0), 1, 1e-7F));
    all.push_back(repeated(random_catalog("near ties after codes", 3001, 40, 0), 3, 1e-3F));
    all.push_back(filled("all equal", 5003, 10, 0.25F));
    all.push_back(filled("all zero", 700, 8, 0));
    all.push_back(filled("denormal", 300, 8, 1e-42F));
    all.push_back(filled("huge", 300, 8, 3e38F));
    return all;
}

std::vector<float> queries_of(const Catalog& catalog) {
    std::vector<float> queries(static_cast<std::size_t>(kQueries * catalog.d));
    for (float& value : queries) value = normal();
    const auto width = static_cast<std::size_t>(catalog.d);
    std::fill_n(queries.begin(), width, 0.0F);
    std::copy_n(catalog.rows.begin(), width, queries.begin() + catalog.d);
    for (std::size_t j = 0; j < width; ++j) queries[2 * width + j] *= 1e-41F;
    for (std::size_t j = 0; j < width; ++j) queries[3 * width + j] *= 1e37F;
    return queries;
}

struct Conditions {
    std::vector<std::uint8_t> allowed;
    std::vector<std::int32_t> excluded;
    std::vector<std::int64_t> offsets;
};

Conditions conditions_of(const Catalog& catalog, unsigned one_in) {
    Conditions made{std::vector<std::uint8_t>(static_cast<std::size_t>((catalog.n_items + 7) / 8)), {}, {0}};
    for (std::int64_t i = 0; i < catalog.n_items; ++i) {
        if (generator() % one_in != 0) continue;
        made.allowed[static_cast<std::size_t>(i / 8)] |= static_cast<std::uint8_t>(1U << (i % 8));
    }
    for (std::int64_t b = 0; b < kQueries; ++b) {
        const std::int64_t begin = made.offsets.back();
        for (std::int64_t i = 0; i < b * 2; ++i) {
            made.excluded.push_back(static_cast<std::int32_t>(generator() % static_cast<unsigned>(catalog.n_items)));
        }
        std::sort(made.excluded.begin() + begin, made.excluded.end());
        made.offsets.push_back(static_cast<std::int64_t>(made.excluded.size()));
    }
    return made;
}

void brute_force(const Catalog& catalog, const mtaw::ScanRequest& request, std::int32_t* ids, float* scores) {
    for (std::int64_t b = 0; b < request.n_queries; ++b) {
        std::vector<mtaw::Scored> items;
        for (std::int32_t i = 0; i < catalog.n_items; ++i) {
            if (request.allowed != nullptr && (request.allowed[i / 8] >> (i % 8) & 1) == 0) continue;
            if (request.excluded != nullptr &&
                std::binary_search(request.excluded + request.excluded_offsets[b],
                                   request.excluded + request.excluded_offsets[b + 1], i)) {
                continue;
            }
            double sum = 0;
            for (std::int64_t j = 0; j < catalog.d; ++j) {
                sum += static_cast<double>(request.queries[b * catalog.d + j]) *
                       static_cast<double>(catalog.rows[static_cast<std::size_t>(i * catalog.d + j)]);
            }
            items.push_back({static_cast<float>(request.scale * sum), i});
        }
        std::sort(items.begin(), items.end(), mtaw::Better{});
        for (std::int64_t place = 0; place < request.k; ++place) {
            const bool there = place < static_cast<std::int64_t>(items.size());
            const mtaw::Scored item = there ? items[static_cast<std::size_t>(place)] : mtaw::Scored{-INFINITY, -1};
            ids[b * request.k + place] = item.id;
            scores[b * request.k + place] = item.score;
        }
    }
}

bool same(const std::vector<std::int32_t>& ids, const std::vector<float>& scores,
          const std::vector<std::int32_t>& true_ids, const std::vector<float>& true_scores) {
    return ids == true_ids && std::equal(scores.begin(), scores.end(), true_scores.begin(), [](float a, float b) {
               return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
           });
}

void check(const Catalog& catalog, const std::vector<std::uint8_t>& blocks, const mtaw::ScanSummary& summary,
           const mtaw::ScanRequest& request, const std::vector<Isa>& levels, mtaw::ScanScratch& scratch) {
    const auto size = static_cast<std::size_t>(request.n_queries * request.k);
    std::vector<std::int32_t> true_ids(size), ids(size);
    std::vector<float> true_scores(size), scores(size);
    brute_force(catalog, request, true_ids.data(), true_scores.data());
    for (const Isa isa : levels) {
        const mtaw::Scanner scanner({catalog.rows.data(), blocks.data(), catalog.n_items, catalog.d, summary}, isa);
        std::fill(ids.begin(), ids.end(), -7);
        std::fill(scores.begin(), scores.end(), NAN);
        scanner.search(request, ids.data(), scores.data(), scratch);
        if (same(ids, scores, true_ids, true_scores)) continue;
        ++failures;
        std::printf("%s [%lld, %lld], %s: wrong for %lld queries, k %lld, scale %g%s%s\n", catalog.name.c_str(),
                    static_cast<long long>(catalog.n_items), static_cast<long long>(catalog.d), mtaw::isa_name(isa),
                    static_cast<long long>(request.n_queries), static_cast<long long>(request.k), request.scale,
                    request.allowed != nullptr ? ", allowed" : "", request.excluded != nullptr ? ", excluded" : "");
    }
}

// The levels that have a kernel and run here.
std::vector<Isa> levels() {
    std::vector<Isa> found;
    for (const char* name : {"portable", "neon", "avx2", "avx512", "vnni", "amx"}) {
        try {
            found.push_back(mtaw::isa_named(name));
        } catch (const std::invalid_argument&) {
        }
    }
    return found;
}

void check_reading(const std::vector<Isa>& all) {
    std::vector<std::uint8_t> bytes(100'003);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(generator());
    for (const Isa isa : all) {
        if (mtaw::read_bytes(bytes.data() + 1, 100'002, isa) == mtaw::read_bytes(bytes.data() + 1, 100'002, Isa::portable)) {
            continue;
        }
        ++failures;
        std::printf("read_bytes, %s: wrong sum\n", mtaw::isa_name(isa));
    }
}

}  // namespace

int main() {
    const std::vector<Isa> all = levels();
    mtaw::ScanScratch scratch;
    for (const Catalog& catalog : catalogs()) {
        const auto size = static_cast<std::size_t>(mtaw::block_count(catalog.n_items) * mtaw::block_bytes(catalog.d));
        std::vector<std::uint8_t> blocks(size);
        const mtaw::ScanSummary summary =
            mtaw::quantise_catalog(catalog.rows.data(), catalog.n_items, catalog.d, blocks.data());
        const std::vector<float> queries = queries_of(catalog);
        for (const std::int64_t k : {std::int64_t{1}, std::int64_t{20}, catalog.n_items, catalog.n_items + 3}) {
            if (k > 2000) continue;
            for (const std::int64_t n_queries : {std::int64_t{1}, kQueries}) {
                mtaw::ScanRequest request{queries.data(), n_queries, k, 16};
                check(catalog, blocks, summary, request, all, scratch);
                request.scale = 1e-30;
                check(catalog, blocks, summary, request, all, scratch);
                for (const unsigned one_in : {1U, 2U, 50U}) {
                    const Conditions conditions = conditions_of(catalog, one_in);
                    request.scale = 1;
                    request.allowed = conditions.allowed.data();
                    check(catalog, blocks, summary, request, all, scratch);
                    request.excluded = conditions.excluded.data();
                    request.excluded_offsets = conditions.offsets.data();
                    check(catalog, blocks, summary, request, all, scratch);
                    request.excluded = nullptr;
                }
            }
        }
    }
    check_reading(all);
    std::printf("instruction sets:");
    for (const Isa isa : all) std::printf(" %s", mtaw::isa_name(isa));
    std::printf("; %d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
