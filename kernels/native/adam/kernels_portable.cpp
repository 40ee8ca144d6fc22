// Plain C++, one float at a time.
#include <cmath>

#include "adam/passes.hpp"

namespace mtaw {
namespace {

struct Floats {
    using Vec = float;
    static constexpr int kLanes = 1;

    static Vec set(float x) { return x; }
    static Vec load(const float* p) { return *p; }
    static void store(float* p, Vec x) { *p = x; }
    static Vec add(Vec a, Vec b) { return a + b; }
    static Vec sub(Vec a, Vec b) { return a - b; }
    static Vec mul(Vec a, Vec b) { return a * b; }
    static Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }
    static Vec divide(Vec a, Vec b) { return a / b; }
    static Vec square_root(Vec x) { return std::sqrt(x); }
};

}  // namespace

const AdamKernels kAdamPortable = {sum_of_squares, update<Floats>};

}  // namespace mtaw
