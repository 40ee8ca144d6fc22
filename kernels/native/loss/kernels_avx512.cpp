// AVX-512, float32.
#include "loss/float_format.hpp"
#include "loss/vector_avx512.hpp"

namespace mtaw {
namespace {

struct Floats : Avx512Floats {
    static Vec exp2(Vec x, Vec factor) { return exp2_by<kExp2Degree>(kExp2, x, factor); }
};

}  // namespace

const LossKernels kLossAvx512 = kernels_of<FloatFormat<Floats>>(pack_float_items<Floats>);

}  // namespace mtaw
