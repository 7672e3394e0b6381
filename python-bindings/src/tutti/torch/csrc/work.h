// One operation that is under way, as torch holds it.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <torch/csrc/distributed/c10d/Work.hpp>

#include "communicator.h"

namespace tutti_torch {

class Watcher;

// What an operation is made of: one call of tutti's, or several that are fused.
struct Job {
    const char *title; // a literal, "tutti:all_reduce": its name to a profiler
    c10d::OpType type;
    std::vector<tutti_call> calls;
    std::vector<at::Tensor> outputs; // result()
    std::vector<at::Tensor> keep;    // what the calls read and write, and what must live as long
    std::vector<std::pair<at::Tensor, at::Tensor>> copies; // when it is complete: first = second
    std::vector<std::vector<size_t>> counts;               // of calls whose parts differ in length
};

// Nobody moves it but whoever waits: the thread in wait(), the watcher of a future, or, while there is
// neither, tutti's own loop.
//
// Threads: all methods may be called by any thread at any time.
class Work final : public c10d::Work {
  public:
    // `watcher` is told when a future is asked for; it outlives the work, or there is nobody left to ask.
    Work(std::shared_ptr<Communicator> communicator, std::weak_ptr<Watcher> watcher, int rank, Job job,
         const std::vector<at::Tensor> &inputs, uint64_t sequence);

    // Once.  Blocking: returns when it is complete; false: it may go on after this.  What is wrong with the
    // arguments is thrown; what fails later is kept for wait().
    void start(bool blocking);

    bool isCompleted() override; // looks
    bool wait(
        milliseconds timeout) override; // 0: as long as it takes; else throws when it is not complete by then
    void synchronize() override;
    void abort() override;
    std::vector<at::Tensor> result() override;
    c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;       // of the list of outputs
    c10::intrusive_ptr<c10::ivalue::Future> getFutureResult() override; // of an int, a c10d::WorkResult
    int sourceRank() const override;
    uint64_t getSequencenumber() const override;

    // Has somebody asked for a future?  Then the watcher keeps it, and completes it.
    bool is_watched();

    // Moves it until it is complete or `timeout` has passed (0: looks once; less: as long as it takes).  Says
    // whether it is complete.
    bool drive(milliseconds timeout);

  private:
    void complete(std::unique_lock<std::mutex> &lock, int status);
    c10::intrusive_ptr<c10::ivalue::Future> future_of(c10::intrusive_ptr<c10::ivalue::Future> &future,
                                                      const c10::TypePtr &type);
    void resolve(c10::ivalue::Future &future);

    const std::shared_ptr<Communicator> communicator_;
    const std::weak_ptr<Watcher> watcher_;
    const uint64_t sequence_;
    const char *const title_;
    Job job_;
    std::vector<at::Tensor> outputs_;
    tutti_received received_{-1, -1, 0};

    std::mutex state_mutex_; // guards what follows
    std::condition_variable changed_;
    tutti_request *request_ = nullptr;
    bool driven_ = false; // a thread is in tutti_wait(), which only one may be
    bool done_ = false;
    c10::intrusive_ptr<c10::ivalue::Future> future_, future_result_;
};

// Completes works whose futures somebody holds: a thread, started when it is first needed.  It waits for the
// oldest, and every so often looks at the others: where works complete in order, that is no more than needed.
class Watcher {
  public:
    explicit Watcher(milliseconds look_every) : look_every_(look_every) {}
    ~Watcher(); // returns when all are complete

    void watch(c10::intrusive_ptr<Work> work);

    // Lets go of it on any thread, its own included.
    static void retire(std::shared_ptr<Watcher> watcher);

  private:
    void run();
    void move_all(std::vector<c10::intrusive_ptr<Work>> &works);

    const milliseconds look_every_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<c10::intrusive_ptr<Work>> fresh_;
    bool closes_ = false;
    std::thread thread_;
};

// Runs Python's signal handlers where the calling thread is the one that may; throws what they raise.  Set by
// the module.
extern void (*check_signals)();

// Calls that function without Python's lock, whether the calling thread has it or not: where a thread is
// waited for that may want it.  Set by the module.
extern void (*run_unlocked)(const std::function<void()> &function);

} // namespace tutti_torch
