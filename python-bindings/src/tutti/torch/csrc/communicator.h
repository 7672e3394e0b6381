// A tutti communicator as the torch backend holds it: joined through torch's store or split from another, and
// freed when nothing uses it any more.
#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "functions.h"

namespace tutti_torch {

// Set once, when the module is loaded.
extern const tutti_functions *functions;

using std::chrono::milliseconds;

// As tutti counts time: at least 1, and what does not fit is the longest there is.
int to_timeout_ms(milliseconds timeout);

class Communicator {
  public:
    // Joins the group whose members share `store`.  Blocks until all are there or `timeout` has passed.  The
    // ranks may do so again and again with the same store.
    // Throws DistBackendError with tutti's sentence, or what the store throws.
    static std::shared_ptr<Communicator> join(const c10::intrusive_ptr<c10d::Store> &store, int rank,
                                              int size, milliseconds timeout);

    // The group of those ranks of `root`, which all of them and nobody else make.
    static std::shared_ptr<Communicator> subgroup(std::shared_ptr<Communicator> root,
                                                  const std::vector<int> &ranks);

    ~Communicator();
    Communicator(const Communicator &) = delete;
    Communicator &operator=(const Communicator &) = delete;

    tutti_comm *handle() const
    {
        return handle_;
    }

    // Says goodbye once all ranks come here, within `timeout`; the second time does nothing.  False where
    // that failed: the group is then at its end, too.
    bool finalize(milliseconds timeout);

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
    bool finalized_ = false;
};

} // namespace tutti_torch
