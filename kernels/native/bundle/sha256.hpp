// SHA-256 (FIPS 180-4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mtaw {

class Sha256 {
   public:
    void add(const void* data, std::size_t size);
    // 64 hex digits and a zero; the object is used up.
    void write_hex(char* digits);

   private:
    void compress(const std::uint8_t* blocks, std::size_t count);

    std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::uint8_t rest_[64] = {};
    std::uint64_t size_ = 0;
};

void write_sha256(const void* data, std::size_t size, char* digits);
std::string sha256_of(const void* data, std::size_t size);

}  // namespace mtaw
