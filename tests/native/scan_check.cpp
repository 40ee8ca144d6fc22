// The scanner against brute force, on every instruction set of the CPU that runs it: one program, so that it can be
// built for another architecture, or under the sanitizers, without Python. Prints one line a failure; exits 0 or 1.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "isa.hpp"
#include "scan/bounds.hpp"
#include "scan/kernel.hpp"
#include "scan/read.hpp"
#include "scan/scanner.hpp"
#include "score/score.hpp"

namespace {

using mtaw::Isa;

constexpr std::int64_t kQueries = 43;  // more than one pass of every kernel takes
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
    for (const std::int64_t n_items : {1, 15, 16, 17, 1021}) {
        for (const std::int64_t d : {1, 3, 4, 100}) all.push_back(random_catalog("random", n_items, d, 0));
    }
    all.push_back(random_catalog("random", 9001, 100, 0));
    for (const std::int64_t d : {117, 128}) all.push_back(random_catalog("tiles", 301, d, 2));
    all.push_back(random_catalog("wide", 3001, 26, 8));
    all.push_back(random_catalog("very wide", 500, 7, 25));
    all.push_back(repeated(random_catalog("duplicates", 6007, 24, 0), 40, 0));
    all.push_back(repeated(random_catalog("near ties", 6007, 40, 0), 1, 1e-7F));
    all.push_back(repeated(random_catalog("near ties after codes", 9001, 40, 0), 3, 1e-3F));
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
        for (std::int64_t rank = 0; rank < request.k; ++rank) {
            const bool there = rank < static_cast<std::int64_t>(items.size());
            const mtaw::Scored item = there ? items[static_cast<std::size_t>(rank)] : mtaw::Scored{-INFINITY, -1};
            ids[b * request.k + rank] = item.id;
            scores[b * request.k + rank] = item.score;
        }
    }
}

bool same(const std::vector<std::int32_t>& ids, const std::vector<float>& scores,
          const std::vector<std::int32_t>& true_ids, const std::vector<float>& true_scores) {
    return ids == true_ids && std::equal(scores.begin(), scores.end(), true_scores.begin(), [](float a, float b) {
               return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
           });
}

struct Codes {
    std::vector<std::uint8_t> blocks;
    std::vector<std::uint8_t> half_blocks, low_blocks;
    mtaw::ScanSummary summary;
};

void check(const Catalog& catalog, const Codes& codes, const mtaw::ScanRequest& request, const std::vector<Isa>& levels,
           mtaw::ScanScratch& scratch) {
    const auto size = static_cast<std::size_t>(request.n_queries * request.k);
    std::vector<std::int32_t> true_ids(size), ids(size);
    std::vector<float> true_scores(size), scores(size);
    brute_force(catalog, request, true_ids.data(), true_scores.data());
    for (const Isa isa : levels) {
        for (const bool nested : {false, true}) {
            // One query reads the parts as they are; many join them, as one request says as well as all.
            const bool joins = nested && request.n_queries > 1;
            if (joins ? request.k != 20 || request.scale != 16 : !nested && request.n_queries == 1) continue;
            mtaw::ScanCatalog view{catalog.rows.data(), codes.blocks.data(), catalog.n_items, catalog.d, codes.summary};
            if (nested) {
                view.blocks = nullptr;
                view.half_blocks = codes.half_blocks.data();
                view.low_blocks = codes.low_blocks.data();
            }
            const mtaw::Scanner scanner(view, isa);
            std::fill(ids.begin(), ids.end(), -7);
            std::fill(scores.begin(), scores.end(), NAN);
            scanner.search(request, ids.data(), scores.data(), scratch);
            if (same(ids, scores, true_ids, true_scores)) continue;
            ++failures;
            std::printf("%s [%lld, %lld], %s: wrong for %lld queries, k %lld, scale %g%s%s%s\n", catalog.name.c_str(),
                        static_cast<long long>(catalog.n_items), static_cast<long long>(catalog.d), mtaw::isa_name(isa),
                        static_cast<long long>(request.n_queries), static_cast<long long>(request.k), request.scale,
                        request.allowed != nullptr ? ", allowed" : "", request.excluded != nullptr ? ", excluded" : "",
                        nested ? ", nested" : "");
        }
    }
}

// Whether a kernel's bounds of an item are step * (sum of code * query code) +- spread * residual, but for roundings;
// of refined bounds, those that bounds.hpp states.
bool agrees(const Catalog& catalog, const Codes& codes, bool half, std::int64_t item, const mtaw::ScanLane& lane,
            float upper, float lower, bool refined = false) {
    const std::int64_t lines = half ? mtaw::half_lines(catalog.d) : mtaw::code_lines(catalog.d);
    const std::uint8_t* block =
        (half ? codes.half_blocks : codes.blocks).data() + item / mtaw::kBlockItems * (lines + 1) * mtaw::kLineBytes;
    const std::int64_t slot = item % mtaw::kBlockItems;
    double dot = 0;
    for (std::int64_t j = 0; j < catalog.d; ++j) {
        const std::int64_t line = half ? j / 8 : j / 4;
        const int byte = block[line * mtaw::kLineBytes + slot * 4 + j % 4];
        const int code = half ? 2 * (j % 8 < 4 ? byte & 15 : byte >> 4) - 15 : byte - 128;
        dot += static_cast<double>(code) * lane.codes[j];
    }
    std::uint32_t word;
    std::memcpy(&word, block + lines * mtaw::kLineBytes + slot * 4, 4);
    const double estimate = dot * static_cast<double>(std::bit_cast<float>(word & 0xFFFF0000U));
    const double spread = static_cast<double>(lane.spread) * static_cast<double>(std::bit_cast<float>(word << 16));
    const mtaw::ScanSummary& summary = codes.summary;
    const double most = static_cast<double>(lane.spread) * (summary.largest_norm + 2 * summary.largest_residual);
    const double own = 0x1p-22 * (std::fabs(estimate) + spread) + 0x1p-125;
    const double near = refined ? (0x1p-21 * most + 0x1p-100) / 1.5 : own;
    return std::fabs(upper - (estimate + spread)) <= near && std::fabs(lower - (estimate - spread)) <= near;
}

// With a threshold, those items come that have an upper bound over it, and no others. upper: of every item, by lane.
bool only_over_cuts(mtaw::ScanKernel kernel, const mtaw::ScanBlocks& blocks, std::int64_t n_items,
                    const std::vector<std::vector<float>>& upper, std::vector<mtaw::ScanLane> lanes) {
    const std::vector<std::vector<float>> all = upper;
    bool right = true;
    for (const std::size_t per_mille : {30UL, 900UL}) {
        for (std::size_t l = 0; l < lanes.size(); ++l) {
            std::vector<float> sorted(all[l].begin(), all[l].begin() + static_cast<std::ptrdiff_t>(n_items));
            std::sort(sorted.begin(), sorted.end());
            lanes[l].cut = sorted[(sorted.size() - 1) * per_mille / 1000];
            lanes[l].count = 0;
        }
        const std::int64_t n_blocks = mtaw::block_count(n_items);
        right = right && kernel(blocks, 0, n_blocks, {nullptr, 0}, lanes.data()) == n_blocks;
        for (std::size_t l = 0; l < lanes.size(); ++l) {
            std::vector<std::int32_t> expected;
            for (std::int64_t i = 0; i < n_items; ++i) {
                if (all[l][static_cast<std::size_t>(i)] > lanes[l].cut)
                    expected.push_back(static_cast<std::int32_t>(i));
            }
            right = right && std::equal(expected.begin(), expected.end(), lanes[l].ids, lanes[l].ids + lanes[l].count);
        }
    }
    return right;
}

// The kernels themselves: with no threshold every item comes, with the bounds that its codes say.
void check_bounds(const Catalog& catalog, const Codes& codes, const std::vector<float>& queries, Isa isa) {
    const std::int64_t wide = mtaw::code_lines(catalog.d) * mtaw::kLineDims;
    const std::int64_t n_blocks = mtaw::block_count(catalog.n_items);
    const auto capacity = static_cast<std::size_t>(n_blocks * mtaw::kBlockItems + mtaw::kAppendSlack);
    const mtaw::ScanKernels kernels = mtaw::scan_kernels(isa);
    mtaw::BlockTails tails;
    const mtaw::ScanBlocks blocks{codes.blocks.data(),
                                  mtaw::code_lines(catalog.d),
                                  codes.half_blocks.data(),
                                  codes.low_blocks.data(),
                                  mtaw::half_lines(catalog.d),
                                  0,
                                  &tails,
                                  codes.blocks.data(),
                                  4};
    if (kernels.wide != nullptr) kernels.make_tails(blocks, 0, n_blocks, &tails);
    const auto check_pass = [&](const char* name, mtaw::ScanKernel kernel, std::int64_t width, bool half) {
        const auto n_lanes = static_cast<std::size_t>(width);
        std::vector<std::int8_t> words(static_cast<std::size_t>(wide) * n_lanes);
        std::vector<std::vector<std::int16_t>> pairs(n_lanes);
        const std::int64_t half_bytes = mtaw::half_lines(catalog.d) * mtaw::kLineDims;
        std::vector<std::vector<std::int8_t>> low_codes(n_lanes);
        std::vector<std::vector<float>> upper(n_lanes), lower(n_lanes);
        std::vector<std::vector<std::int32_t>> ids(n_lanes);
        std::vector<mtaw::ScanLane> lanes;
        for (std::size_t l = 0; l < n_lanes; ++l) {
            std::int8_t* own = words.data() + static_cast<std::int64_t>(l) * wide;
            mtaw::CodedQuery coded;
            const float* query = queries.data() + (static_cast<std::int64_t>(l) + 1) * catalog.d;
            if (!mtaw::code_query(query, catalog.d, 1, codes.summary, own, &coded)) std::abort();
            for (std::int64_t j = 0; j < wide; j += 4) {
                for (const std::int64_t t : {0, 2, 1, 3}) pairs[l].push_back(own[j + t]);
            }
            low_codes[l].resize(static_cast<std::size_t>(2 * half_bytes));
            for (std::int64_t j = 0; j < catalog.d; ++j) {
                const std::int64_t offset = j / 8 * 4 + j % 4 + (j % 8 < 4 ? 0 : half_bytes);
                low_codes[l][static_cast<std::size_t>(offset)] = own[j];
            }
            upper[l].resize(capacity);
            lower[l].resize(capacity);
            ids[l].resize(capacity);
            lanes.push_back({own, pairs[l].data(), low_codes[l].data(), coded.code_sum, coded.spread, -INFINITY,
                             upper[l].data(), lower[l].data(), ids[l].data(), 0, static_cast<std::int64_t>(capacity)});
        }
        const std::int64_t reached = kernel(blocks, 0, n_blocks, {nullptr, 0}, lanes.data());
        bool right = reached == n_blocks;
        for (std::size_t l = 0; l < n_lanes; ++l) {
            right = right && lanes[l].count == catalog.n_items;
            for (std::int64_t i = 0; right && i < catalog.n_items; ++i) {
                right = ids[l][static_cast<std::size_t>(i)] == i &&
                        agrees(catalog, codes, half, i, lanes[l], upper[l][static_cast<std::size_t>(i)],
                               lower[l][static_cast<std::size_t>(i)]);
            }
        }
        if (right) right = only_over_cuts(kernel, blocks, catalog.n_items, upper, lanes);
        if (right && half) {
            for (mtaw::ScanLane& lane : lanes) lane.count = 0;
            // The low halves make the bounds of a few entries, and of all, those of the whole codes.
            kernel(blocks, 0, n_blocks, {nullptr, 0}, lanes.data());
            for (mtaw::ScanLane& lane : lanes) {
                kernels.refine(blocks, catalog.n_items / 2, lane);
                for (std::int64_t i = 0; right && i < catalog.n_items; ++i) {
                    const bool refined = i >= catalog.n_items / 2;
                    right = agrees(catalog, codes, !refined, i, lane, lane.upper[i], lane.lower[i], refined);
                }
            }
        }
        if (right) return;
        ++failures;
        std::printf("%s [%lld, %lld], %s: the kernel '%s' gives wrong bounds\n", catalog.name.c_str(),
                    static_cast<long long>(catalog.n_items), static_cast<long long>(catalog.d), mtaw::isa_name(isa),
                    name);
    };
    for (std::int64_t lanes = 1; lanes <= mtaw::kFewLanes; ++lanes) {
        check_pass("few", kernels.few[lanes - 1], lanes, false);
        check_pass("few_half", kernels.few_half[lanes - 1], lanes, true);
    }
    check_pass("many", kernels.many, kernels.width, false);
    check_pass("many_half", kernels.many_half, kernels.width, true);
    std::vector<std::uint8_t> joined(codes.blocks.size());
    kernels.join(codes.half_blocks.data(), codes.low_blocks.data(), n_blocks, catalog.d, joined.data());
    if (joined != codes.blocks) {
        ++failures;
        std::printf("%s [%lld, %lld], %s: the joined codes are not the whole ones\n", catalog.name.c_str(),
                    static_cast<long long>(catalog.n_items), static_cast<long long>(catalog.d), mtaw::isa_name(isa));
    }
    if (kernels.wide != nullptr) check_pass("wide", kernels.wide, kernels.wide_width, false);
}

// The levels that have a kernel and run here.
std::vector<Isa> levels() {
    std::vector<Isa> found;
    for (const char* name : {"portable", "neon", "avx2", "avx512", "vnni", "amx"}) {
        try {
            found.push_back(mtaw::isa_named(name));
        } catch (const std::invalid_argument&) {}
    }
#if defined(MTAW_EMULATED_TILES)
    found.push_back(Isa::amx);
#endif
    return found;
}

void check_reading(const std::vector<Isa>& all) {
    std::vector<std::uint8_t> bytes(100'003);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(generator());
    for (const Isa isa : all) {
        const std::uint64_t sum = mtaw::read_bytes(bytes.data() + 1, 100'002, isa);
        if (sum == mtaw::read_bytes(bytes.data() + 1, 100'002, Isa::portable)) continue;
        ++failures;
        std::printf("read_bytes, %s: wrong sum\n", mtaw::isa_name(isa));
    }
}

}  // namespace

int main() {
    const std::vector<Isa> all = levels();
    mtaw::ScanScratch scratch;
    for (const Catalog& catalog : catalogs()) {
        const std::int64_t n_blocks = mtaw::block_count(catalog.n_items);
        Codes codes;
        codes.blocks.resize(static_cast<std::size_t>(n_blocks * mtaw::block_bytes(catalog.d)));
        codes.half_blocks.resize(static_cast<std::size_t>(n_blocks * mtaw::half_block_bytes(catalog.d)));
        codes.low_blocks.resize(codes.half_blocks.size());
        codes.summary = mtaw::quantize_catalog(catalog.rows.data(), catalog.n_items, catalog.d, codes.blocks.data());
        mtaw::nest_codes(codes.blocks.data(), n_blocks, catalog.d, codes.half_blocks.data(), codes.low_blocks.data(),
                         &codes.summary);
        const std::vector<float> queries = queries_of(catalog);
        for (const Isa isa : all) check_bounds(catalog, codes, queries, isa);
        for (const std::int64_t k : {std::int64_t{1}, std::int64_t{20}, catalog.n_items + 3}) {
            if (k > 2000) continue;
            for (const std::int64_t n_queries : {std::int64_t{1}, kQueries}) {
                mtaw::ScanRequest request{queries.data(), n_queries, k, 16};
                check(catalog, codes, request, all, scratch);
                request.scale = 1e-30;
                check(catalog, codes, request, all, scratch);
                for (const unsigned one_in : {2U, 50U}) {
                    const Conditions conditions = conditions_of(catalog, one_in);
                    request.scale = 1;
                    request.allowed = conditions.allowed.data();
                    check(catalog, codes, request, all, scratch);
                    request.excluded = conditions.excluded.data();
                    request.excluded_offsets = conditions.offsets.data();
                    check(catalog, codes, request, all, scratch);
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
