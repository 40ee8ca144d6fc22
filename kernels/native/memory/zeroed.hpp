// Many floats that are zero, at a cache line's boundary, of which only those that are written take memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace mtaw {

class ZeroedFloats {
 public:
    ZeroedFloats() = default;

    // Throws std::bad_alloc.
    explicit ZeroedFloats(std::int64_t size) {
        std::size_t room = static_cast<std::size_t>(size) * sizeof(float) + kLine;
        // From calloc, not from an allocation that is then filled: its large blocks are fresh pages of the system's.
        memory_.reset(std::calloc(1, room));
        if (memory_ == nullptr) throw std::bad_alloc();
        void* begin = memory_.get();
        data_ = static_cast<float*>(std::align(kLine, room - kLine, begin, room));
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
