#include "bundle/sha256.hpp"

#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace mtaw {
namespace {

alignas(64) constexpr std::uint32_t kRounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

[[gnu::noinline]] void compress_plainly(std::uint32_t* state, const std::uint8_t* block, std::size_t count) {
    for (; count > 0; --count, block += 64) {
        std::uint32_t w[64];
        for (int t = 0; t < 16; ++t) {
            w[t] = static_cast<std::uint32_t>(block[4 * t]) << 24 | static_cast<std::uint32_t>(block[4 * t + 1]) << 16 |
                   static_cast<std::uint32_t>(block[4 * t + 2]) << 8 | block[4 * t + 3];
        }
        for (int t = 16; t < 64; ++t) {
            const std::uint32_t a = w[t - 15], b = w[t - 2];
            w[t] = w[t - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) + w[t - 7] +
                   (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
        }
        std::uint32_t s[8];
        std::memcpy(s, state, sizeof s);
        for (int t = 0; t < 64; ++t) {
            const std::uint32_t temp1 = s[7] + (std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25)) +
                                        ((s[4] & s[5]) ^ (~s[4] & s[6])) + kRounds[t] + w[t];
            const std::uint32_t temp2 = (std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22)) +
                                        ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            std::memmove(s + 1, s, 7 * sizeof *s);
            s[4] += temp1;
            s[0] = temp1 + temp2;
        }
        for (int i = 0; i < 8; ++i) state[i] += s[i];
    }
}

#if defined(__x86_64__)

// The CPU's own rounds: a bundle is hashed whenever it is opened, and this takes a sixth of the time.
__attribute__((target("sha,sse4.1"))) void compress_natively(std::uint32_t* state, const std::uint8_t* block,
                                                             std::size_t count) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    const auto* const whole = reinterpret_cast<const __m128i*>(state);
    const __m128i low = _mm_shuffle_epi32(_mm_loadu_si128(whole), 0xB1);       // CDAB
    const __m128i high = _mm_shuffle_epi32(_mm_loadu_si128(whole + 1), 0x1B);  // EFGH
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xF0);
    for (; count > 0; --count, block += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; ++i) {
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block) + i), order);
        }
        for (int step = 0; step < 16; ++step) {
            const __m128i now = w[step & 3];
            const __m128i with = _mm_add_epi32(now, _mm_load_si128(reinterpret_cast<const __m128i*>(kRounds) + step));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, with);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(with, 0x0E));
            if (step >= 12) continue;
            // Four words 16 further on, from the four quarters of the last 16.
            const __m128i before = w[(step + 3) & 3];
            const __m128i middle = _mm_alignr_epi8(before, w[(step + 2) & 3], 4);
            w[step & 3] =
                _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(now, w[(step + 1) & 3]), middle), before);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    auto* const out = reinterpret_cast<__m128i*>(state);
    _mm_storeu_si128(out, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128(out + 1, _mm_alignr_epi8(dchg, feba, 8));
}

bool has_rounds() {
    unsigned a = 0, b = 0, c = 0, d = 0;  // a CPU without this leaf answers with another one's
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 29 & 1U) != 0 && __builtin_cpu_supports("sse4.1") != 0;
}

#endif

}  // namespace

void Sha256::compress(const std::uint8_t* blocks, std::size_t count) {
#if defined(__x86_64__)
    static const bool natively = has_rounds();
    if (natively) return compress_natively(state_, blocks, count);
#endif
    // Browsers make a function faster from one call to the next, not during a call.
    constexpr std::size_t kAtOnce = 256;
    for (; count > kAtOnce; count -= kAtOnce, blocks += kAtOnce * 64) compress_plainly(state_, blocks, kAtOnce);
    compress_plainly(state_, blocks, count);
}

void Sha256::add(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    const std::size_t n_buffered = size_ % 64;
    size_ += size;
    if (n_buffered > 0) {
        const std::size_t n_taken = size < 64 - n_buffered ? size : 64 - n_buffered;
        std::memcpy(rest_ + n_buffered, bytes, n_taken);
        bytes += n_taken;
        size -= n_taken;
        if (n_buffered + n_taken < 64) return;
        compress(rest_, 1);
    }
    compress(bytes, size / 64);
    if (size % 64 > 0) std::memcpy(rest_, bytes + size / 64 * 64, size % 64);
}

void Sha256::write_hex(char* digits) {
    const std::uint64_t bits = size_ * 8;
    const std::uint8_t marker = 0x80, zero = 0;
    add(&marker, 1);
    while (size_ % 64 != 56) add(&zero, 1);
    std::uint8_t length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
    add(length, 8);
    for (const std::uint32_t word : state_) {
        for (int shift = 28; shift >= 0; shift -= 4) *digits++ = "0123456789abcdef"[word >> shift & 15U];
    }
    *digits = '\0';
}

void write_sha256(const void* data, std::size_t size, char* digits) {
    Sha256 hash;
    hash.add(data, size);
    hash.write_hex(digits);
}

std::string sha256_of(const void* data, std::size_t size) {
    char digits[65];
    write_sha256(data, size, digits);
    return digits;
}

}  // namespace mtaw
