// Floats at a cache line's boundary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace mtaw {

class AlignedFloats {
   public:
    AlignedFloats() = default;

    // Uninitialized.
    explicit AlignedFloats(std::int64_t size)
        : data_(static_cast<float*>(
              ::operator new(static_cast<std::size_t>(size) * sizeof(float), std::align_val_t{kAlignment}))),
          size_(size) {}

    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }
    std::int64_t size() const { return size_; }

   private:
    static constexpr std::size_t kAlignment = 64;
    struct Release {
        void operator()(float* data) const { ::operator delete(data, std::align_val_t{kAlignment}); }
    };

    std::unique_ptr<float, Release> data_;
    std::int64_t size_ = 0;
};

}  // namespace mtaw
