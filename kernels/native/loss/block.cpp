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

struct CachedBlock {
    std::byte* data = nullptr;
    std::size_t size = 0;
};

CachedBlock cache[2];  // changes with `fork_mutex` held

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
        const std::lock_guard lock(fork_mutex());
        CachedBlock* best = nullptr;
        for (CachedBlock& cached : cache) {
            if (cached.size >= size_ && (best == nullptr || cached.size < best->size)) best = &cached;
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
        const std::lock_guard lock(fork_mutex());
        CachedBlock& smallest = cache[0].size <= cache[1].size ? cache[0] : cache[1];
        if (size_ > smallest.size) {
            std::swap(data_, smallest.data);
            std::swap(size_, smallest.size);
        }
    }
    if (data_ != nullptr) release(data_);
}

void release_kept_blocks() {
    CachedBlock kept[2];
    {
        const std::lock_guard lock(fork_mutex());
        std::swap(kept, cache);
    }
    for (const CachedBlock& block : kept) {
        if (block.data != nullptr) release(block.data);
    }
}

}  // namespace mtaw
