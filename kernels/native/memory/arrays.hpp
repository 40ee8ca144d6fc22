// Arrays of a delta and of a query's working memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace mtaw {

// An array of which a delta has many, most of them short or empty: a pointer to its length and elements. It grows by an
// eighth: to twice the size would leave a third of the memory of short arrays unused.
template <typename T>
class ShortArray {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= sizeof(std::uint32_t) * 2);

   public:
    ShortArray() = default;
    ShortArray(ShortArray&& other) noexcept : head_(std::exchange(other.head_, nullptr)) {}
    ShortArray& operator=(ShortArray&& other) noexcept {
        std::swap(head_, other.head_);
        return *this;
    }
    ~ShortArray() { ::operator delete(head_); }

    [[nodiscard]] std::size_t size() const { return head_ == nullptr ? 0 : head_->size; }
    [[nodiscard]] bool empty() const { return size() == 0; }
    // Of its allocation.
    [[nodiscard]] std::int64_t n_bytes() const { return head_ == nullptr ? 0 : bytes_of(head_->capacity); }
    // Null while nothing was added.
    [[nodiscard]] T* data() { return head_ == nullptr ? nullptr : reinterpret_cast<T*>(head_ + 1); }
    [[nodiscard]] const T* data() const { return head_ == nullptr ? nullptr : reinterpret_cast<const T*>(head_ + 1); }
    [[nodiscard]] T* begin() { return data(); }
    [[nodiscard]] T* end() { return data() + size(); }
    [[nodiscard]] const T* begin() const { return data(); }
    [[nodiscard]] const T* end() const { return data() + size(); }
    [[nodiscard]] T& operator[](std::size_t i) { return data()[i]; }
    [[nodiscard]] const T& operator[](std::size_t i) const { return data()[i]; }
    [[nodiscard]] T& back() { return data()[size() - 1]; }

    void push_back(T value) {
        const std::size_t count = size();
        if (head_ == nullptr || count == head_->capacity) reserve(count + count / 8 + 1);
        std::construct_at(data() + count, value);
        ++head_->size;
    }
    // For at least as many as there are.
    void reserve(std::size_t capacity) {
        auto* const head = static_cast<Head*>(::operator new(static_cast<std::size_t>(bytes_of(capacity))));
        *head = {static_cast<std::uint32_t>(size()), static_cast<std::uint32_t>(capacity)};
        std::uninitialized_copy(begin(), end(), reinterpret_cast<T*>(head + 1));
        ::operator delete(std::exchange(head_, head));
    }
    void assign(std::size_t count, T value) {
        clear();
        reserve(count);
        std::uninitialized_fill_n(data(), count, value);
        head_->size = static_cast<std::uint32_t>(count);
    }
    // Removes all that equal `value`.
    void remove(const T& value) {
        if (head_ != nullptr) head_->size = static_cast<std::uint32_t>(std::remove(begin(), end(), value) - begin());
    }
    void clear() {
        ::operator delete(head_);
        head_ = nullptr;
    }

   private:
    struct alignas(8) Head {
        std::uint32_t size, capacity;
    };

    static std::int64_t bytes_of(std::size_t capacity) {
        return static_cast<std::int64_t>(sizeof(Head) + capacity * sizeof(T));
    }

    Head* head_ = nullptr;
};

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
