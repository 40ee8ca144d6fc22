#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernel.hpp"
#include "pass.hpp"

namespace mtaw {
namespace {

// Four floats that any compiler can keep in one register. Products round before they are added: no fused multiply-add
// is taken for granted here.
struct Portable {
    static constexpr std::int64_t kLanes = 4;
    static constexpr std::int64_t kRows = 3;  // 3 x 4 sums, a vector of weights and a factor fit 16 registers
    static constexpr std::int64_t kColumns = 4;
    static constexpr std::int64_t kQueries = 2;
    struct Reg {
        float lanes[kLanes];
    };

    template <typename Op>
    static MTAW_INLINE Reg each(Op op) {
        Reg out;
        for (int lane = 0; lane < kLanes; ++lane) out.lanes[lane] = op(lane);
        return out;
    }
    static void prefetch(const float*) {}
    static MTAW_INLINE Reg load(const float* p) {
        return each([&](int lane) { return p[lane]; });
    }
    static Reg load_first(const float* p, std::int64_t n, float fill) {
        return each([&](int lane) { return lane < n ? p[lane] : fill; });
    }
    static MTAW_INLINE void store(float* p, const Reg& v) { std::memcpy(p, v.lanes, sizeof v.lanes); }
    static MTAW_INLINE Reg broadcast(float value) {
        return each([&](int) { return value; });
    }
    static MTAW_INLINE Reg fma(const Reg& a, const Reg& b, const Reg& c) {
        return each([&](int lane) { return a.lanes[lane] * b.lanes[lane] + c.lanes[lane]; });
    }
    static MTAW_INLINE Reg add(const Reg& a, const Reg& b) {
        return each([&](int lane) { return a.lanes[lane] + b.lanes[lane]; });
    }
    static MTAW_INLINE Reg sub(const Reg& a, const Reg& b) {
        return each([&](int lane) { return a.lanes[lane] - b.lanes[lane]; });
    }
    static MTAW_INLINE Reg mul(const Reg& a, const Reg& b) {
        return each([&](int lane) { return a.lanes[lane] * b.lanes[lane]; });
    }
    static MTAW_INLINE Reg max(const Reg& a, const Reg& b) {
        return each([&](int lane) { return a.lanes[lane] > b.lanes[lane] ? a.lanes[lane] : b.lanes[lane]; });
    }
    static MTAW_INLINE Reg power_of_two(const Reg& shifted) {
        return each([&](int lane) {
            std::uint32_t bits;
            std::memcpy(&bits, &shifted.lanes[lane], sizeof bits);
            bits = (bits + 127U) << 23U;
            float power;
            std::memcpy(&power, &bits, sizeof power);
            return power;
        });
    }
    static float root(float value) { return std::sqrt(value); }
    static double root(double value) { return std::sqrt(value); }
    static MTAW_INLINE float sum(const Reg& v) { return (v.lanes[0] + v.lanes[1]) + (v.lanes[2] + v.lanes[3]); }
    static MTAW_INLINE float maximum(const Reg& v) {
        float top = v.lanes[0];
        for (const float value : v.lanes) top = value > top ? value : top;
        return top;
    }
    static MTAW_INLINE void store_sums(float* out, const Reg& a, const Reg& b, const Reg& c, const Reg& d) {
        out[0] = sum(a);
        out[1] = sum(b);
        out[2] = sum(c);
        out[3] = sum(d);
    }
};

}  // namespace

const EncodeKernel& encode_kernel_portable() {
    static constexpr EncodeKernel kernel = encode_kernel<Portable>();
    return kernel;
}

}  // namespace mtaw
