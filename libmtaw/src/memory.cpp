// Every allocation of the library goes to the caller's allocator: the operators below are the library's own, since the
// linker keeps them inside (mtaw.map). What libstdc++ allocates in its own code, exceptions and threads, it also frees.
#include "memory.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MTAW_FOREIGN_NEW  // ThreadSanitizer brings its own
#endif
#endif

#if defined(MTAW_FOREIGN_NEW)

bool mtaw::set_allocator(const mtaw_allocator&) { return false; }

#else

namespace mtaw {
namespace {

constexpr std::size_t kDefault = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

void* from_system(void*, std::size_t size, std::size_t alignment) {
    if (alignment <= kDefault) return std::malloc(size);
    return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void to_system(void*, void* memory, std::size_t, std::size_t) { std::free(memory); }

mtaw_allocator in_use = {sizeof(mtaw_allocator), nullptr, from_system, to_system};
std::atomic<bool> used{false};

// Before what is handed out: its whole size, which the allocator gets back. Not every `delete` knows it.
struct Front {
    void* begin;
    std::size_t size, alignment;
};

void* allocated(std::size_t size, std::size_t alignment) noexcept {
    if (!used.load(std::memory_order_relaxed)) used.store(true, std::memory_order_relaxed);
    const std::size_t room = (sizeof(Front) + alignment - 1) / alignment * alignment;
    if (size > static_cast<std::size_t>(-1) - room) return nullptr;
    void* const begin = in_use.allocate(in_use.context, room + size, alignment);
    if (begin == nullptr) return nullptr;
    auto* const memory = static_cast<char*>(begin) + room;
    reinterpret_cast<Front*>(memory)[-1] = {begin, room + size, alignment};
    return memory;
}

void* required(std::size_t size, std::size_t alignment) {
    void* const memory = allocated(size, alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

void released(void* memory) noexcept {
    if (memory == nullptr) return;
    const Front front = static_cast<const Front*>(memory)[-1];
    in_use.release(in_use.context, front.begin, front.size, front.alignment);
}

std::size_t bytes(std::align_val_t alignment) { return static_cast<std::size_t>(alignment); }

}  // namespace

bool set_allocator(const mtaw_allocator& allocator) {
    if (used.load()) return false;
    in_use = allocator;
    return true;
}

}  // namespace mtaw

void* operator new(std::size_t size) { return mtaw::required(size, mtaw::kDefault); }
void* operator new[](std::size_t size) { return mtaw::required(size, mtaw::kDefault); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return mtaw::allocated(size, mtaw::kDefault); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return mtaw::allocated(size, mtaw::kDefault); }
void* operator new(std::size_t size, std::align_val_t to) { return mtaw::required(size, mtaw::bytes(to)); }
void* operator new[](std::size_t size, std::align_val_t to) { return mtaw::required(size, mtaw::bytes(to)); }
void* operator new(std::size_t size, std::align_val_t to, const std::nothrow_t&) noexcept {
    return mtaw::allocated(size, mtaw::bytes(to));
}
void* operator new[](std::size_t size, std::align_val_t to, const std::nothrow_t&) noexcept {
    return mtaw::allocated(size, mtaw::bytes(to));
}
void operator delete(void* memory) noexcept { mtaw::released(memory); }
void operator delete[](void* memory) noexcept { mtaw::released(memory); }
void operator delete(void* memory, std::size_t) noexcept { mtaw::released(memory); }
void operator delete[](void* memory, std::size_t) noexcept { mtaw::released(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { mtaw::released(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { mtaw::released(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { mtaw::released(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { mtaw::released(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept { mtaw::released(memory); }
void operator delete[](void* memory, std::align_val_t, const std::nothrow_t&) noexcept { mtaw::released(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { mtaw::released(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { mtaw::released(memory); }

#endif
