#include <immintrin.h>

#include "scan/read.hpp"

namespace mtaw {

std::uint64_t read_lines_avx2(const std::uint8_t* data, std::int64_t n_bytes) {
    __m256i sums[8];
    for (__m256i& sum : sums) sum = _mm256_setzero_si256();
    for (std::int64_t begin = 0; begin < n_bytes; begin += 256) {
        for (int i = 0; i < 8; ++i) {
            const void* address = data + begin + 32 * i;
            sums[i] = _mm256_add_epi64(sums[i], _mm256_loadu_si256(static_cast<const __m256i*>(address)));
        }
    }
    for (int i = 1; i < 8; ++i) sums[0] = _mm256_add_epi64(sums[0], sums[i]);
    std::uint64_t words[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), sums[0]);
    return words[0] + words[1] + words[2] + words[3];
}

}  // namespace mtaw
