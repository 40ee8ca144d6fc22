#include "adam/adam.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "adam/kernels.hpp"
#include "work_queue.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kPiece = std::int64_t{1} << 15U;  // floats: a tenth of a millisecond of the update
constexpr double kClipEps = 1e-6;                        // torch.nn.utils.clip_grad_norm_'s

const AdamKernels& adam_kernels(Isa isa) {
#if defined(__x86_64__)
    if (isa >= Isa::avx512) return kAdamAvx512;
    if (isa == Isa::avx2) return kAdamAvx2;
#endif
    (void)isa;
    return kAdamPortable;
}

std::vector<AdamGroup> pieces_of(const std::vector<AdamGroup>& groups) {
    std::vector<AdamGroup> pieces;
    for (const AdamGroup& group : groups) {
        for (std::int64_t begin = 0; begin < group.count; begin += kPiece) {
            pieces.push_back({std::min(kPiece, group.count - begin), group.weights + begin, group.gradients + begin,
                              group.first_moments + begin, group.second_moments + begin});
        }
    }
    return pieces;
}

AdamScalars scalars_of(const AdamSettings& settings, std::int64_t step, double learning_rate, double norm) {
    const auto steps = static_cast<double>(step);
    const auto first_rate = static_cast<float>(1.0 - settings.beta1);
    float clip = 1.0F;
    if (settings.clip_norm > 0.0) {
        // In float32, as PyTorch has it.
        const float rounded = static_cast<float>(norm) + static_cast<float>(kClipEps);
        clip = static_cast<float>(settings.clip_norm) / rounded;
        if (clip > 1.0F) clip = 1.0F;  // a NaN stays one
    }
    return {clip,
            static_cast<float>(1.0 - learning_rate * settings.weight_decay),
            first_rate < 0.5F,
            first_rate < 0.5F ? first_rate : first_rate - 1.0F,
            static_cast<float>(settings.beta2),
            static_cast<float>(1.0 - settings.beta2),
            static_cast<float>(std::sqrt(1.0 - std::pow(settings.beta2, steps))),
            static_cast<float>(settings.eps),
            static_cast<float>(learning_rate / (1.0 - std::pow(settings.beta1, steps)))};
}

}  // namespace

double adam_step(const std::vector<AdamGroup>& groups, const AdamSettings& settings, std::int64_t step,
                 double learning_rate, Isa isa, int threads) {
    const AdamKernels& kernels = adam_kernels(isa);
    const std::vector<AdamGroup> pieces = pieces_of(groups);
    const auto for_each_piece = [&](const auto& work) {
        std::atomic<std::size_t> next{0};
        const int seats = std::min(threads, static_cast<int>(std::min<std::size_t>(pieces.size(), 1U << 16U)));
        share_work(std::max(seats, 1), [&](int) {
            for (std::size_t k = next.fetch_add(1); k < pieces.size(); k = next.fetch_add(1)) work(k);
        });
    };
    std::vector<double> squares(pieces.size());
    for_each_piece([&](std::size_t k) { squares[k] = kernels.sum_of_squares(pieces[k].gradients, pieces[k].count); });
    double total = 0.0;
    for (const double square : squares) total += square;
    const double norm = std::sqrt(total);
    if (step > 0) {
        const AdamScalars scalars = scalars_of(settings, step, learning_rate, norm);
        for_each_piece([&](std::size_t k) { kernels.update(pieces[k], scalars); });
    }
    return norm;
}

}  // namespace mtaw
