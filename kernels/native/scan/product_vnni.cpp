#include <immintrin.h>

#include <cstring>

#include "compiler.hpp"
#include "scan/layout.hpp"
#include "scan/product.hpp"

namespace mtaw {
namespace {

constexpr int kLanes = 8, kBlocks = 2;

// kBlocks blocks under kLanes queries: as many sums as registers hold next to what is multiplied.
MTAW_INLINE void multiply(const std::uint8_t* address, std::int64_t lines, std::int64_t next, const std::int8_t* codes,
                          std::int64_t stride, std::int32_t* stored) {
    __m512i sums[kLanes][kBlocks];
    for (auto& lane : sums) {
        for (__m512i& sum : lane) sum = _mm512_setzero_si512();
    }
    for (std::int64_t line = 0; line < lines; ++line) {
        __m512i items[kBlocks];
        for (int b = 0; b < kBlocks; ++b) items[b] = _mm512_loadu_si512(address + b * next + line * kLineBytes);
        for (int q = 0; q < kLanes; ++q) {
            std::int32_t word;
            std::memcpy(&word, codes + q * stride + line * kLineDims, 4);
            for (int b = 0; b < kBlocks; ++b) {
                sums[q][b] = _mm512_dpbusd_epi32(sums[q][b], items[b], _mm512_set1_epi32(word));
            }
        }
    }
    for (int q = 0; q < kLanes; ++q) {
        for (int b = 0; b < kBlocks; ++b) _mm512_store_si512(stored + (q * kBlocks + b) * kBlockItems, sums[q][b]);
    }
}

}  // namespace

std::uint64_t multiply_codes_vnni(const ProductRequest& request, std::int64_t begin, std::int64_t end) {
    alignas(64) std::int32_t sums[kLanes * kBlocks * kBlockItems];
    const std::int64_t next = (request.lines + 1) * kLineBytes;
    std::uint64_t total = 0;
    for (std::int64_t q = 0; q < request.n_queries; q += kLanes) {
        for (std::int64_t block = begin; block < end; block += kBlocks) {
            // An odd last block is multiplied twice.
            multiply(request.blocks + block * next, request.lines, block + 1 < end ? next : 0,
                     request.codes + q * request.stride, request.stride, sums);
            asm volatile("" : : "r"(sums) : "memory");
        }
        total += static_cast<std::uint64_t>(sums[0]);
    }
    return total;
}

}  // namespace mtaw
