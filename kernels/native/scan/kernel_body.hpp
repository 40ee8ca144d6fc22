// The pass that every instruction set shares, over the few operations of a `Vector`. Included by the kernel_*.cpp
// files alone: everything is in an unnamed namespace, so each has a copy compiled for its instruction set.
//
// A Vector has
//     Sums                                 the 16 int32 sums of a block, and start(lane), their first value
//     Line, load_line(address)             64 bytes of codes, ready for products
//     Words, load_words(lane, line)        a lane's codes for that line
//     add_products(sums, line, words)
//     Items, load_items(address)           the steps and residuals of a block
//     over(sums, items, lane)              16 bits: whose upper bound is over lane.cut
//     store_bounds(sums, items, lane, upper, lower)
#pragma once

#include <cstdint>
#include <cstring>

#include "scan/kernel.hpp"
#include "scan/layout.hpp"

namespace mtaw {
namespace {

#if defined(__GNUC__)
#define MTAW_INLINE inline __attribute__((always_inline))
#define MTAW_COLD __attribute__((noinline, cold))
#define MTAW_PREFETCH(address) __builtin_prefetch(address)
#else
#define MTAW_INLINE inline
#define MTAW_COLD
#define MTAW_PREFETCH(address)
#endif

// The bits of `n_blocks` (1, 2 or 4) blocks, block after block in 16 bits each.
MTAW_INLINE std::uint64_t allowed_items(const AllowedBits& allowed, std::int64_t block, std::int64_t n_blocks) {
    const std::int64_t begin = block * (kBlockItems / 8);
    const std::int64_t wanted = n_blocks * (kBlockItems / 8);
    const std::int64_t there = allowed.n_bytes - begin;
    std::uint64_t word = 0;
    if (there >= 8) {
        std::memcpy(&word, allowed.bits + begin, 8);
    } else {
        for (std::int64_t i = 0; i < there; ++i) word |= static_cast<std::uint64_t>(allowed.bits[begin + i]) << (8 * i);
    }
    return wanted == 8 ? word : word & ((std::uint64_t{1} << (8 * wanted)) - 1);
}

template <typename Vector>
MTAW_COLD void append(const typename Vector::Sums& sums, const std::uint8_t* last_line, std::int64_t block,
                      std::uint32_t mask, ScanLane& lane) {
    float* upper = lane.upper + lane.count;
    float* lower = lane.lower + lane.count;
    std::int32_t* ids = lane.ids + lane.count;
    Vector::store_bounds(sums, Vector::load_items(last_line), lane, upper, lower);
    const auto first = static_cast<std::int32_t>(block * kBlockItems);
    std::int32_t kept = 0;
    for (std::int32_t place = 0; place < kBlockItems; ++place) {
        upper[kept] = upper[place];
        lower[kept] = lower[place];
        ids[kept] = first + place;
        kept += static_cast<std::int32_t>(mask >> place & 1U);
    }
    lane.count += kept;
}

// One step: kBlocks blocks under kLanes lanes. Returns whether a lane reached its limit.
template <typename Vector, int kLanes, int kBlocks>
MTAW_INLINE bool step(const ScanBlocks& catalog, std::int64_t block, const AllowedBits& allowed, ScanLane* lanes) {
    std::uint64_t open = ~std::uint64_t{0};
    if (allowed.bits != nullptr) {
        open = allowed_items(allowed, block, kBlocks);
        if (open == 0) return false;
    }
    const std::int64_t stride = (catalog.lines + 1) * kLineBytes;
    const std::uint8_t* address = catalog.blocks + block * stride;
    typename Vector::Sums sums[kLanes][kBlocks];
    for (int q = 0; q < kLanes; ++q) {
        for (int b = 0; b < kBlocks; ++b) sums[q][b] = Vector::start(lanes[q]);
    }
    for (std::int64_t line = 0; line < catalog.lines; ++line) {
        typename Vector::Line codes[kBlocks];
        for (int b = 0; b < kBlocks; ++b) codes[b] = Vector::load_line(address + b * stride + line * kLineBytes);
        for (int q = 0; q < kLanes; ++q) {
            const typename Vector::Words words = Vector::load_words(lanes[q], line);
            for (int b = 0; b < kBlocks; ++b) Vector::add_products(sums[q][b], codes[b], words);
        }
    }
    const std::uint8_t* last_lines = address + catalog.lines * kLineBytes;
    bool full = false;
    std::uint64_t found[kLanes] = {};
    std::uint64_t any = 0;
    for (int b = 0; b < kBlocks; ++b) {
        const typename Vector::Items items = Vector::load_items(last_lines + b * stride);
        for (int q = 0; q < kLanes; ++q) {
            found[q] |= static_cast<std::uint64_t>(Vector::over(sums[q][b], items, lanes[q])) << (16 * b);
        }
    }
    for (int q = 0; q < kLanes; ++q) any |= found[q] & open;
    if (any == 0) return false;
    for (int q = 0; q < kLanes; ++q) {
        for (int b = 0; b < kBlocks; ++b) {
            const auto mask = static_cast<std::uint32_t>((found[q] & open) >> (16 * b) & 0xFFFFU);
            if (mask != 0) append<Vector>(sums[q][b], last_lines + b * stride, block + b, mask, lanes[q]);
        }
        full |= lanes[q].count >= lanes[q].limit;
    }
    return full;
}

template <typename Vector, int kLanes, int kBlocks>
std::int64_t scan(const ScanBlocks& catalog, std::int64_t begin, std::int64_t end, const AllowedBits& allowed,
                  ScanLane* lanes, std::int64_t /*n_lanes*/) {
    static_assert(kBlocks * kBlockItems <= kAppendSlack);
    std::int64_t block = begin;
    for (; block + kBlocks <= end; block += kBlocks) {
        if (step<Vector, kLanes, kBlocks>(catalog, block, allowed, lanes)) return block + kBlocks;
    }
    for (; block < end; ++block) {
        if (step<Vector, kLanes, 1>(catalog, block, allowed, lanes)) return block + 1;
    }
    return end;
}

}  // namespace
}  // namespace mtaw
