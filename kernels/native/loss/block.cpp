#include "loss/block.hpp"

#include <mutex>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace mtaw {
namespace {

constexpr std::size_t kAlignment = std::size_t{2} << 20U;  // a huge page

std::mutex kept_mutex;
std::byte* kept_data = nullptr;
std::size_t kept_size = 0;

std::byte* allocate(std::size_t size) {
    auto* data = static_cast<std::byte*>(::operator new(size, std::align_val_t{kAlignment}));
#if defined(__linux__)
    madvise(data, size, MADV_HUGEPAGE);  // advice: where it is not taken, small pages do
#endif
    return data;
}

void release(std::byte* data) { ::operator delete(data, std::align_val_t{kAlignment}); }

}  // namespace

Block::Block(std::size_t bytes) : size_((bytes + kAlignment - 1) / kAlignment * kAlignment) {
    {
        const std::lock_guard lock(kept_mutex);
        if (kept_size >= size_) {
            data_ = std::exchange(kept_data, nullptr);
            size_ = std::exchange(kept_size, 0);
        }
    }
    if (data_ == nullptr) data_ = allocate(size_);
}

Block::~Block() {
    {
        const std::lock_guard lock(kept_mutex);
        if (size_ > kept_size) {
            std::swap(data_, kept_data);
            std::swap(size_, kept_size);
        }
    }
    if (data_ != nullptr) release(data_);
}

}  // namespace mtaw
