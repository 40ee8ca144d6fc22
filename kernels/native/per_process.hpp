// State that a child of a fork must not share with its parent: locks, which a thread of the parent may have taken.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <mutex>

namespace mtaw {

inline std::atomic<std::uint64_t> forks_so_far{0};
inline std::mutex& fork_mutex();

// How many forks are between this process and the one that was started.
inline std::uint64_t process_generation() {
    [[maybe_unused]] static const int registered =
        pthread_atfork([] { fork_mutex().lock(); }, [] { fork_mutex().unlock(); }, [] { forks_so_far.fetch_add(1); });
    return forks_so_far.load(std::memory_order_relaxed);
}

// A T that is new in every child. What it guards is copied as it is: a fork during a write leaves that half written,
// unless the writer holds `fork_mutex`.
template <typename T>
class PerProcess {
   public:
    PerProcess() : instance_(new Instance{process_generation(), {}}) {}
    ~PerProcess() { delete instance_.load(); }
    PerProcess(const PerProcess&) = delete;
    PerProcess& operator=(const PerProcess&) = delete;

    T& get() const {
        Instance* found = instance_.load(std::memory_order_acquire);
        const std::uint64_t now = process_generation();
        if (found->generation == now) return found->value;
        auto* const created = new Instance{now, {}};
        // The parent's is never destroyed: destroying a taken lock is undefined.
        if (instance_.compare_exchange_strong(found, created)) return created->value;
        delete created;
        return found->value;
    }

   private:
    struct Instance {
        std::uint64_t generation;
        T value;
    };

    mutable std::atomic<Instance*> instance_;
};

// A fork waits for it. Who holds it must not wait for another thread: that one may need what the forking thread holds.
inline std::mutex& fork_mutex() {
    static auto* const mutex = new PerProcess<std::mutex>;  // never deleted: threads outlive statics
    return mutex->get();
}

}  // namespace mtaw
