// Checks of `change_lock.hpp`, and of the memory that `loss/block.hpp` keeps, without a clock: readers that starve a
// writer would make a check wait forever. No process is forked: the handlers of a fork are called as it calls them.
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "change_lock.hpp"
#include "loss/block.cpp"

namespace {

void (*before_fork)() = nullptr;
void (*in_parent)() = nullptr;
void (*in_child)() = nullptr;
void (*amid_release)(void*) = nullptr;

void call(void (*handler)()) {
    if (handler != nullptr) handler();
}

void expect(bool holds, const char* what) {
    if (holds) return;
    std::printf("failed: %s\n", what);
    std::exit(1);
}

}  // namespace

extern "C" int pthread_atfork(void (*prepare)(), void (*parent)(), void (*child)()) noexcept {
    before_fork = prepare;
    in_parent = parent;
    in_child = child;
    return 0;
}

void* operator new(std::size_t size, std::align_val_t alignment) {
    void* const memory = std::aligned_alloc(static_cast<std::size_t>(alignment), size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void operator delete(void* memory, std::align_val_t) noexcept {
    if (amid_release != nullptr) std::exchange(amid_release, nullptr)(memory);
    std::free(memory);
}

namespace {

void a_fork_waits_for_a_change() {
    const mtaw::ChangeLock lock;
    std::atomic<int> value{0}, found{-1};
    std::atomic<bool> has_begun{false};
    std::thread forking;
    {
        const mtaw::ChangeLock::Write change(lock);
        value = 1;
        forking = std::thread([&] {
            has_begun = true;
            call(before_fork);
            found = value.load();
            call(in_parent);
        });
        while (!has_begun) std::this_thread::yield();
        for (int turn = 0; turn < 1000; ++turn) std::this_thread::yield();  // a fork that did not wait would be here
        value = 2;
    }
    forking.join();
    expect(found == 2, "a fork waits for the end of a change");
}

void readers_let_a_writer_go_first() {
    constexpr int kReaders = 8, kChanges = 200;
    const mtaw::ChangeLock lock;
    std::atomic<bool> done{false};
    std::atomic<int> n_begun{0};
    std::vector<std::thread> readers;
    for (int reader = 0; reader < kReaders; ++reader) {
        readers.emplace_back([&] {
            for (bool begins = true; !done; begins = false) {
                const mtaw::ChangeLock::Read reading = lock.read();
                n_begun += begins ? 1 : 0;
                for (int turn = 0; turn < 20; ++turn) std::this_thread::yield();
            }
        });
    }
    while (n_begun < kReaders) std::this_thread::yield();
    for (int change = 0; change < kChanges; ++change) const mtaw::ChangeLock::Write writing(lock);
    done = true;
    for (std::thread& reader : readers) reader.join();
}

// A child that is forked while a kept block goes back to the system must not get it.
void no_block_is_kept_that_is_being_released() {
    constexpr std::size_t kBytes = std::size_t{3} << 20U;
    { const mtaw::Block block(kBytes); }
    amid_release = [](void* released) {
        call(before_fork);
        call(in_child);
        const mtaw::Block block(kBytes);
        expect(block.data() != released, "a block that is being released is not kept");
    };
    mtaw::release_kept_blocks();
    expect(amid_release == nullptr, "the kept block was released");
}

}  // namespace

int main() {
    a_fork_waits_for_a_change();
    readers_let_a_writer_go_first();
    no_block_is_kept_that_is_being_released();
    std::printf("0 failures\n");
}
