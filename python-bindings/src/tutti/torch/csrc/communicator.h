// A tutti communicator as the torch backend holds it: joined through torch's store or split from another, and
// freed when nothing uses it any more.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "functions.h"

namespace tutti_torch {

// Set once, when the module is loaded.
extern const tutti_functions *functions;

using std::chrono::milliseconds;

// As tutti counts time: at least 1, and what does not fit is the longest there is.
int to_timeout_ms(milliseconds timeout);

class Communicator : public std::enable_shared_from_this<Communicator> {
  public:
    // Joins the group whose members share `store`.  Blocks until all are there or `timeout` has passed.  The
    // ranks may do so again and again with the same store.
    // Throws DistBackendError with tutti's sentence, or what the store throws.
    static std::shared_ptr<Communicator> join(const c10::intrusive_ptr<c10d::Store> &store, int rank,
                                              int size, milliseconds timeout);

    // The group of those ranks of `root`, which all of them and nobody else make; when they have not within
    // `timeout`, `root` ends.
    static std::shared_ptr<Communicator> subgroup(std::shared_ptr<Communicator> root,
                                                  const std::vector<int> &ranks, milliseconds timeout);

    ~Communicator();
    Communicator(const Communicator &) = delete;
    Communicator &operator=(const Communicator &) = delete;

    tutti_comm *handle() const
    {
        return handle_;
    }

    // The end of this rank's part; the second time does nothing.  Of a group that was joined: says goodbye
    // once all ranks come here, or ends it for all after `timeout`; Ctrl-C does so, too.  Of one that was
    // split from it: returns at once, for others may come late or never, and what they must do together is
    // left to a thread, which ends with the group that was joined at the latest.
    void leave(milliseconds timeout);
    bool is_split() const
    {
        return root_ != nullptr;
    }

    // Ends the group on every rank, for this reason.  Any thread.
    void abort(const std::string &reason);

    // What a status of tutti's other than success becomes in torch: ValueError for a wrong argument,
    // DistBackendError for the end of the group, with tutti's sentence about it.  Any thread.
    std::exception_ptr exception_of(int status) const;

  private:
    Communicator(tutti_comm *handle, std::shared_ptr<Communicator> root)
        : handle_(handle), root_(std::move(root))
    {
    }

    tutti_comm *const handle_;
    const std::shared_ptr<Communicator> root_; // outlives what was split from it
    std::atomic<bool> left_{false};

    // Threads that finalize what was split from this one.
    struct Leaver {
        std::thread thread;
        std::shared_ptr<std::atomic<bool>> is_done;
    };
    void await(std::future<int> &done, milliseconds timeout, const std::string &what);
    void let_leave(std::shared_ptr<Communicator> child);
    void join_leavers(bool all);
    std::mutex leavers_mutex_;
    std::list<Leaver> leavers_;
};

} // namespace tutti_torch
