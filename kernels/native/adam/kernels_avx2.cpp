#include <immintrin.h>

#include "adam/passes.hpp"

namespace mtaw {
namespace {

struct Floats {
    using Vec = __m256;
    static constexpr int kLanes = 8;

    static Vec set(float x) { return _mm256_set1_ps(x); }
    static Vec load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
    static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
    static Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
    static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
    static Vec multiply_add(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
    static Vec divide(Vec a, Vec b) { return _mm256_div_ps(a, b); }
    static Vec square_root(Vec x) { return _mm256_sqrt_ps(x); }
};

}  // namespace

const AdamKernels kAdamAvx2 = {sum_of_squares, update<Floats>};

}  // namespace mtaw
