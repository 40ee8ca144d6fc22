#include "loss/block.hpp"

#include <mutex>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "per_process.hpp"

namespace mtaw {
namespace {

constexpr std::size_t kAlignment = std::size_t{2} << 20U;  // a huge page

struct Kept {
    std::byte* data = nullptr;
    std::size_t size = 0;
};

PerProcess<std::mutex>& kept_mutex = *new PerProcess<std::mutex>;  // never deleted: threads outlive statics
Kept kept[2];

std::byte* allocate(std::size_t size) {
    auto* data = static_cast<std::byte*>(::operator new(size, std::align_val_t{kAlignment}));
#if defined(__linux__)
    madvise(data, size, MADV_HUGEPAGE);  // only advice: small pages work too
#endif
    return data;
}

void release(std::byte* data) { ::operator delete(data, std::align_val_t{kAlignment}); }

}  // namespace

Block::Block(std::size_t bytes) : size_((bytes + kAlignment - 1) / kAlignment * kAlignment) {
    {
        const std::lock_guard lock(kept_mutex.get());
        Kept* best = nullptr;
        for (Kept& one : kept) {
            if (one.size >= size_ && (best == nullptr || one.size < best->size)) best = &one;
        }
        if (best != nullptr) {
            data_ = std::exchange(best->data, nullptr);
            size_ = std::exchange(best->size, 0);
        }
    }
    if (data_ == nullptr) data_ = allocate(size_);
}

Block::~Block() {
    {
        const std::lock_guard lock(kept_mutex.get());
        Kept& smallest = kept[0].size <= kept[1].size ? kept[0] : kept[1];
        if (size_ > smallest.size) {
            std::swap(data_, smallest.data);
            std::swap(size_, smallest.size);
        }
    }
    if (data_ != nullptr) release(data_);
}

void release_kept_blocks() {
    const std::lock_guard lock(kept_mutex.get());
    for (Kept& one : kept) {
        if (one.data != nullptr) release(one.data);
        one = {};
    }
}

}  // namespace mtaw
