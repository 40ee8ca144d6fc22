// The integer products of queries with a catalog's codes and nothing else: the lower bound of a batch's time.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace mtaw {

// int8 `codes` of n_queries queries, `stride` bytes from one to the next, zeros past d: their products with the items
// of blocks begin .. end, a block having `lines` lines of codes and one more. Each sum is stored, over an earlier one.
struct ProductRequest {
    const std::uint8_t* blocks;
    std::int64_t lines;
    std::int64_t n_blocks;
    const std::int8_t* codes;
    std::int64_t stride;
    std::int64_t n_queries;  // a multiple of kProductQueries
};

constexpr std::int64_t kProductQueries = 32;

// Goes through the catalog in stretches that stay in a core's L2, as a search does. Returns a sum of some of the
// products. Throws std::invalid_argument where `isa` has no such product: below vnni.
std::uint64_t multiply_codes(const ProductRequest& request, Isa isa);

#if defined(__x86_64__)
// Blocks begin .. end under all queries.
std::uint64_t multiply_codes_amx(const ProductRequest& request, std::int64_t begin, std::int64_t end);
std::uint64_t multiply_codes_vnni(const ProductRequest& request, std::int64_t begin, std::int64_t end);
#endif

}  // namespace mtaw
