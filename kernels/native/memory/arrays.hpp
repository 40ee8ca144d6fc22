// Arrays of a delta and of a query's working memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
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

}  // namespace mtaw
