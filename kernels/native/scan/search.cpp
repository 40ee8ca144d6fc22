#include "scan/search.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

namespace mtaw {
namespace {

constexpr std::int64_t kGroupQueries = 256;       // queries that go through the catalog together
constexpr std::int64_t kGroupBytes = 64LL << 20;  // what their buffers may take
constexpr std::int64_t kChunkBytes = 512 << 10;   // of the catalog, passed by all of them in turn: stays in a core's L2
constexpr std::int64_t kNestedChunkBytes = 256 << 10;  // of nested codes, joined: both forms share the L2
constexpr std::int64_t kManyQueries = 16;              // from here on the kernel for `wide_width` pays
constexpr std::int64_t kManyHalfQueries = 8;           // up to here passes over half-wide codes beat joining them
constexpr std::int64_t kSparseShare = 32;              // where less than 1/32 of the items is allowed, those are listed
constexpr std::int64_t kLateShare = 8;                 // the last eighth of a pass
std::int64_t lane_codes(std::int64_t d) { return code_lines(d) * kLineDims; }

class Search {
   public:
    Search(const ScanCatalog& catalog, Isa isa, const ScanRequest& request, ScanScratch::State& memory)
        : request_(request),
          scratch_(memory),
          kernels_(scan_kernels(isa)),
          blocks_{catalog.blocks,     code_lines(catalog.d), catalog.half_blocks,
                  catalog.low_blocks, half_lines(catalog.d), 0,
                  &memory.tails},
          plan_{&catalog,
                std::min(request.k, catalog.n_items),
                request.scale,
                isa,
                select_kernels(isa),
                &memory.scored,
                &blocks_,
                kernels_.refine},
          allowed_{request.allowed, (catalog.n_items + 7) / 8} {}

    void run(std::int32_t* ids, float* scores) {
        const std::int64_t total = request_.n_queries * request_.k;
        std::fill(ids, ids + total, -1);
        std::fill(scores, scores + total, -std::numeric_limits<float>::infinity());
        const bool is_listed = is_sparse();
        const std::int64_t lane_bytes = plan_.capacity() * 12;
        const std::int64_t group_size = std::clamp<std::int64_t>(kGroupBytes / lane_bytes, 1, kGroupQueries);
        for (std::int64_t begin = 0; begin < request_.n_queries; begin += group_size) {
            const std::int64_t end = std::min(begin + group_size, request_.n_queries);
            prepare(begin, end);
            if (is_listed) {
                for (std::int64_t q = 0; q < end - begin; ++q) take_allowed(candidates(q));
            } else {
                pass_all(end - begin);
            }
            for (std::int64_t q = 0; q < end - begin; ++q) {
                if (q + 1 < end - begin) {
                    candidates(q + 1).tighten(plan_);
                    candidates(q + 1).fetch_rows(plan_);
                }
                const std::int64_t offset = (begin + q) * request_.k;
                candidates(q).finish(plan_, ids + offset, scores + offset);
            }
        }
    }

   private:
    Candidates& candidates(std::int64_t q) { return scratch_.candidates[static_cast<std::size_t>(q)]; }

    // Whether the allowed items are so few that scoring them one by one beats a pass.
    bool is_sparse() const {
        if (allowed_.bits == nullptr) return false;
        const std::int64_t max_listed = plan_.catalog->n_items / kSparseShare;
        std::int64_t count = 0;
        for (std::int64_t i = 0; i < allowed_.n_bytes && count <= max_listed; ++i) {
            count += std::popcount(allowed_.bits[i]);
        }
        return count <= max_listed;
    }

    // Codes the queries begin .. end and lays their buffers out.
    void prepare(std::int64_t begin, std::int64_t end) {
        const ScanCatalog& catalog = *plan_.catalog;
        const std::int64_t code_bytes = lane_codes(catalog.d), capacity = plan_.capacity();
        const auto count = static_cast<std::size_t>(end - begin);
        const auto fit = [](auto& vector, std::size_t size) {
            if (vector.size() < size) vector.resize(size);
        };
        fit(scratch_.codes, (count + kMaxLanes) * static_cast<std::size_t>(code_bytes));
        fit(scratch_.pairs, count * static_cast<std::size_t>(code_bytes));
        const std::int64_t half = blocks_.half_lines * kLineDims;
        if (catalog.nested()) fit(scratch_.low_codes, count * static_cast<std::size_t>(2 * half));
        fit(scratch_.upper, count * static_cast<std::size_t>(capacity));
        fit(scratch_.lower, count * static_cast<std::size_t>(capacity));
        fit(scratch_.ids, count * static_cast<std::size_t>(capacity));
        fit(scratch_.candidates, count);
        for (std::int64_t q = 0; q < end - begin; ++q) {
            Candidates& candidate_set = candidates(q);
            std::int8_t* codes = scratch_.codes.data() + q * code_bytes;
            std::int16_t* pairs = scratch_.pairs.data() + q * code_bytes;
            candidate_set.query = request_.queries + (begin + q) * catalog.d;
            if (!code_query(candidate_set.query, catalog.d, plan_.scale, catalog.summary, codes,
                            &candidate_set.coded)) {
                throw std::invalid_argument("query " + std::to_string(begin + q) +
                                            " is not finite; encode it with this bundle's encoder");
            }
            for (std::int64_t j = 0; j < code_bytes; j += kLineDims) {
                pairs[j] = codes[j];
                pairs[j + 1] = codes[j + 2];
                pairs[j + 2] = codes[j + 1];
                pairs[j + 3] = codes[j + 3];
            }
            candidate_set.lane.codes = codes;
            candidate_set.lane.pairs = pairs;
            candidate_set.lane.low_codes = nullptr;
            if (catalog.nested()) {
                std::int8_t* const low = scratch_.low_codes.data() + q * 2 * half;
                for (std::int64_t j = 0; j < 2 * half; j += kLineDims) {
                    // Line by line to the lower and the upper halves in turn; past the last line is nothing.
                    std::int8_t* const destination =
                        low + j / (2 * kLineDims) * kLineDims + (j / kLineDims % 2 != 0 ? half : 0);
                    if (j < code_bytes)
                        std::memcpy(destination, codes + j, kLineDims);
                    else
                        std::memset(destination, 0, kLineDims);
                }
                candidate_set.lane.low_codes = low;
            }
            candidate_set.lane.code_sum = candidate_set.coded.code_sum;
            candidate_set.lane.spread = candidate_set.coded.spread;
            candidate_set.lane.upper = scratch_.upper.data() + q * capacity;
            candidate_set.lane.lower = scratch_.lower.data() + q * capacity;
            candidate_set.lane.ids = scratch_.ids.data() + q * capacity;
            candidate_set.excluded = candidate_set.excluded_end = nullptr;
            if (request_.excluded != nullptr) {
                candidate_set.excluded = request_.excluded + request_.excluded_offsets[begin + q];
                candidate_set.excluded_end = request_.excluded + request_.excluded_offsets[begin + q + 1];
            }
            candidate_set.start(plan_);
        }
    }

    void take_allowed(Candidates& candidate_set) {
        for (std::int64_t byte = 0; byte < allowed_.n_bytes; ++byte) {
            const std::int64_t n_left = plan_.catalog->n_items - byte * 8;
            const unsigned items = n_left < 8 ? (1U << n_left) - 1 : 0xFFU;  // bits past the last item say nothing
            for (unsigned bits = allowed_.bits[byte] & items; bits != 0; bits &= bits - 1) {
                candidate_set.add_unbounded(static_cast<std::int32_t>(byte * 8 + std::countr_zero(bits)));
                if (candidate_set.lane.count >= candidate_set.lane.limit) candidate_set.tighten(plan_);
            }
        }
    }

    void pass_all(std::int64_t count) {
        const ScanCatalog& catalog = *plan_.catalog;
        const std::int64_t n_blocks = block_count(catalog.n_items);
        const std::int64_t few = few_queries();
        if (count <= few || kernels_.width == 1) {
            for (std::int64_t q = 0; q < count;) {
                const std::int64_t n_left = count - q;
                const bool many = n_left > kFewLanes && few > kFewLanes;
                const std::int64_t width = many ? std::max(kernels_.width, kFewLanes) : kFewLanes;
                pass_together(q, std::min(n_left, width), n_blocks);
                q += width;
            }
            return;
        }
        const std::int64_t bytes = catalog.nested() ? kNestedChunkBytes : kChunkBytes;
        const std::int64_t chunk_blocks = std::max<std::int64_t>(4, bytes / block_bytes(catalog.d));
        if (catalog.nested()) scratch_.joined.resize(static_cast<std::size_t>(chunk_blocks * (blocks_.lines + 1)));
        const bool any_wide = kernels_.wide != nullptr && count >= kManyQueries;
        for (std::int64_t begin = 0; begin < n_blocks; begin += chunk_blocks) {
            const std::int64_t end = std::min(begin + chunk_blocks, n_blocks);
            if (catalog.nested()) join(begin, end);
            if (any_wide) kernels_.make_tails(blocks_, begin, end, &scratch_.tails);
            for (std::int64_t q = 0; q < count;) {
                const bool is_wide = any_wide && count - q >= kManyQueries;
                const std::int64_t width = is_wide ? kernels_.wide_width : kernels_.width;
                fetch_later(begin, end, q, std::min(q + width, count), count);
                pass(is_wide ? kernels_.wide : kernels_.many, &Candidates::tighten, q, std::min(width, count - q),
                     width, begin, end);
                q += width;
            }
        }
    }

    // So many queries each go through the catalog in passes of their own; more of them go through chunks in turn.
    std::int64_t few_queries() const { return plan_.catalog->nested() ? kManyHalfQueries : kFewLanes; }

    // The whole codes of blocks begin .. end, which many queries read: made once for all of them.
    void join(std::int64_t begin, std::int64_t end) {
        const ScanCatalog& catalog = *plan_.catalog;
        const std::int64_t offset = begin * half_block_bytes(catalog.d);
        std::uint8_t* const destination = scratch_.joined.data()->bytes;
        kernels_.join(catalog.half_blocks + offset, catalog.low_blocks + offset, end - begin, catalog.d, destination);
        blocks_.blocks = destination;
        blocks_.first_block = begin;
    }

    // Lets the kernel for `wide_width` lanes prefetch the share of queries q .. q_end in the chunk after begin .. end.
    void fetch_later(std::int64_t begin, std::int64_t end, std::int64_t q, std::int64_t q_end, std::int64_t count) {
        const ScanCatalog& catalog = *plan_.catalog;
        const std::int64_t half = half_block_bytes(catalog.d);
        const std::int64_t bytes_per_block = catalog.nested() ? 2 * half : block_bytes(catalog.d);
        const std::int64_t skipped = (end - begin) * bytes_per_block / count * q;
        blocks_.next_lines = static_cast<int>((bytes_per_block / kLineBytes * (q_end - q) + count - 1) / count);
        if (!catalog.nested()) {
            blocks_.next = catalog.blocks + end * bytes_per_block + skipped;
        } else if (skipped < (end - begin) * half) {
            blocks_.next = catalog.half_blocks + end * half + skipped;
        } else {
            blocks_.next = catalog.low_blocks + end * half + skipped - (end - begin) * half;
        }
    }

    // The queries first .. first + count, which read the catalog together, once.
    void pass_together(std::int64_t first, std::int64_t count, std::int64_t n_blocks) {
        const bool nested = plan_.catalog->nested(), few = count <= kFewLanes;
        const ScanKernel many = nested ? kernels_.many_half : kernels_.many;
        const ScanKernel kernel = few ? (nested ? kernels_.few_half : kernels_.few)[count - 1] : many;
        const auto on_full = nested ? &Candidates::refine : &Candidates::tighten;
        const auto pass_blocks = [&](std::int64_t begin, std::int64_t end) {
            pass(kernel, on_full, first, count, few ? count : kernels_.width, begin, end);
        };
        // Most entries that are left shortly before the end stay: their rows are prefetched during the rest of the
        // pass.
        const std::int64_t late = n_blocks - n_blocks / kLateShare;
        pass_blocks(0, late);
        for (std::int64_t q = first; q < first + count; ++q) {
            (candidates(q).*on_full)(plan_);
            candidates(q).fetch_rows(plan_);
        }
        pass_blocks(late, n_blocks);
        if (!nested) return;  // `finish` tightens
        for (std::int64_t q = first; q < first + count; ++q) candidates(q).refine(plan_);
    }

    // Queries first .. first + count through blocks begin .. end by a kernel of `width` lanes; `relieve` is what
    // happens to a lane that is full.
    void pass(ScanKernel kernel, void (Candidates::*on_full)(const SearchPlan&), std::int64_t first, std::int64_t count,
              std::int64_t width, std::int64_t begin, std::int64_t end) {
        scratch_.lanes.resize(static_cast<std::size_t>(width));
        ScanLane* lanes = scratch_.lanes.data();
        for (std::int64_t l = 0; l < width; ++l) {
            lanes[l] = candidates(first + std::min(l, count - 1)).lane;
            // A lane that is left over runs with the rest, on whatever codes are there, and lets nothing through.
            lanes[l].codes = scratch_.codes.data() + (first + l) * lane_codes(plan_.catalog->d);
            if (l >= count) lanes[l].cut = std::numeric_limits<float>::infinity();
        }
        for (std::int64_t block = begin; block < end;) {
            block = kernel(blocks_, block, end, allowed_, lanes);
            const auto is_full = [](const ScanLane& lane) { return lane.count >= lane.limit; };
            if (std::none_of(lanes, lanes + count, is_full)) continue;
            // Lanes that are half full by now are relieved as well: each stop costs all of them.
            for (std::int64_t l = 0; l < count; ++l) {
                Candidates& candidate_set = candidates(first + l);
                if (2 * lanes[l].count < candidate_set.checked + lanes[l].limit) continue;
                candidate_set.lane = lanes[l];
                (candidate_set.*on_full)(plan_);
                lanes[l] = candidate_set.lane;
            }
        }
        for (std::int64_t l = 0; l < count; ++l) candidates(first + l).lane = lanes[l];
    }

    const ScanRequest& request_;
    ScanScratch::State& scratch_;
    const ScanKernels kernels_;
    ScanBlocks blocks_;
    const SearchPlan plan_;
    AllowedBits allowed_;
};

}  // namespace

void search_catalog(const ScanCatalog& catalog, Isa isa, const ScanRequest& request, ScanScratch::State& memory,
                    std::int32_t* ids, float* scores) {
    Search(catalog, isa, request, memory).run(ids, scores);
}

}  // namespace mtaw
