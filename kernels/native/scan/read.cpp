#include "scan/read.hpp"

#include <cstring>

namespace mtaw {

std::uint64_t read_bytes(const std::uint8_t* data, std::int64_t n_bytes, Isa isa) {
    std::uint64_t sum = 0;
    std::int64_t begin = 0;
#if defined(__x86_64__)
    const std::int64_t whole = n_bytes / 256 * 256;
    if (isa >= Isa::avx512) {
        sum = read_lines_avx512(data, whole);
        begin = whole;
    } else if (isa == Isa::avx2) {
        sum = read_lines_avx2(data, whole);
        begin = whole;
    }
#else
    (void)isa;
#endif
    for (; begin + 8 <= n_bytes; begin += 8) {
        std::uint64_t word;
        std::memcpy(&word, data + begin, 8);
        sum += word;
    }
    return sum;
}

}  // namespace mtaw
