// Arrays of a delta and of a query's working memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace mtaw {

// Makes room for one more. Growing to twice the size would leave a third of the memory of short arrays unused.
template <typename T>
void make_room(std::vector<T>& array) {
    if (array.size() == array.capacity()) array.reserve(array.size() + array.size() / 8 + 1);
}

// Elements that stay where they are while others come: a vector of blocks, few enough to be found without a miss.
template <typename T>
class Blocks {
   public:
    [[nodiscard]] T& operator[](std::size_t i) { return (*blocks_[i / kBlock])[i % kBlock]; }
    [[nodiscard]] const T& operator[](std::size_t i) const { return (*blocks_[i / kBlock])[i % kBlock]; }
    [[nodiscard]] std::size_t size() const { return size_; }
    T& add() {
        if (size_ % kBlock == 0) blocks_.push_back(std::make_unique<std::array<T, kBlock>>());
        return (*this)[size_++];
    }
    [[nodiscard]] std::size_t n_bytes() const { return blocks_.size() * sizeof(std::array<T, kBlock>); }
    template <typename Work>
    void each(const Work& work) {
        for (std::size_t i = 0; i < size_; ++i) work((*this)[i]);
    }

   private:
    static constexpr std::size_t kBlock = 4096;

    std::vector<std::unique_ptr<std::array<T, kBlock>>> blocks_;
    std::size_t size_ = 0;
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
