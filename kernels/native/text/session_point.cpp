#include "text/session_point.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace mtaw {
namespace {

constexpr std::string_view kPerson = "mtaw_fast.share";  // and a zero byte, of its 16
constexpr std::size_t kDigestBytes = 8, kBlockBytes = 128;

using Words = std::array<std::uint64_t, 8>;

constexpr Words kStart{0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
                       0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179};
// The order of a block's words in each round; the last two rounds have that of the first two.
constexpr std::uint8_t kOrder[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

std::uint64_t word_at(const std::uint8_t* bytes) {
    std::uint64_t word = 0;
    for (int i = 7; i >= 0; --i) word = word << 8 | bytes[i];
    return word;
}

// count: of the text's bytes up to the end of this block.
void compress(Words& state, const std::uint8_t* block, std::uint64_t count, bool last) {
    std::uint64_t m[16], v[16];
    for (std::size_t i = 0; i < 16; ++i) m[i] = word_at(block + 8 * i);
    for (std::size_t i = 0; i < 8; ++i) {
        v[i] = state[i];
        v[i + 8] = kStart[i];
    }
    v[12] ^= count;
    if (last) v[14] = ~v[14];
    for (std::size_t round = 0; round < 12; ++round) {
        const std::uint8_t* const order = kOrder[round % 10];
        for (std::size_t i = 0; i < 8; ++i) {  // four columns, then four diagonals
            const std::size_t shift = i / 4;
            std::uint64_t &a = v[i % 4], &b = v[4 + (i + shift) % 4], &c = v[8 + (i + 2 * shift) % 4],
                          &d = v[12 + (i + 3 * shift) % 4];
            a += b + m[order[2 * i]];
            d = std::rotr(d ^ a, 32);
            c += d;
            b = std::rotr(b ^ c, 24);
            a += b + m[order[2 * i + 1]];
            d = std::rotr(d ^ a, 16);
            c += d;
            b = std::rotr(b ^ c, 63);
        }
    }
    for (std::size_t i = 0; i < 8; ++i) state[i] ^= v[i] ^ v[i + 8];
}

}  // namespace

double point_of(std::string_view text) {
    std::uint8_t person[16] = {};
    std::copy(kPerson.begin(), kPerson.end(), person);
    Words state = kStart;
    state[0] ^= 0x01010000 ^ kDigestBytes;
    state[6] ^= word_at(person);
    state[7] ^= word_at(person + 8);
    for (std::size_t begin = 0;; begin += kBlockBytes) {
        std::uint8_t block[kBlockBytes] = {};
        const std::string_view part = text.substr(begin, kBlockBytes);
        std::copy(part.begin(), part.end(), block);
        const bool last = begin + part.size() == text.size();
        compress(state, block, begin + part.size(), last);
        if (last) break;
    }
    std::uint64_t number = 0;  // the digest, the first byte in front
    for (std::uint64_t rest = state[0], i = 0; i < kDigestBytes; ++i, rest >>= 8) number = number << 8 | (rest & 0xFF);
    return static_cast<double>(number >> 11) / 9'007'199'254'740'992.0;  // 2^53: as many bits as a double holds
}

}  // namespace mtaw
