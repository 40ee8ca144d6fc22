// Checks of `change_lock.hpp` without a clock: readers that starve a writer would make a check wait forever.
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "change_lock.hpp"

namespace {

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

}  // namespace

int main() {
    readers_let_a_writer_go_first();
    std::printf("0 failures\n");
}
