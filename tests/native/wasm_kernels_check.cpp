// The kernels of the session memory for WebAssembly against the portable ones, bit by bit, on numbers of every size.
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "memory/kernels.hpp"

namespace {

constexpr std::int64_t kN1 = 16, kN2 = 8, kDepth = 13, kCount = 45;
// Of the last two, products are nearly half of a sum's last bit, and differ from that by less than float64 holds.
enum Size { kOrdinary, kWhole, kTiny, kAny, kMiddle, kUnder, kSizes };
constexpr const char* kNames[] = {"ordinary", "whole", "tiny", "any", "middle", "under"};

std::mt19937_64 random_bits(7);

float drawn(Size size) {
    const float sign = random_bits() % 2 == 0 ? 1.0F : -1.0F,
                near = random_bits() % 2 == 0 ? 1 + 0x1p-23F : 1 - 0x1p-23F;
    std::normal_distribution<float> normal;
    switch (size) {
        case kWhole: return static_cast<float>(static_cast<std::int64_t>(random_bits() % 9) - 4) * 0.25F;
        case kTiny: return std::ldexp(normal(random_bits), -static_cast<int>(random_bits() % 80));
        case kAny: {  // every float but infinities and NaNs
            float value = 0;
            do {
                value = std::bit_cast<float>(static_cast<std::uint32_t>(random_bits()));
            } while (!(value - value == 0));
            return value;
        }
        case kMiddle: return sign * near * 0x1p-12F;
        case kUnder: return sign * near * 0x1p-75F;
        default: return random_bits() % 8 == 0 ? 0.0F : normal(random_bits);
    }
}

std::vector<float> some(std::int64_t count, Size size) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = drawn(size);
    return values;
}

// What sums start from.
std::vector<float> some_sums(std::int64_t count, Size size) {
    std::vector<float> values = some(count, size);
    if (size < kMiddle) return values;
    const float bit = size == kMiddle ? 0x1p-23F : 0x1p-149F;
    for (float& value : values)
        value = (size == kMiddle ? 1.0F : 0x1p-130F) + static_cast<float>(random_bits() % 1000) * bit;
    return values;
}

// NaNs of one kind are equal: which bits they have is the machine's choice.
bool equal(const float* a, const float* b, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        if (std::memcmp(a + i, b + i, sizeof(float)) != 0 && !(a[i] != a[i] && b[i] != b[i])) return false;
    }
    return true;
}

bool same_forward(const mtaw::MemoryKernels& one, const mtaw::MemoryKernels& other, Size columns_of, Size weights_of) {
    using mtaw::kTile;
    const std::vector<float> columns = some(kDepth * kTile, columns_of), start = some_sums(kN1 + 16, weights_of);
    const std::vector<float> linear = some(kDepth + 3, weights_of), panels1 = some(kDepth * kN1, weights_of);
    const std::vector<float> panels2 = some(kN1 * kN2, weights_of), bias2 = some_sums(kN2, weights_of),
                             output = some(kN2, weights_of);
    std::vector<float> hidden(kN1 * kTile), scores(kTile, 0), expected_hidden = hidden, expected = scores;
    mtaw::ForwardPass pass{columns.data(), kDepth,         kDepth,        start.data(), linear.data(), panels1.data(),
                           panels2.data(), bias2.data(),   output.data(), kN1,          kN2,           hidden.data(),
                           scores.data(),  {nullptr, 0, 0}};
    one.forward(pass, kCount);
    pass.hidden = expected_hidden.data();
    pass.scores = expected.data();
    other.forward(pass, kCount);
    for (std::int64_t unit = 0; unit < kN1; ++unit) {
        if (!equal(hidden.data() + unit * kTile, expected_hidden.data() + unit * kTile, kCount)) return false;
    }
    return equal(scores.data(), expected.data(), kCount);
}

bool same_scaled(const mtaw::MemoryKernels& one, const mtaw::MemoryKernels& other, Size size) {
    std::vector<float> sums = some_sums(64, size), expected = sums;
    const std::vector<float> x = some(64, size);
    const float factor = drawn(size);
    one.add_scaled(sums.data(), x.data(), factor, 64);
    other.add_scaled(expected.data(), x.data(), factor, 64);
    return equal(sums.data(), expected.data(), 64);
}

}  // namespace

int main() {
    const mtaw::MemoryKernels &wasm = mtaw::memory_kernels_wasm(), &portable = mtaw::memory_kernels_portable();
    int failures = 0;
    for (int turn = 0; turn < 300; ++turn) {
        for (int size = 0; size < kSizes; ++size) {
            for (int weights = 0; weights < kSizes; ++weights) {
                if (same_forward(wasm, portable, static_cast<Size>(size), static_cast<Size>(weights))) continue;
                if (++failures < 9)
                    std::printf("forward differs: %s columns, %s weights\n", kNames[size], kNames[weights]);
            }
            if (!same_scaled(wasm, portable, static_cast<Size>(size)) && ++failures < 9)
                std::printf("add_scaled differs: %s\n", kNames[size]);
        }
    }
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
