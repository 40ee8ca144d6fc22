#include "scan/search.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>

namespace mtaw {
namespace {

constexpr std::int64_t kGroupQueries = 256;       // queries that go through the catalog together
constexpr std::int64_t kGroupBytes = 64LL << 20;  // what their buffers may take
constexpr std::int64_t kChunkBytes = 512 << 10;   // of the catalog, passed by all of them in turn: stays in a core's L2
constexpr std::int64_t kManyQueries = 16;         // from here on the kernel for `wide_width` pays
constexpr std::int64_t kSparse = 32;              // where less than 1/32 of the items is allowed, those are listed
constexpr std::int64_t kLate = 8;                 // the last eighth of a pass
constexpr std::int64_t kHalfChunk = 256;          // blocks between two looks at whether the half-wide codes pay
constexpr std::int64_t kRowCost = 3;              // what fetching a row costs, in what they save on a block
constexpr std::int64_t kWholeChunks = 8;          // passed whole after one where they did not; doubled by the next

std::int64_t lane_codes(std::int64_t d) { return code_lines(d) * kLineDims; }

class Search {
 public:
    Search(const ScanCatalog& catalog, Isa isa, const ScanRequest& request, ScanScratch::State& memory)
        : request_(request),
          memory_(memory),
          plan_{&catalog, std::min(request.k, catalog.n_items), request.scale, isa, select_kernels(isa),
                &memory.scored},
          kernels_(scan_kernels(isa)),
          blocks_{catalog.blocks, code_lines(catalog.d), catalog.half_blocks, half_lines(catalog.d), &memory.tails, catalog.blocks},
          allowed_{request.allowed, (catalog.n_items + 7) / 8} {}

    void run(std::int32_t* ids, float* scores) {
        const std::int64_t total = request_.n_queries * request_.k;
        std::fill(ids, ids + total, -1);
        std::fill(scores, scores + total, -std::numeric_limits<float>::infinity());
        const bool listed = is_sparse();
        const std::int64_t lane_bytes = plan_.capacity() * 12;
        const std::int64_t group = std::clamp<std::int64_t>(kGroupBytes / lane_bytes, 1, kGroupQueries);
        for (std::int64_t begin = 0; begin < request_.n_queries; begin += group) {
            const std::int64_t end = std::min(begin + group, request_.n_queries);
            prepare(begin, end);
            if (listed) {
                for (std::int64_t q = 0; q < end - begin; ++q) take_allowed(candidates(q));
            } else {
                pass_all(end - begin);
            }
            for (std::int64_t q = 0; q < end - begin; ++q) {
                if (q + 1 < end - begin) {
                    candidates(q + 1).tighten(plan_);
                    candidates(q + 1).fetch_rows(plan_);
                }
                const std::int64_t place = (begin + q) * request_.k;
                candidates(q).finish(plan_, ids + place, scores + place);
            }
        }
    }

 private:
    Candidates& candidates(std::int64_t q) { return memory_.candidates[static_cast<std::size_t>(q)]; }

    const std::uint8_t* catalog_block(std::int64_t block) const {
        return plan_.catalog->blocks + block * block_bytes(plan_.catalog->d);
    }

    // Whether the allowed items are so few that scoring them one by one beats a pass.
    bool is_sparse() const {
        if (allowed_.bits == nullptr) return false;
        const std::int64_t most = plan_.catalog->n_items / kSparse;
        std::int64_t count = 0;
        for (std::int64_t i = 0; i < allowed_.n_bytes && count <= most; ++i) count += std::popcount(allowed_.bits[i]);
        return count <= most;
    }

    // Codes the queries begin .. end and lays their buffers out.
    void prepare(std::int64_t begin, std::int64_t end) {
        const ScanCatalog& catalog = *plan_.catalog;
        const std::int64_t wide = lane_codes(catalog.d), capacity = plan_.capacity();
        const auto count = static_cast<std::size_t>(end - begin);
        const auto fit = [](auto& vector, std::size_t size) {
            if (vector.size() < size) vector.resize(size);
        };
        fit(memory_.codes, (count + kMaxLanes) * static_cast<std::size_t>(wide));
        fit(memory_.pairs, count * static_cast<std::size_t>(wide));
        fit(memory_.upper, count * static_cast<std::size_t>(capacity));
        fit(memory_.lower, count * static_cast<std::size_t>(capacity));
        fit(memory_.ids, count * static_cast<std::size_t>(capacity));
        fit(memory_.candidates, count);
        for (std::int64_t q = 0; q < end - begin; ++q) {
            Candidates& one = candidates(q);
            std::int8_t* codes = memory_.codes.data() + q * wide;
            std::int16_t* pairs = memory_.pairs.data() + q * wide;
            one.query = request_.queries + (begin + q) * catalog.d;
            if (!code_query(one.query, catalog.d, plan_.scale, catalog.summary, codes, &one.coded)) {
                throw std::invalid_argument("query " + std::to_string(begin + q) +
                                            " is not finite; encode it with this bundle's encoder");
            }
            for (std::int64_t j = 0; j < wide; j += kLineDims) {
                pairs[j] = codes[j];
                pairs[j + 1] = codes[j + 2];
                pairs[j + 2] = codes[j + 1];
                pairs[j + 3] = codes[j + 3];
            }
            one.lane.codes = codes;
            one.lane.pairs = pairs;
            one.lane.code_sum = one.coded.code_sum;
            one.lane.spread = one.coded.spread;
            one.lane.upper = memory_.upper.data() + q * capacity;
            one.lane.lower = memory_.lower.data() + q * capacity;
            one.lane.ids = memory_.ids.data() + q * capacity;
            one.excluded = one.excluded_end = nullptr;
            if (request_.excluded != nullptr) {
                one.excluded = request_.excluded + request_.excluded_offsets[begin + q];
                one.excluded_end = request_.excluded + request_.excluded_offsets[begin + q + 1];
            }
            one.start(plan_);
        }
    }

    void take_allowed(Candidates& one) {
        for (std::int64_t byte = 0; byte < allowed_.n_bytes; ++byte) {
            const std::int64_t left = plan_.catalog->n_items - byte * 8;
            const unsigned items = left < 8 ? (1U << left) - 1 : 0xFFU;  // bits past the last item say nothing
            for (unsigned bits = allowed_.bits[byte] & items; bits != 0; bits &= bits - 1) {
                one.add_unbounded(static_cast<std::int32_t>(byte * 8 + std::countr_zero(bits)));
                if (one.lane.count >= one.lane.limit) one.tighten(plan_);
            }
        }
    }

    void pass_all(std::int64_t count) {
        const std::int64_t n_blocks = block_count(plan_.catalog->n_items);
        if (count <= kFewLanes || kernels_.width == 1) {
            for (std::int64_t q = 0; q < count; q += kFewLanes) pass_few(q, std::min(count - q, kFewLanes), n_blocks);
            return;
        }
        const std::int64_t chunk = std::max<std::int64_t>(4, kChunkBytes / block_bytes(plan_.catalog->d));
        for (std::int64_t begin = 0; begin < n_blocks; begin += chunk) {
            const std::int64_t end = std::min(begin + chunk, n_blocks);
            const bool any_wide = kernels_.wide != nullptr && count >= kManyQueries;
            if (any_wide) kernels_.make_tails(blocks_, begin, end, &memory_.tails);
            for (std::int64_t q = 0; q < count;) {
                const bool wide = any_wide && count - q >= kManyQueries;
                const std::int64_t width = wide ? kernels_.wide_width : kernels_.width;
                // Each group of lanes prefetches its share of the next chunk.
                blocks_.next = catalog_block(end) + q * (end - begin) * block_bytes(plan_.catalog->d) / count;
                pass(wide ? kernels_.wide : kernels_.many, &Candidates::tighten, q, std::min(width, count - q), width,
                     begin, end);
                q += width;
            }
        }
    }

    // The queries first .. first + count, which read the catalog together, once.
    void pass_few(std::int64_t first, std::int64_t count, std::int64_t n_blocks) {
        const auto pass_whole = [&](std::int64_t begin, std::int64_t end) {
            pass(kernels_.few[count - 1], &Candidates::tighten, first, count, count, begin, end);
        };
        if (blocks_.half_blocks != nullptr) {
            const std::int64_t begin = std::min(kHalfChunk, n_blocks);
            pass_whole(0, begin);
            pass_by_halves(first, count, begin, n_blocks);
            return;
        }
        // Most entries that are left shortly before the end stay: their rows are prefetched during the rest of the
        // pass.
        const std::int64_t late = n_blocks - n_blocks / kLate;
        pass_whole(0, late);
        for (std::int64_t q = first; q < first + count; ++q) {
            candidates(q).tighten(plan_);
            candidates(q).fetch_rows(plan_);
        }
        pass_whole(late, n_blocks);
    }

    // Over the half-wide codes, as long as they let few items through: where they do not, over the whole ones for a
    // while. Their bounds are so wide that what they let through is scored at once.
    void pass_by_halves(std::int64_t first, std::int64_t count, std::int64_t begin, std::int64_t end) {
        const auto settle_all = [&] {
            for (std::int64_t q = first; q < first + count; ++q) candidates(q).settle(plan_);
        };
        const auto let_through = [&] {
            std::int64_t items = 0;
            for (std::int64_t q = first; q < first + count; ++q) items += candidates(q).let_through();
            return items;
        };
        settle_all();
        std::int64_t whole_chunks = 0, pause = kWholeChunks;
        for (; begin < end; begin += kHalfChunk) {
            const std::int64_t next = std::min(begin + kHalfChunk, end);
            if (whole_chunks > 0) {
                pass(kernels_.few[count - 1], &Candidates::tighten, first, count, count, begin, next);
                if (--whole_chunks == 0) settle_all();
                continue;
            }
            const std::int64_t before = let_through();
            pass(kernels_.few_half[count - 1], &Candidates::settle, first, count, count, begin, next);
            const bool pays = (let_through() - before) * kRowCost <= next - begin;
            whole_chunks = pays ? 0 : pause;
            pause = pays ? kWholeChunks : 2 * pause;
        }
    }

    // Queries first .. first + count through blocks begin .. end by a kernel of `width` lanes; `relieve` is what
    // happens to a lane that is full.
    void pass(ScanKernel kernel, void (Candidates::*relieve)(const SearchPlan&), std::int64_t first, std::int64_t count,
              std::int64_t width, std::int64_t begin, std::int64_t end) {
        memory_.lanes.resize(static_cast<std::size_t>(width));
        ScanLane* lanes = memory_.lanes.data();
        for (std::int64_t l = 0; l < width; ++l) {
            lanes[l] = candidates(first + std::min(l, count - 1)).lane;
            // A lane that is left over runs with the rest, on whatever codes are there, and lets nothing through.
            lanes[l].codes = memory_.codes.data() + (first + l) * lane_codes(plan_.catalog->d);
            if (l >= count) lanes[l].cut = std::numeric_limits<float>::infinity();
        }
        for (std::int64_t block = begin; block < end;) {
            block = kernel(blocks_, block, end, allowed_, lanes);
            const auto is_full = [](const ScanLane& lane) { return lane.count >= lane.limit; };
            if (std::none_of(lanes, lanes + count, is_full)) continue;
            // Lanes that are half full by now are relieved as well: each stop costs all of them.
            for (std::int64_t l = 0; l < count; ++l) {
                Candidates& one = candidates(first + l);
                if (2 * lanes[l].count < one.checked + lanes[l].limit) continue;
                one.lane = lanes[l];
                (one.*relieve)(plan_);
                lanes[l] = one.lane;
            }
        }
        for (std::int64_t l = 0; l < count; ++l) candidates(first + l).lane = lanes[l];
    }

    const ScanRequest& request_;
    ScanScratch::State& memory_;
    SearchPlan plan_;
    ScanKernels kernels_;
    ScanBlocks blocks_;
    AllowedBits allowed_;
};

}  // namespace

void search_catalog(const ScanCatalog& catalog, Isa isa, const ScanRequest& request, ScanScratch::State& memory,
                    std::int32_t* ids, float* scores) {
    Search(catalog, isa, request, memory).run(ids, scores);
}

}  // namespace mtaw
