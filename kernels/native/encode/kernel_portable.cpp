#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernel.hpp"
#include "pass.hpp"

namespace mtaw {
namespace {

// Four floats in a vector type of GCC and Clang: SSE2 on x86-64. Products round before they are added: no fused
// multiply-add is taken for granted here.
struct Portable {
    using Reg = float __attribute__((vector_size(16)));
    using Integers = std::int32_t __attribute__((vector_size(16)));
    static constexpr std::int64_t kLanes = 4;
    static constexpr std::int64_t kRows = 3;  // 3 x 4 sums, a vector of weights and a factor fit 16 registers
    static constexpr std::int64_t kColumns = 4;
    static constexpr std::int64_t kQueries = 2;
    static constexpr bool kHalves = false;

    static void prefetch(const float* p) { __builtin_prefetch(p); }
    static Reg load(const float* p) {
        Reg v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static Reg load_first(const float* p, std::int64_t n, float fill) {
        Reg v = broadcast(fill);
        for (std::int64_t lane = 0; lane < kLanes && lane < n; ++lane) v[lane] = p[lane];
        return v;
    }
    static void store(float* p, Reg v) { std::memcpy(p, &v, sizeof v); }
    static Reg broadcast(float value) { return Reg{value, value, value, value}; }
    static Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }
    static Reg add(Reg a, Reg b) { return a + b; }
    static Reg sub(Reg a, Reg b) { return a - b; }
    static Reg mul(Reg a, Reg b) { return a * b; }
    static Reg max(Reg a, Reg b) { return a > b ? a : b; }
    static Reg power_of_two(Reg shifted) {
        Integers bits;
        std::memcpy(&bits, &shifted, sizeof bits);
        bits = (bits + 127) << 23;
        std::memcpy(&shifted, &bits, sizeof bits);
        return shifted;
    }
    static float root(float value) { return std::sqrt(value); }
    static double root(double value) { return std::sqrt(value); }
    static float sum(Reg v) { return (v[0] + v[1]) + (v[2] + v[3]); }
    static float maximum(Reg v) {
        float top = v[0];
        for (int lane = 1; lane < kLanes; ++lane) top = v[lane] > top ? v[lane] : top;
        return top;
    }
    // The sums of the lanes of four vectors, next to each other.
    static void store_sums(float* out, Reg a, Reg b, Reg c, Reg d) { store(out, Reg{sum(a), sum(b), sum(c), sum(d)}); }
};

}  // namespace

const EncodeKernel& encode_kernel_portable() {
    static constexpr EncodeKernel kernel = encode_kernel<Portable>();
    return kernel;
}

}  // namespace mtaw
