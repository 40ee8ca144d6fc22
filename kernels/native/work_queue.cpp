#include "work_queue.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace mtaw {
namespace {

class WorkQueue {
  public:
    void share(int seats, const std::function<void(int)>& work) {
        Job job{work, seats};
        {
            const std::lock_guard lock(mutex_);
            hire(seats - 1);
            open_.push_back(&job);
        }
        there_is_work_.notify_all();
        job.take(0);
        std::unique_lock lock(mutex_);
        close(job);
        someone_left_.wait(lock, [&] { return job.inside == 0; });
        if (job.failure) std::rethrow_exception(job.failure);
    }

  private:
    struct Job {
        const std::function<void(int)>& work;
        int seats;
        int next_seat = 1;
        int inside = 0;  // helpers; the job lives as long as there is one
        std::atomic<bool> failed = false;
        std::exception_ptr failure = nullptr;

        Job(const std::function<void(int)>& given, int count) : work(given), seats(count) {}

        void take(int seat) {
            try {
                work(seat);
            } catch (...) {
                if (!failed.exchange(true)) failure = std::current_exception();
            }
        }
    };

    void close(const Job& job) { open_.erase(std::remove(open_.begin(), open_.end(), &job), open_.end()); }

    // Up to `wanted` helpers in all; where the system has no thread left to give, fewer do.
    void hire(int wanted) {
        // Signals are for the threads that the program knows of.
        sigset_t all, before;
        sigfillset(&all);
        if (helpers_ >= wanted) return;
        pthread_sigmask(SIG_SETMASK, &all, &before);
        try {
            for (; helpers_ < wanted; ++helpers_) std::thread([this] { help(); }).detach();
        } catch (const std::system_error&) {
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    [[noreturn]] void help() {
        std::unique_lock lock(mutex_);
        while (true) {
            there_is_work_.wait(lock, [&] { return !open_.empty(); });
            Job& job = *open_.front();
            const int seat = job.next_seat++;
            if (job.next_seat == job.seats) close(job);
            ++job.inside;
            lock.unlock();
            job.take(seat);
            lock.lock();
            if (--job.inside == 0) someone_left_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable there_is_work_, someone_left_;
    std::vector<Job*> open_;  // with a seat left
    int helpers_ = 0;
};

std::atomic<WorkQueue*> work_queue_of_process = nullptr;

WorkQueue& work_queue() {
    // A child of a fork has none of its parent's threads, and must not ask for its locks either.
    [[maybe_unused]] static const int registered =
        pthread_atfork(nullptr, nullptr, [] { work_queue_of_process.store(nullptr); });
    WorkQueue* found = work_queue_of_process.load();
    if (found == nullptr) {
        auto* const made = new WorkQueue;  // never deleted: its helpers sleep in it until the process ends
        if (work_queue_of_process.compare_exchange_strong(found, made)) return *made;
        delete made;
    }
    return *found;
}

}  // namespace

void share_work(int seats, const std::function<void(int)>& work) {
    if (seats <= 1) {
        work(0);
        return;
    }
    work_queue().share(seats, work);
}

}  // namespace mtaw
