#pragma once

#include "loss/aw_loss.hpp"
#include "loss/kernels.hpp"

namespace mtaw {

// The inner loops for products in `format`. Throws std::invalid_argument if `isa` has none.
const LossKernels& loss_kernels(LossFormat format, Isa isa);

}  // namespace mtaw
