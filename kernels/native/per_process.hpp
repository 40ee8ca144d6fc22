// What a child of a fork must not share with its parent: locks, which a thread may hold that the child does not have.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>

namespace mtaw {

inline std::atomic<std::uint64_t> forks_so_far{0};

// How many forks lie between this process and the one that was started.
inline std::uint64_t process_generation() {
    [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, [] { forks_so_far.fetch_add(1); });
    return forks_so_far.load(std::memory_order_relaxed);
}

// A T that is new in every child. What it guards is copied as it is: a fork amid a write leaves that half written.
template <typename T>
class PerProcess {
  public:
    PerProcess() : held_(new Held{process_generation(), {}}) {}
    ~PerProcess() { delete held_.load(); }
    PerProcess(const PerProcess&) = delete;
    PerProcess& operator=(const PerProcess&) = delete;

    T& get() const {
        Held* found = held_.load(std::memory_order_acquire);
        const std::uint64_t now = process_generation();
        if (found->generation == now) return found->value;
        auto* const made = new Held{now, {}};
        // The parent's is left where it is: to destroy a lock that is held is undefined.
        if (held_.compare_exchange_strong(found, made)) return made->value;
        delete made;
        return found->value;
    }

  private:
    struct Held {
        std::uint64_t generation;
        T value;
    };

    mutable std::atomic<Held*> held_;
};

}  // namespace mtaw
