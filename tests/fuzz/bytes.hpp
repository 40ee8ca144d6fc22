// What the fuzzers' targets make of their bytes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <random>
#include <vector>

namespace {

using Ids = std::vector<std::int32_t>;
using Floats = std::vector<float>;

inline void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "not so: %s\n", what);
    std::abort();
}

// The fuzzer's bytes, then zeros.
class Bytes {
   public:
    Bytes(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

    bool empty() const { return left_ == 0; }

    template <typename T>
    T take() {
        T value{};
        const std::size_t size = std::min(sizeof value, left_);
        std::memcpy(&value, data_, size);
        data_ += size;
        left_ -= size;
        return value;
    }

    std::int64_t below(std::int64_t count) { return take<std::uint16_t>() % count; }
    bool chance(int in) { return take<std::uint8_t>() % in == 0; }

   private:
    const std::uint8_t* data_;
    std::size_t left_;
};

// Values of one kind, which a byte picks; a few of them odd where another byte says so.
inline Floats floats(Bytes& bytes, std::size_t count, bool finite) {
    constexpr float kSizes[] = {1.0F, 0.05F, 0.0F, 1e-38F, 1e-44F, 1e18F, 3e38F};
    constexpr float kLimit = std::numeric_limits<float>::max();
    std::minstd_rand random(bytes.take<std::uint16_t>() + 1U);
    std::normal_distribution<float> normal;
    const float size = kSizes[bytes.below(std::size(kSizes))];
    const bool coarse = bytes.chance(3);  // many ties
    Floats values(count);
    for (float& value : values) {
        const float drawn = normal(random);
        value = std::clamp(size * (coarse ? std::round(drawn) : drawn), -kLimit, kLimit);
    }
    for (std::int64_t odd = bytes.chance(2) ? bytes.below(6) : 0; odd > 0 && count > 0; --odd) {
        const auto value = bytes.take<float>();
        if (!finite || std::isfinite(value)) values[bytes.take<std::uint16_t>() % count] = value;
    }
    return values;
}

}  // namespace
