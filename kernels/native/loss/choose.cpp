#include "loss/kernels.hpp"

#include <stdexcept>
#include <string>

namespace mtaw {

const LossKernels& loss_kernels(LossFormat format, Isa isa) {
    if (format == LossFormat::bfloat16) {
#if defined(__x86_64__)
        if (isa == Isa::bf16) return kLossBf16;
        if (isa == Isa::amx) return kLossAmx;
#endif
        throw std::invalid_argument(std::string("aw_loss: instruction set '") + isa_name(isa) +
                                    "' has no bfloat16 products; compute in float32");
    }
    switch (isa) {
#if defined(__x86_64__)
        case Isa::amx:
        case Isa::bf16:
        case Isa::vnni:
        case Isa::avx512: return kLossAvx512;
        case Isa::avx2: return kLossAvx2;
#endif
        default: return kLossPortable;
    }
}

}  // namespace mtaw
