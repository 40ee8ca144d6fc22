// The passes over the codes, one file an instruction set: they bound scores and append what passes a threshold.
#pragma once

#include <cstdint>
#include <vector>

#include "isa.hpp"
#include "scan/layout.hpp"

namespace mtaw {

// What a kernel may write past `limit` in a lane's three arrays before it stops.
constexpr std::int64_t kAppendSlack = 32;

constexpr std::int64_t kMaxLanes = 32;  // of a kernel

// One query on its way through the catalog.
struct ScanLane {
    const std::int8_t* codes;   // 4 * lines of them
    const std::int16_t* pairs;  // 4 * lines: of each four codes the first and third, then the second and fourth
    // The codes as a low block has the dimensions, 4 * half_lines for lower halves of bytes, then as many for upper
    // ones.
    const std::int8_t* low_codes;
    std::int32_t code_sum;
    float spread;  // times an item's residual: how far its bounds are from step * (integer dot)
    float cut;     // only items with an upper bound over it are appended
    float* upper;  // the appended items' bounds
    float* lower;
    std::int32_t* ids;
    std::int64_t count;  // how many are appended
    std::int64_t limit;  // the kernel stops soon after count reaches it
};

// The items that may be found: bit i % 8 of byte i / 8; null = all.
struct AllowedBits {
    const std::uint8_t* bits;
    std::int64_t n_bytes;
};

struct alignas(64) CodeTile {
    std::uint8_t lines[16][64];
};

// What the kernel for `wide_width` lanes wants to be made of blocks once, before several groups of lanes pass them: the
// last lines of each, and after them lines by which the product with a lane's codes compares with its cut as well.
struct BlockTails {
    std::vector<CodeTile> tiles;  // so many a block: tail_tiles(d)
    std::int64_t first_block;
    float scale;     // of the lines for the cut: a byte is scale / step, rounded down
    float residual;  // the largest, in steps, rounded up
};

struct ScanBlocks {
    const std::uint8_t* blocks;       // whole codes, or null
    std::int64_t lines;               // of codes, a block
    const std::uint8_t* half_blocks;  // nested codes, or null
    const std::uint8_t* low_blocks;
    std::int64_t half_lines;
    std::int64_t first_block = 0;  // the one that `blocks` starts with
    // For the kernel for `wide_width` lanes: the tails of the blocks to pass, and what is passed after them, to
    // prefetch.
    const BlockTails* tails = nullptr;
    const std::uint8_t* next = nullptr;
    int next_lines = 0;  // of that, at each block

    const std::uint8_t* whole_block(std::int64_t block) const {
        return blocks + (block - first_block) * (lines + 1) * kLineBytes;
    }
};

// Passes blocks begin .. end of the catalog under the lanes. Returns the first block not yet passed: `end`, or an
// earlier one where a lane reached its limit. Appended ids ascend.
using ScanKernel = std::int64_t (*)(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end,
                                    const AllowedBits& allowed, ScanLane* lanes);

constexpr std::int64_t kFewLanes = 3;

// Passes for 1 .. kFewLanes lanes, at [lanes - 1], and for `width` lanes, over whole and over half-wide codes and, on
// some CPUs, one for more lanes, whose codes are at equal distances.
struct ScanKernels {
    ScanKernel few[kFewLanes];
    ScanKernel few_half[kFewLanes];
    ScanKernel many;
    ScanKernel many_half;
    std::int64_t width;
    // Replaces the bounds of the lane's entries begin .. count, which come from half-wide codes, by those of the whole
    // codes: reads their low halves.
    void (*refine)(const ScanBlocks& blocks, std::int64_t begin, ScanLane& lane);
    decltype(&join_codes) join = join_codes;
    ScanKernel wide = nullptr;
    std::int64_t wide_width = 0;
    void (*make_tails)(const ScanBlocks& blocks, std::int64_t begin, std::int64_t end, BlockTails* tails) = nullptr;
};

ScanKernels scan_kernels_portable();
#if defined(__x86_64__)
ScanKernels scan_kernels_avx2();
ScanKernels scan_kernels_avx512();
ScanKernels scan_kernels_vnni();
ScanKernels scan_kernels_amx();
#elif defined(__aarch64__)
ScanKernels scan_kernels_neon();
#elif defined(__wasm_simd128__)
ScanKernels scan_kernels_wasm();
#endif

ScanKernels scan_kernels(Isa isa);

}  // namespace mtaw
