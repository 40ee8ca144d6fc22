// Fork-join over std::thread: for training code; serving code runs on its caller's thread.
#pragma once

#include <exception>
#include <thread>
#include <vector>

namespace mtaw {

// Calls work(t) for t in 0..threads-1, each on a thread of its own (0 on the caller's), and waits for all.
// Rethrows an exception of the lowest thread that threw.
template <typename Work>
void fork_join(int threads, const Work& work) {
    std::vector<std::exception_ptr> failures(static_cast<std::size_t>(threads));
    const auto guarded = [&](int t) {
        try {
            work(t);
        } catch (...) {
            failures[static_cast<std::size_t>(t)] = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(static_cast<std::size_t>(threads));
    try {
        for (int t = 1; t < threads; ++t) others.emplace_back(guarded, t);
    } catch (...) {
        // The system has no thread left to give: what was not started is done here.
        for (int t = static_cast<int>(others.size()) + 1; t < threads; ++t) guarded(t);
    }
    guarded(0);
    for (std::thread& other : others) other.join();
    for (const std::exception_ptr& failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
}

}  // namespace mtaw
