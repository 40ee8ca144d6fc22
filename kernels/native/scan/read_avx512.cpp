#include <immintrin.h>

#include "scan/read.hpp"

namespace mtaw {

std::uint64_t read_lines_avx512(const std::uint8_t* data, std::int64_t n_bytes) {
    __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (std::int64_t begin = 0; begin < n_bytes; begin += 256) {
        for (int i = 0; i < 4; ++i) sums[i] = _mm512_add_epi64(sums[i], _mm512_loadu_si512(data + begin + 64 * i));
    }
    const __m512i sum = _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3]));
    return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum));
}

}  // namespace mtaw
