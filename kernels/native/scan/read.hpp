// The physical limit of a scan: how fast this CPU reads bytes.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace mtaw {

// The sum, modulo 2^64, of the whole 8-byte little-endian words of `n_bytes` bytes at `data`, read front to back once.
std::uint64_t read_bytes(const std::uint8_t* data, std::int64_t n_bytes, Isa isa = active_isa());

#if defined(__x86_64__)
// The same; n_bytes must be a multiple of 256.
std::uint64_t read_lines_avx512(const std::uint8_t* data, std::int64_t n_bytes);
std::uint64_t read_lines_avx2(const std::uint8_t* data, std::int64_t n_bytes);
#endif

}  // namespace mtaw
