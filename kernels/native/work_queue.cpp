#include "work_queue.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace mtaw {
namespace {

class WorkQueue {
   public:
    void run(int workers, const std::function<void(int)>& work) {
        Job job{work, workers};
        {
            const std::lock_guard lock(mutex_);
            start_helpers(workers - 1);
            open_jobs_.push_back(&job);
        }
        job_added_.notify_all();
        job.run(0);
        std::unique_lock lock(mutex_);
        close(job);
        job_left_.wait(lock, [&] { return job.active_helpers == 0; });
        if (job.failure) std::rethrow_exception(job.failure);
    }

   private:
    struct Job {
        const std::function<void(int)>& work;
        int workers;
        int next_worker = 1;
        int active_helpers = 0;  // the job must outlive them
        std::atomic<bool> failed = false;
        std::exception_ptr failure = nullptr;

        Job(const std::function<void(int)>& job_work, int count) : work(job_work), workers(count) {}

        void run(int worker) {
            try {
                work(worker);
            } catch (...) {
                if (!failed.exchange(true)) failure = std::current_exception();
            }
        }
    };

    void close(const Job& job) {
        open_jobs_.erase(std::remove(open_jobs_.begin(), open_jobs_.end(), &job), open_jobs_.end());
    }

    // Starts helpers until there are `n_helpers`; fewer, if the system has no more threads, or no memory for them.
    void start_helpers(int n_helpers) {
        // Signals are for the program's own threads.
        sigset_t all, before;
        sigfillset(&all);
        if (helpers_ >= n_helpers) return;
        pthread_sigmask(SIG_SETMASK, &all, &before);
        try {
            for (; helpers_ < n_helpers; ++helpers_) std::thread([this] { help(); }).detach();
        } catch (const std::exception&) {}
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    [[noreturn]] void help() {
        std::unique_lock lock(mutex_);
        while (true) {
            job_added_.wait(lock, [&] { return !open_jobs_.empty(); });
            Job& job = *open_jobs_.front();
            const int worker = job.next_worker++;
            if (job.next_worker == job.workers) close(job);
            ++job.active_helpers;
            lock.unlock();
            job.run(worker);
            lock.lock();
            if (--job.active_helpers == 0) job_left_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable job_added_, job_left_;
    std::vector<Job*> open_jobs_;  // that can take another helper
    int helpers_ = 0;
};

std::atomic<WorkQueue*> work_queue_of_process = nullptr;

WorkQueue& work_queue() {
    // A child of a fork has none of its parent's threads, and its locks may be taken forever.
    [[maybe_unused]] static const int registered =
        pthread_atfork(nullptr, nullptr, [] { work_queue_of_process.store(nullptr); });
    WorkQueue* found = work_queue_of_process.load();
    if (found == nullptr) {
        auto* const created = new WorkQueue;  // never deleted: its helpers sleep in it until the process ends
        if (work_queue_of_process.compare_exchange_strong(found, created)) return *created;
        delete created;
    }
    return *found;
}

}  // namespace

void share_work(int workers, const std::function<void(int)>& work) {
    if (workers <= 1) {
        work(0);
        return;
    }
    work_queue().run(workers, work);
}

}  // namespace mtaw
