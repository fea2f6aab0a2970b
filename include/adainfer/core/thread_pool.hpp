#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace adainfer::inline v0 {

/// A fixed team of threads for short data-parallel loops.
///
/// `parallel_for(n, f)` splits [0, n) into one contiguous range a thread and calls f(begin, end) on each, the
/// caller's thread included. The split depends on n and the number of threads only. Many threads may call it at
/// once: whoever finds the team busy runs its own loop alone, so nobody waits and nesting cannot deadlock.
/// Idle workers look out for some hundred microseconds, because the next loop of a forward pass is near, then sleep.
class ThreadPool {
  public:
    /// Throws std::system_error where the system has no more threads, and std::bad_alloc; then none is left running.
    explicit ThreadPool(std::size_t threads) : threads_((std::max)(threads, std::size_t{1})) {
        workers_.reserve(threads_ - 1);
        try {
            for (std::size_t i = 1; i < threads_; ++i) workers_.emplace_back([this, i] { work(i); });
        } catch (...) {
            stop();
            throw;
        }
    }

    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    ~ThreadPool() { stop(); }

    [[nodiscard]] std::size_t threads() const noexcept { return threads_; }

    /// Calls f(begin, end) for disjoint ranges that cover [0, n); returns when all are done. Rethrows the first
    /// exception of any range. Range bounds are multiples of `grain`, except n itself.
    template <class F>
    void parallel_for(std::size_t n, std::size_t grain, F&& f) {
        if (n == 0) return;
        if (threads_ == 1 || n <= grain || busy_.exchange(true, std::memory_order_acquire)) {
            f(std::size_t{0}, n);
            return;
        }
        using Function = std::remove_reference_t<F>;
        job_ = {[](void* context, std::size_t begin, std::size_t end) {
                    (*static_cast<Function*>(context))(begin, end);
                },
                const_cast<void*>(static_cast<const void*>(std::addressof(f))), n, (std::max)(grain, std::size_t{1})};
        error_ = nullptr;
        failed_.store(false, std::memory_order_relaxed);
        pending_.store(threads_ - 1, std::memory_order_relaxed);
        generation_.fetch_add(1, std::memory_order_release);
        generation_.notify_all();
        run_range(0);
        for (std::size_t spins = 0; pending_.load(std::memory_order_acquire) != 0;) {
            if (++spins > spin_limit) std::this_thread::yield();
        }
        const std::exception_ptr error = std::exchange(error_, nullptr);
        busy_.store(false, std::memory_order_release);
        if (error) std::rethrow_exception(error);
    }

  private:
    struct Job {
        void (*call)(void*, std::size_t, std::size_t) = nullptr;
        void* context = nullptr;
        std::size_t n = 0, grain = 1;
    };

    // Some ten microseconds; then whoever else wants the core may have it, again and again for as long as the code between two
    // loops takes; then to sleep, from where a worker comes back late.
    static constexpr std::size_t spin_limit = 20'000, yield_limit = spin_limit + 500;

    void stop() noexcept {
        stopping_.store(true, std::memory_order_relaxed);
        generation_.fetch_add(1, std::memory_order_release);
        generation_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    void run_range(std::size_t index) noexcept {
        const std::size_t blocks = (job_.n + job_.grain - 1) / job_.grain;
        const std::size_t begin = (std::min)(blocks * index / threads_ * job_.grain, job_.n);
        const std::size_t end = (std::min)(blocks * (index + 1) / threads_ * job_.grain, job_.n);
        if (begin == end) return;
        try {
            job_.call(job_.context, begin, end);
        } catch (...) {
            if (!failed_.exchange(true)) error_ = std::current_exception();
        }
    }

    void work(std::size_t index) noexcept {
        std::size_t seen = 0;
        for (;;) {
            for (std::size_t spins = 0; generation_.load(std::memory_order_acquire) == seen;) {
                if (++spins <= spin_limit) continue;
                if (spins <= yield_limit) std::this_thread::yield();
                else generation_.wait(seen, std::memory_order_acquire);
            }
            ++seen;
            if (stopping_.load(std::memory_order_relaxed)) return;
            run_range(index);
            pending_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::size_t threads_;
    Job job_;
    std::exception_ptr error_;
    std::atomic<bool> failed_{false}, busy_{false}, stopping_{false};
    std::atomic<std::size_t> generation_{0}, pending_{0};
    std::vector<std::thread> workers_;
};

}  // namespace adainfer::inline v0
