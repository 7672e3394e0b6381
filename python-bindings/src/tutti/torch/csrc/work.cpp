#include "work.h"

#include "interpreter.h"

#include <algorithm>

#include <ATen/core/jit_type.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

namespace tutti_torch {

void (*check_signals)() = nullptr;
void (*run_unlocked)(const std::function<void()> &function) = nullptr;

namespace {

using Clock = std::chrono::steady_clock;

// How long a thread waits in tutti before it looks whether Ctrl-C has been pressed.
constexpr milliseconds kSlice{100};
constexpr milliseconds kForever{-1};
constexpr milliseconds kLongest{std::chrono::hours(10 * 365 * 24)}; // what can be added to the time of day

const char *name_of(const char *title)
{
    return title + sizeof "tutti:" - 1;
}

} // namespace

// ---- Work -------------------------------------------------------------------------------------------------

Work::Work(std::shared_ptr<Communicator> communicator, std::weak_ptr<Watcher> watcher, int rank, Job job,
           const std::vector<at::Tensor> &inputs, uint64_t sequence)
    : c10d::Work(rank, job.type, job.title, inputs), communicator_(std::move(communicator)),
      watcher_(std::move(watcher)), sequence_(sequence), title_(job.title), job_(std::move(job)),
      outputs_(std::move(job_.outputs))
{
}

Work::~Work()
{
    if (request_) { // nobody may write to tensors that go now
        communicator_->abort("an operation was dropped while it was under way");
        while (functions->wait(&request_, -1) == TUTTI_PENDING) {
        }
    }
}

void Work::keep_in(const std::shared_ptr<Pending> &pending)
{
    std::lock_guard<std::mutex> lock(state_mutex_);
    pending_ = pending;
    pending_number_ = pending->add(c10::intrusive_ptr<Work>::unsafe_reclaim_from_nonowning(this));
}

bool Work::is_message() const
{
    return opType_ == c10d::OpType::SEND || opType_ == c10d::OpType::RECV ||
           opType_ == c10d::OpType::RECVANYSOURCE;
}

void Work::start(bool blocking)
{
    for (tutti_call &call : job_.calls) {
        if (call.op == TUTTI_RECV) {
            call.received = &received_;
        }
    }
    std::unique_lock<std::mutex> lock(state_mutex_);
    const tutti_call *calls = job_.calls.data();
    int status = job_.calls.empty() ? TUTTI_OK
                 : blocking         ? functions->run(communicator_->handle(), calls, job_.calls.size(),
                                                     kSlice.count(), &request_)
                            : functions->start(communicator_->handle(), calls, job_.calls.size(), &request_);
    if (request_) {
        lock.unlock();
        if (blocking) {
            wait(kNoTimeout);
        }
        return;
    }
    // Complete at once, or never begun.
    driven_ = true;
    complete(lock, status);
    if (status < 0) {
        std::rethrow_exception(exception());
    }
}

// With `driven_`, which keeps others away while the lock is open.
void Work::complete(std::unique_lock<std::mutex> &lock, int status)
{
    lock.unlock();
    std::exception_ptr failure = status < 0 ? communicator_->exception_of(status) : nullptr;
    if (!failure && !job_.copies.empty()) {
        try {
            c10::InferenceMode guard; // whatever mode the tensors were made in; no trace for autograd
            for (auto &[target, source] : job_.copies) {
                target.copy_(source);
            }
        } catch (...) {
            failure = std::current_exception();
        }
    }
    job_ = Job{};
    finish(failure);
    lock.lock();
    done_ = true;
    driven_ = false;
    auto future = future_, result = future_result_;
    auto number = std::exchange(pending_number_, 0);
    lock.unlock();
    changed_.notify_all();
    if (number) {
        pending_->remove(number);
    }
    if (future || result) { // what these call may do anything, wait for another work among it
        Watcher::Callbacks callbacks;
        for (auto &entry : {future, result}) {
            if (entry) {
                resolve(*entry);
            }
        }
    }
    lock.lock();
}

bool Work::drive(milliseconds timeout, bool interruptible)
{
    // Completing it may drop the last reference but this.
    auto self = c10::intrusive_ptr<Work>::unsafe_reclaim_from_nonowning(this);
    const auto deadline =
        timeout < milliseconds(0) ? Clock::time_point::max() : Clock::now() + std::min(timeout, kLongest);
    std::unique_lock<std::mutex> lock(state_mutex_);
    while (!done_) {
        auto left = deadline == Clock::time_point::max()
                        ? kSlice
                        : std::max(milliseconds(0), std::chrono::ceil<milliseconds>(deadline - Clock::now()));
        auto slice = std::min(kSlice, left);
        if (driven_) {
            changed_.wait_for(lock, slice);
        } else if (request_) {
            driven_ = true;
            lock.unlock();
            int status = functions->wait(&request_, static_cast<int>(slice.count()));
            lock.lock();
            if (status != TUTTI_PENDING) {
                complete(lock, status);
                break;
            }
            driven_ = false;
            changed_.notify_one();
        }
        if (!done_ && left == slice && timeout >= milliseconds(0)) {
            return false;
        }
        if (!done_ && interruptible) {
            lock.unlock();
            check_signals();
            lock.lock();
        }
    }
    return true;
}

bool Work::is_done()
{
    std::lock_guard<std::mutex> lock(state_mutex_);
    return done_;
}

bool Work::is_watched()
{
    std::lock_guard<std::mutex> lock(state_mutex_);
    return future_ || future_result_;
}

bool Work::isCompleted()
{
    return drive(milliseconds(0));
}

bool Work::wait(milliseconds timeout)
{
    bool is_bounded = timeout > kNoTimeout;
    TORCH_CHECK_WITH(DistError, drive(is_bounded ? timeout : kForever), "tutti: ", name_of(title_),
                     " is not complete after ", timeout.count(),
                     " ms; it goes on, and can be waited for again");
    if (std::exception_ptr failure = exception()) {
        std::rethrow_exception(failure);
    }
    return true;
}

void Work::synchronize()
{
    wait(kNoTimeout);
}

void Work::abort()
{
    communicator_->abort(std::string(name_of(title_)) + ": Work.abort() was called");
}

std::vector<at::Tensor> Work::result()
{
    return outputs_;
}

int Work::sourceRank() const
{
    return received_.source;
}

uint64_t Work::getSequencenumber() const
{
    return sequence_;
}

// ---- Futures ----------------------------------------------------------------------------------------------

void Work::resolve(c10::ivalue::Future &future)
{
    std::exception_ptr failure = exception();
    if (future.elementType()->kind() == c10::TypeKind::IntType) {
        auto result = failure ? c10d::WorkResult::COMM_ERROR : c10d::WorkResult::SUCCESS;
        future.markCompleted(static_cast<int64_t>(result));
    } else if (failure) {
        future.setError(failure);
    } else {
        future.markCompleted(outputs_);
    }
}

c10::intrusive_ptr<c10::ivalue::Future> Work::future_of(c10::intrusive_ptr<c10::ivalue::Future> &future,
                                                        const c10::TypePtr &type)
{
    std::unique_lock<std::mutex> lock(state_mutex_);
    if (future) {
        return future;
    }
    future = c10::make_intrusive<c10::ivalue::Future>(type);
    bool is_done = done_;
    lock.unlock();
    if (is_done) {
        resolve(*future);
    } else if (auto watcher = watcher_.lock()) {
        watcher->watch(c10::intrusive_ptr<Work>::unsafe_reclaim_from_nonowning(this));
    }
    return future;
}

c10::intrusive_ptr<c10::ivalue::Future> Work::getFuture()
{
    return future_of(future_, c10::ListType::create(c10::TensorType::get()));
}

c10::intrusive_ptr<c10::ivalue::Future> Work::getFutureResult()
{
    return future_of(future_result_, c10::IntType::get());
}

} // namespace tutti_torch
