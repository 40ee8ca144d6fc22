// exp(-k / recency) for whole k, by two tables.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mtaw {

class Aging {
   public:
    explicit Aging(double recency) : recency_(recency), near_(kStep), far_(kStep) {
        for (std::size_t k = 0; k < kStep; ++k) {
            near_[k] = std::exp(-static_cast<double>(k) / recency);
            far_[k] = std::exp(-static_cast<double>(k * kStep) / recency);
        }
    }

    [[nodiscard]] double operator()(std::int64_t sessions) const {
        const auto k = static_cast<std::size_t>(sessions);
        if (sessions < 0 || k >= kStep * kStep) return std::exp(-static_cast<double>(sessions) / recency_);
        return far_[k / kStep] * near_[k % kStep];
    }

   private:
    static constexpr std::size_t kStep = 2048;
    double recency_;
    std::vector<double> near_, far_;
};

}  // namespace mtaw
