#include <arm_neon.h>

#include <cstdint>

#include "kernel.hpp"
#include "pass.hpp"

namespace mtaw {
namespace {

struct Neon {
    using Reg = float32x4_t;
    static constexpr std::int64_t kLanes = 4;
    static constexpr std::int64_t kRows = 6;  // 6 x 4 sums, 4 vectors of weights and a factor fit the 32 registers
    static constexpr std::int64_t kColumns = 4;
    static constexpr std::int64_t kQueries = 4;
    static constexpr bool kHalves = false;

    static void prefetch(const float* p) { __builtin_prefetch(p); }
    static Reg load(const float* p) { return vld1q_f32(p); }
    static Reg load_first(const float* p, std::int64_t n, float fill) {
        float lanes[kLanes] = {fill, fill, fill, fill};
        for (std::int64_t lane = 0; lane < kLanes && lane < n; ++lane) lanes[lane] = p[lane];
        return vld1q_f32(lanes);
    }
    static void store(float* p, Reg v) { vst1q_f32(p, v); }
    static Reg broadcast(float value) { return vdupq_n_f32(value); }
    static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
    static Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
    static Reg sub(Reg a, Reg b) { return vsubq_f32(a, b); }
    static Reg mul(Reg a, Reg b) { return vmulq_f32(a, b); }
    static Reg max(Reg a, Reg b) { return vmaxq_f32(a, b); }
    static Reg power_of_two(Reg shifted) {
        return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vreinterpretq_s32_f32(shifted), vdupq_n_s32(127)), 23));
    }
    static float root(float value) { return __builtin_sqrtf(value); }
    static double root(double value) { return __builtin_sqrt(value); }
    static float sum(Reg v) { return vaddvq_f32(v); }
    static float maximum(Reg v) { return vmaxvq_f32(v); }
    // The sums of the lanes of four vectors, next to each other.
    static void store_sums(float* out, Reg a, Reg b, Reg c, Reg d) {
        vst1q_f32(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
    }
};

}  // namespace

const EncodeKernel& encode_kernel_neon() {
    static constexpr EncodeKernel kernel = encode_kernel<Neon>();
    return kernel;
}

}  // namespace mtaw
