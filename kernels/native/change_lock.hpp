// The lock of what changes in place while other threads read it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>

#include "per_process.hpp"

namespace mtaw {

// A reader lets one waiting writer go first: a mutex that prefers readers would starve it. A fork waits for the end of
// a change: a child finds all of it or nothing. So changes of different objects wait for each other, too.
class ChangeLock {
    struct Gate {
        std::shared_mutex mutex;
        std::atomic<std::int32_t> waiting{0};  // writers
        std::atomic<std::uint32_t> n_changes{0};
    };

   public:
    using Read = std::shared_lock<std::shared_mutex>;

    class Write {
       public:
        explicit Write(const ChangeLock& lock) : gate_(lock.gate_.get()) {
            gate_.waiting.fetch_add(1);
            gate_.mutex.lock();
            no_fork_ = std::unique_lock(fork_mutex());
        }
        ~Write() {
            no_fork_.unlock();
            gate_.mutex.unlock();
            gate_.waiting.fetch_sub(1);
            gate_.n_changes.fetch_add(1);  // last: a reader that has seen it does not wait for this writer
            gate_.n_changes.notify_all();
        }
        Write(const Write&) = delete;
        Write& operator=(const Write&) = delete;

       private:
        Gate& gate_;
        std::unique_lock<std::mutex> no_fork_;
    };

    [[nodiscard]] Read read() const {
        Gate& gate = gate_.get();
        const std::uint32_t n_changes = gate.n_changes.load();
        if (gate.waiting.load() > 0) gate.n_changes.wait(n_changes);
        return Read(gate.mutex);
    }

   private:
    PerProcess<Gate> gate_;
};

}  // namespace mtaw
