// The pass that every instruction set shares, over the few operations of a `Vector`. Included by the kernel_*.cpp
// files alone: everything is in an unnamed namespace, so each has a copy compiled for its instruction set.
//
// A Vector has
//     Sums, start(lane)                    the 16 int32 sums of a block and their first value
//     zero(), add(a, b)                  sums of nothing and of two parts
//     Line, load_line(address)             64 bytes of codes, ready for products
//     Words, load_words(lane, line)        a lane's codes for that line
//     load_halves(address, low, high)      64 bytes of half-wide codes as the lines of their lower and upper halves
//     add_products(sums, line, words)
//     double_plus(sums, bias)               2 * sums + bias
//     Items, load_items(address)           the steps and residuals of a block
//     above_cut(sums, items, lane)              16 bits: whose upper bound is over lane.cut
//     store_bounds(sums, items, lane, mask, first, upper, lower, ids)    of the items in `mask`, packed; `first` is the
//                                          id of the block's first item, and all 16 entries may be written
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "compiler.hpp"
#include "scan/kernel.hpp"
#include "scan/layout.hpp"

namespace mtaw {
namespace {

constexpr std::uint32_t kAllItems = 0xFFFF;

// The bits of a block's items.
MTAW_INLINE std::uint32_t allowed_items(const AllowedBits& allowed, std::int64_t block) {
    static_assert(kBlockItems == 16);
    const std::int64_t begin = block * 2;
    const std::uint32_t low = allowed.bits[begin];
    return begin + 1 < allowed.n_bytes ? low | static_cast<std::uint32_t>(allowed.bits[begin + 1]) << 8 : low;
}

// Packs the bounds of a block's 16 items, of which `mask` says the kept ones, and sets their ids.
MTAW_INLINE void pack(std::uint32_t mask, std::int32_t first, float* upper, float* lower, std::int32_t* ids) {
    std::int32_t n_kept = 0;
    for (; mask != 0; mask &= mask - 1) {
        const std::int32_t item = std::countr_zero(mask);
        upper[n_kept] = upper[item];
        lower[n_kept] = lower[item];
        ids[n_kept++] = first + item;
    }
}

template <typename Vector>
MTAW_INLINE void append(const typename Vector::Sums& sums, const typename Vector::Items& items, std::int64_t block,
                        std::uint32_t mask, ScanLane& lane) {
    const auto first = static_cast<std::int32_t>(block * kBlockItems);
    Vector::store_bounds(sums, items, lane, mask, first, lane.upper + lane.count, lane.lower + lane.count,
                         lane.ids + lane.count);
    lane.count += std::popcount(mask);
}

// One block under kLanes lanes: its items in item_mask. Returns whether a lane reached its limit.
// A lane's sum is kept in kParts parts (1 or 2): a long chain of additions to one register waits for each of them.
template <typename Vector, int kLanes, int kParts>
MTAW_INLINE bool step(const ScanBlocks& catalog, std::int64_t block, std::uint32_t item_mask, ScanLane* lanes) {
    const std::uint8_t* address = catalog.whole_block(block);
    typename Vector::Sums sums[kLanes][kParts];
    for (int q = 0; q < kLanes; ++q) {
        sums[q][0] = Vector::start(lanes[q]);
        if constexpr (kParts == 2) sums[q][1] = Vector::zero();
    }
    std::int64_t line = 0;
    for (; line + kParts <= catalog.lines; line += kParts) {
        for (int part = 0; part < kParts; ++part) {
            const typename Vector::Line codes = Vector::load_line(address + (line + part) * kLineBytes);
            for (int q = 0; q < kLanes; ++q) {
                Vector::add_products(sums[q][part], codes, Vector::load_words(lanes[q], line + part));
            }
        }
    }
    for (; line < catalog.lines; ++line) {
        const typename Vector::Line codes = Vector::load_line(address + line * kLineBytes);
        for (int q = 0; q < kLanes; ++q) Vector::add_products(sums[q][0], codes, Vector::load_words(lanes[q], line));
    }
    const std::uint8_t* last_line = address + catalog.lines * kLineBytes;
    const typename Vector::Items items = Vector::load_items(last_line);
    std::uint32_t passing[kLanes];
    std::uint32_t any_passing = 0;
    for (int q = 0; q < kLanes; ++q) {
        if constexpr (kParts == 2) sums[q][0] = Vector::add(sums[q][0], sums[q][1]);
        passing[q] = Vector::above_cut(sums[q][0], items, lanes[q]) & item_mask;
        any_passing |= passing[q];
    }
    if constexpr (Vector::kPackAlways && kLanes == 1) {
        append<Vector>(sums[0][0], items, block, passing[0], lanes[0]);
        return lanes[0].count >= lanes[0].limit;
    }
    if (any_passing == 0) return false;
    bool is_full = false;
    for (int q = 0; q < kLanes; ++q) {
        if (passing[q] == 0) continue;
        append<Vector>(sums[q][0], items, block, passing[q], lanes[q]);
        is_full |= lanes[q].count >= lanes[q].limit;
    }
    return is_full;
}

template <typename Vector, int kLanes, int kParts, bool kAll>
MTAW_INLINE std::int64_t scan_blocks(const ScanBlocks& catalog, std::int64_t begin, std::int64_t end,
                                     const AllowedBits& allowed, ScanLane* lanes) {
    // Copies that nothing else can point to: the compiler keeps them in registers.
    const ScanBlocks blocks = catalog;
    const AllowedBits bits = allowed;
    ScanLane local_lanes[kLanes];
    for (int q = 0; q < kLanes; ++q) local_lanes[q] = lanes[q];
    std::int64_t block = begin;
    for (bool is_full = false; block < end && !is_full; ++block) {
        const std::uint32_t item_mask = kAll ? kAllItems : allowed_items(bits, block);
        if (kAll || item_mask != 0) is_full = step<Vector, kLanes, kParts>(blocks, block, item_mask, local_lanes);
    }
    for (int q = 0; q < kLanes; ++q) lanes[q].count = local_lanes[q].count;
    return block;
}

// A block is read whole before the next one begins: several streams at once defeat the hardware's prefetching, which
// halves the speed from L3 and quarters it from memory (measured on Zen 4).
template <typename Vector, int kLanes, int kParts>
std::int64_t scan(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end, const AllowedBits& allowed,
                  ScanLane* lanes) {
    if (allowed.bits == nullptr) return scan_blocks<Vector, kLanes, kParts, true>(blocks, begin, end, allowed, lanes);
    return scan_blocks<Vector, kLanes, kParts, false>(blocks, begin, end, allowed, lanes);
}

// One block of half-wide codes under kLanes lanes. Returns whether a lane reached its limit.
// A few lanes' sums of lower and of upper halves are each kept in kParts parts, as in `step`.
template <typename Vector, int kLanes, int kParts>
MTAW_INLINE bool half_step(const ScanBlocks& catalog, std::int64_t block, std::uint32_t item_mask, ScanLane* lanes) {
    constexpr bool kSeparate = kLanes <= kFewLanes;
    const std::uint8_t* address = catalog.half_blocks + block * (catalog.half_lines + 1) * kLineBytes;
    typename Vector::Sums low[kLanes][kParts], separate_high[kLanes][kParts];
    auto& high = kSeparate ? separate_high : low;
    for (int q = 0; q < kLanes; ++q) {
        for (int part = 0; part < kParts; ++part) low[q][part] = high[q][part] = Vector::zero();
    }
    typename Vector::Line low_codes, high_codes;
    const std::int64_t whole = catalog.lines / 2;
    std::int64_t line = 0;
    for (; line + kParts <= whole; line += kParts) {
        for (int part = 0; part < kParts; ++part) {
            Vector::load_halves(address + (line + part) * kLineBytes, low_codes, high_codes);
            for (int q = 0; q < kLanes; ++q) {
                Vector::add_products(low[q][part], low_codes, Vector::load_words(lanes[q], 2 * (line + part)));
                Vector::add_products(high[q][part], high_codes, Vector::load_words(lanes[q], 2 * (line + part) + 1));
            }
        }
    }
    for (; line < catalog.half_lines; ++line) {
        Vector::load_halves(address + line * kLineBytes, low_codes, high_codes);
        for (int q = 0; q < kLanes; ++q) {
            Vector::add_products(low[q][0], low_codes, Vector::load_words(lanes[q], 2 * line));
            // The last line's upper halves may be past the lane's codes.
            if (line < whole) Vector::add_products(high[q][0], high_codes, Vector::load_words(lanes[q], 2 * line + 1));
        }
    }
    const typename Vector::Items items = Vector::load_items(address + catalog.half_lines * kLineBytes);
    bool is_full = false;
    for (int q = 0; q < kLanes; ++q) {
        typename Vector::Sums halves = low[q][0];
        if constexpr (kSeparate) halves = Vector::add(halves, high[q][0]);
        if constexpr (kParts == 2) halves = Vector::add(halves, Vector::add(low[q][1], high[q][1]));
        // Sum (2 h - 15) a.
        const typename Vector::Sums sums = Vector::double_plus(halves, -15 * lanes[q].code_sum);
        const std::uint32_t passing = Vector::above_cut(sums, items, lanes[q]) & item_mask;
        if (!(Vector::kPackAlways && kLanes == 1) && passing == 0) continue;
        append<Vector>(sums, items, block, passing, lanes[q]);
        is_full |= lanes[q].count >= lanes[q].limit;
    }
    return is_full;
}

template <typename Vector, int kLanes, int kParts>
std::int64_t scan_halves(const ScanBlocks& catalog, std::int64_t begin, std::int64_t end, const AllowedBits& allowed,
                         ScanLane* lanes) {
    const ScanBlocks blocks = catalog;
    const AllowedBits bits = allowed;
    ScanLane local_lanes[kLanes];
    for (int q = 0; q < kLanes; ++q) local_lanes[q] = lanes[q];
    std::int64_t block = begin;
    for (bool is_full = false; block < end && !is_full; ++block) {
        const std::uint32_t item_mask = bits.bits == nullptr ? kAllItems : allowed_items(bits, block);
        if (item_mask != 0) is_full = half_step<Vector, kLanes, kParts>(blocks, block, item_mask, local_lanes);
    }
    for (int q = 0; q < kLanes; ++q) lanes[q].count = local_lanes[q].count;
    return block;
}

// An item's low halves.
MTAW_INLINE const std::uint8_t* low_record(const ScanBlocks& catalog, std::int32_t id) {
    return catalog.low_blocks + id * (catalog.half_lines + 1) * kLineDims;
}

// low_dot(record, lane): Sum l a. bounds.hpp has the proof.
template <typename LowDot>
MTAW_INLINE void refine_entries(const ScanBlocks& catalog, std::int64_t begin, ScanLane& lane, const LowDot& low_dot) {
    const std::int64_t n_bytes = catalog.half_lines * kLineDims;
    for (std::int64_t i = begin; i < lane.count; ++i) {
        const std::uint8_t* record = low_record(catalog, lane.ids[i]);
        for (std::int64_t offset = 0; offset < n_bytes; offset += kLineBytes) MTAW_PREFETCH(record + offset);
        MTAW_PREFETCH(record + n_bytes);
    }
    for (std::int64_t i = begin; i < lane.count; ++i) {
        const std::uint8_t* record = low_record(catalog, lane.ids[i]);
        const auto low_sum = static_cast<double>(low_dot(record, lane) - 8 * lane.code_sum);  // Sum (l - 8) a
        std::uint32_t word;
        std::memcpy(&word, record + n_bytes, 4);
        const auto step = static_cast<double>(std::bit_cast<float>(word & 0xFFFF0000U));
        const double spread = static_cast<double>(lane.spread) * static_cast<double>(std::bit_cast<float>(word << 16));
        const double bounds_sum = static_cast<double>(lane.upper[i]) + static_cast<double>(lane.lower[i]);
        const double middle = bounds_sum / 2 + step * low_sum;
        lane.upper[i] = static_cast<float>(middle + spread);
        lane.lower[i] = static_cast<float>(middle - spread);
    }
}

[[maybe_unused]] void refine(const ScanBlocks& catalog, std::int64_t begin, ScanLane& lane) {
    const std::int64_t n_bytes = catalog.half_lines * kLineDims;
    refine_entries(catalog, begin, lane, [n_bytes](const std::uint8_t* record, const ScanLane& own) {
        std::int32_t sum = 0;
        for (std::int64_t i = 0; i < n_bytes; ++i) {
            sum += (record[i] & 15) * own.low_codes[i] + (record[i] >> 4) * own.low_codes[n_bytes + i];
        }
        return sum;
    });
}

}  // namespace
}  // namespace mtaw
