// Floats at a cache line's boundary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
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

// An array of zeros on a cache line's boundary. Only pages that are written take memory.
class ZeroFloats {
   public:
    ZeroFloats() = default;

    // Throws std::bad_alloc.
    explicit ZeroFloats(std::int64_t size) {
        std::size_t bytes = static_cast<std::size_t>(size) * sizeof(float) + kLine;
        // calloc, because its large blocks are fresh zero pages of the system, which need no filling.
        memory_.reset(std::calloc(1, bytes));
        if (memory_ == nullptr) throw std::bad_alloc();
        void* begin = memory_.get();
        data_ = static_cast<float*>(std::align(kLine, bytes - kLine, begin, bytes));
    }

    float* data() { return data_; }

   private:
    static constexpr std::size_t kLine = 64;
    struct Release {
        void operator()(void* memory) const { std::free(memory); }
    };

    std::unique_ptr<void, Release> memory_;
    float* data_ = nullptr;
};

}  // namespace mtaw
