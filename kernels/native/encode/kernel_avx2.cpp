#include <immintrin.h>

#include <cstdint>

#include "kernel.hpp"
#include "pass.hpp"

namespace mtaw {
namespace {

struct Avx2 {
    using Reg = __m256;
    static constexpr std::int64_t kLanes = 8;
    static constexpr std::int64_t kRows = 6;  // 6 x 2 sums, 2 vectors of weights and a factor fit the 16 registers
    static constexpr std::int64_t kColumns = 2;
    static constexpr std::int64_t kQueries = 2;
    static constexpr bool kHalves = false;

    static void prefetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
    static Reg load(const float* p) { return _mm256_loadu_ps(p); }
    static Reg load_first(const float* p, std::int64_t n, float fill) {
        const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const int count = n >= kLanes ? 8 : n > 0 ? static_cast<int>(n) : 0;
        const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes);
        return _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
    }
    static void store(float* p, Reg v) { _mm256_storeu_ps(p, v); }
    static Reg broadcast(float value) { return _mm256_set1_ps(value); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
    static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
    static Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
    static Reg power_of_two(Reg shifted) {
        const __m256i biased = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127));
        return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
    }
    static float root(float value) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(value))); }
    static double root(double value) { return _mm_cvtsd_f64(_mm_sqrt_pd(_mm_set1_pd(value))); }
    static float sum(Reg v) {
        __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        half = _mm_add_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
    }
    static float maximum(Reg v) {
        __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        half = _mm_max_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
    }
    // The sums of the lanes of four vectors, next to each other.
    static void store_sums(float* out, Reg a, Reg b, Reg c, Reg d) {
        const Reg all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
    }
};

}  // namespace

const EncodeKernel& encode_kernel_avx2() {
    static constexpr EncodeKernel kernel = encode_kernel<Avx2>();
    return kernel;
}

}  // namespace mtaw
