// One operation that is under way, as torch holds it.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <torch/csrc/distributed/c10d/Work.hpp>

#include "communicator.h"
#include "pending.h"
#include "watcher.h"

namespace tutti_torch {

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
    ~Work() override;

    // Once.  Blocking: returns when it is complete; false: it may go on after this.  What is wrong with the
    // arguments is thrown; what fails later is kept for wait().
    void start(bool blocking);

    // Keeps it alive until it is complete, whatever the user does.
    void keep_in(const std::shared_ptr<Pending> &pending);

    bool isCompleted() override; // looks
    // 0: as long as it takes; else throws when it is not complete by then.
    bool wait(milliseconds timeout) override;
    void synchronize() override;
    void abort() override;
    std::vector<at::Tensor> result() override;
    c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;       // of the list of outputs
    c10::intrusive_ptr<c10::ivalue::Future> getFutureResult() override; // of an int, a c10d::WorkResult
    int sourceRank() const override;
    uint64_t getSequencenumber() const override;

    bool is_message() const;
    bool is_done();    // knows; does not look
    bool is_watched(); // has somebody asked for a future?  Then the watcher completes it

    // Moves it until it is complete or `timeout` has passed (0: looks once; less: as long as it takes).  Says
    // whether it is complete.  `interruptible`: throws what a signal handler of Python's raises meanwhile.
    bool drive(milliseconds timeout, bool interruptible = true);

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
    std::shared_ptr<Pending> pending_;
    uint64_t pending_number_ = 0; // 0: it is not kept there
    c10::intrusive_ptr<c10::ivalue::Future> future_, future_result_;
};

} // namespace tutti_torch
