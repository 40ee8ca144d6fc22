// Checks of `work_queue.hpp` without a clock: a broken queue would make a check wait forever, until the test stops it.
#include <signal.h>
#include <unistd.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <latch>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "work_queue.hpp"

static std::atomic<bool> no_memory{false};

void* operator new(std::size_t size) {
    void* const memory = no_memory ? nullptr : std::malloc(size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

void expect(bool holds, const char* what) {
    if (holds) return;
    std::printf("failed: %s\n", what);
    std::exit(1);
}

// Runs `count` pieces by a common counter; counts how often each was done.
std::vector<int> pieces_done(int workers, int count) {
    std::vector<int> done(static_cast<std::size_t>(count));
    std::atomic<int> next{0};
    mtaw::share_work(workers, [&](int) {
        for (int piece = next++; piece < count; piece = next++) ++done[static_cast<std::size_t>(piece)];
    });
    return done;
}

bool all_once(int workers, int count) {
    return pieces_done(workers, count) == std::vector<int>(static_cast<std::size_t>(count), 1);
}

// A helper that is stuck in its piece leaves all others to the caller.
void a_stuck_helper_holds_one_piece() {
    constexpr int kPieces = 20;
    std::atomic<int> next{0}, done{0};
    std::latch helper_came{1};
    mtaw::share_work(2, [&](int worker) {
        if (worker == 0) helper_came.wait();
        for (int piece = next++; piece < kPieces; piece = next++) {
            if (worker == 1) {
                helper_came.count_down();
                while (done < kPieces - 1) std::this_thread::yield();
            }
            ++done;
            if (worker == 1) return;
        }
    });
    expect(done == kPieces, "all pieces");
}

// While the only helper works for another caller, a caller does everything itself and does not wait.
void a_helper_that_does_not_come_is_not_waited_for() {
    std::latch helper_came{1}, second_done{1};
    std::thread first([&] {
        mtaw::share_work(2, [&](int worker) {
            if (worker != 1) return helper_came.wait();
            helper_came.count_down();
            second_done.wait();
        });
    });
    helper_came.wait();
    expect(all_once(2, 50), "every piece once, by the caller alone");
    second_done.count_down();
    first.join();
}

void seats_are_distinct() {
    for (int round = 0; round < 200; ++round) {
        std::vector<std::atomic<int>> taken(4);
        mtaw::share_work(4, [&](int worker) { ++taken[static_cast<std::size_t>(worker)]; });
        expect(taken[0] == 1, "the caller is a worker");
        for (const std::atomic<int>& worker : taken) expect(worker <= 1, "a number is given once");
    }
}

void an_exception_comes_back() {
    bool caught = false;
    try {
        mtaw::share_work(3, [](int) { throw std::runtime_error("no"); });
    } catch (const std::runtime_error&) {
        caught = true;
    }
    expect(caught, "an exception comes back");
    expect(all_once(3, 30), "and the helpers continue");
}

void several_callers() {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller) {
        callers.emplace_back([] {
            for (int round = 0; round < 100; ++round) expect(all_once(3, 17), "several callers");
        });
    }
    for (std::thread& caller : callers) caller.join();
}

// Signals, which helpers do not get, still come to the caller.
void without_memory_there_are_fewer_helpers() {
    std::atomic<int> came{0};
    const std::function<void(int)> work = [&](int) { ++came; };
    no_memory = true;
    mtaw::share_work(100, work);
    no_memory = false;
    expect(came > 0, "the work is done");
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    expect(sigismember(&blocked, SIGTERM) == 0, "no signal is blocked");
}

[[maybe_unused]] void a_child_has_helpers_of_its_own() {
    expect(all_once(3, 30), "before the fork");
    const pid_t child = fork();
    if (child == 0) {
        std::latch helper_came{1};
        mtaw::share_work(2, [&](int worker) { worker == 0 ? helper_came.wait() : helper_came.count_down(); });
        _exit(all_once(3, 30) ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    expect(status == 0, "a child of a fork");
}

}  // namespace

int main() {
    a_helper_that_does_not_come_is_not_waited_for();  // first: there is one helper in all
// The sanitizers' own locks, of allocation and of threads, may be taken by a helper at the fork.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
    a_child_has_helpers_of_its_own();  // while the only threads are helpers
#endif
    a_stuck_helper_holds_one_piece();
    seats_are_distinct();
    an_exception_comes_back();
    several_callers();
    without_memory_there_are_fewer_helpers();
    std::puts("0 failures");
}
