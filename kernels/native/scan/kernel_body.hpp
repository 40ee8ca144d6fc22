// The pass that every instruction set shares, over the few operations of a `Vector`. Included by the kernel_*.cpp
// files alone: everything is in an unnamed namespace, so each has a copy compiled for its instruction set.
//
// A Vector has
//     Sums, start(lane)                    the 16 int32 sums of a block and their first value
//     zero(), added(a, b)                  sums of nothing and of two parts, where kParts is 2
//     Line, load_line(address)             64 bytes of codes, ready for products
//     Words, load_words(lane, line)        a lane's codes for that line
//     add_products(sums, line, words)
//     Items, load_items(address)           the steps and residuals of a block
//     over(sums, items, lane)              16 bits: whose upper bound is over lane.cut
//     store_bounds(sums, items, lane, mask, first, upper, lower, ids)    of the items in `mask`, packed; `first` is the
//                                          id of the block's first item, and all 16 places may be written
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "compiler.hpp"
#include "scan/kernel.hpp"
#include "scan/layout.hpp"

namespace mtaw {
namespace {

// The bits of a block's items.
MTAW_INLINE std::uint32_t allowed_items(const AllowedBits& allowed, std::int64_t block) {
    static_assert(kBlockItems == 16);
    const std::int64_t begin = block * 2;
    const std::uint32_t low = allowed.bits[begin];
    return begin + 1 < allowed.n_bytes ? low | static_cast<std::uint32_t>(allowed.bits[begin + 1]) << 8 : low;
}

// Packs the bounds of a block's 16 items, of which `mask` says the kept ones, and sets their ids.
MTAW_INLINE void pack(std::uint32_t mask, std::int32_t first, float* upper, float* lower, std::int32_t* ids) {
    std::int32_t kept = 0;
    for (; mask != 0; mask &= mask - 1) {
        const std::int32_t place = std::countr_zero(mask);
        upper[kept] = upper[place];
        lower[kept] = lower[place];
        ids[kept++] = first + place;
    }
}

template <typename Vector>
MTAW_INLINE void append(const typename Vector::Sums& sums, const typename Vector::Items& items, std::int64_t block,
                        std::uint32_t mask, ScanLane& lane) {
    const auto first = static_cast<std::int32_t>(block * kBlockItems);
    Vector::store_bounds(sums, items, lane, mask, first, lane.upper + lane.count,
                         lane.lower + lane.count, lane.ids + lane.count);
    lane.count += std::popcount(mask);
}

// One block under kLanes lanes. Returns whether a lane reached its limit. A lane's sum is kept in
// kParts parts (1 or 2): a long chain of additions to one register waits for each of them.
template <typename Vector, int kLanes, int kParts, bool kAll>
MTAW_INLINE bool step(const ScanBlocks& catalog, std::int64_t block, const AllowedBits& allowed, ScanLane* lanes) {
    std::uint32_t open = 0xFFFF;
    if constexpr (!kAll) {
        open = allowed_items(allowed, block);
        if (open == 0) return false;
    }
    const std::uint8_t* address = catalog.blocks + block * (catalog.lines + 1) * kLineBytes;
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
    std::uint32_t found[kLanes];
    std::uint32_t any = 0;
    for (int q = 0; q < kLanes; ++q) {
        if constexpr (kParts == 2) sums[q][0] = Vector::added(sums[q][0], sums[q][1]);
        found[q] = Vector::over(sums[q][0], items, lanes[q]) & open;
        any |= found[q];
    }
    if constexpr (Vector::kPackAlways && kLanes == 1) {
        append<Vector>(sums[0][0], items, block, found[0], lanes[0]);
        return lanes[0].count >= lanes[0].limit;
    }
    if (any == 0) return false;
    bool full = false;
    for (int q = 0; q < kLanes; ++q) {
        if (found[q] == 0) continue;
        append<Vector>(sums[q][0], items, block, found[q], lanes[q]);
        full |= lanes[q].count >= lanes[q].limit;
    }
    return full;
}

template <typename Vector, int kLanes, int kParts, bool kAll>
MTAW_INLINE std::int64_t scan_blocks(const ScanBlocks& catalog, std::int64_t begin, std::int64_t end,
                                     const AllowedBits& allowed, ScanLane* lanes) {
    // Copies that nothing else can point to: the compiler keeps them in registers.
    const ScanBlocks blocks = catalog;
    const AllowedBits bits = allowed;
    ScanLane own[kLanes];
    for (int q = 0; q < kLanes; ++q) own[q] = lanes[q];
    std::int64_t block = begin;
    for (bool full = false; block < end && !full; ++block) {
        full = step<Vector, kLanes, kParts, kAll>(blocks, block, bits, own);
    }
    for (int q = 0; q < kLanes; ++q) lanes[q].count = own[q].count;
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

}  // namespace
}  // namespace mtaw
