#include <immintrin.h>

#include "scan/read.hpp"

namespace mtaw {

std::uint64_t read_lines_avx512(const std::uint8_t* data, std::int64_t n_bytes) {
    __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (std::int64_t begin = 0; begin < n_bytes; begin += 256) {
        for (int i = 0; i < 4; ++i) sums[i] = _mm512_add_epi64(sums[i], _mm512_loadu_si512(data + begin + 64 * i));
    }
    std::uint64_t words[8], sum = 0;
    for (const __m512i& some : sums) {
        _mm512_storeu_si512(words, some);
        for (const std::uint64_t word : words) sum += word;
    }
    return sum;
}

}  // namespace mtaw
