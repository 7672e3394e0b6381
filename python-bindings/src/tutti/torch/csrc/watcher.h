// Completes works whose futures somebody holds.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>

#include <c10/util/intrusive_ptr.h>

namespace tutti_torch {

class Work;

// A thread, started when it is first needed, waits for the oldest work and every so often looks at the
// others: where works complete in order, that is no more than needed.  A future's callback may itself wait
// for another future: so while all threads are in callbacks there is one more.
//
// Any thread, one of its own included.
class Watcher {
  public:
    explicit Watcher(std::chrono::milliseconds look_every);
    ~Watcher(); // returns when all are complete and their callbacks done, but on a thread of its own at once

    void watch(c10::intrusive_ptr<Work> work);

    // Around the callbacks of a work, on whatever thread.
    class Callbacks {
      public:
        Callbacks();
        ~Callbacks();
        Callbacks(const Callbacks &) = delete;
        Callbacks &operator=(const Callbacks &) = delete;
    };

  private:
    struct State;
    static void run(std::shared_ptr<State> state);
    static void start_thread_if_needed(const std::shared_ptr<State> &state);
    static void drive(State &state, std::unique_lock<std::mutex> &lock);

    static thread_local State *own_state; // of the watcher whose thread this is
    const std::shared_ptr<State> state_;
};

} // namespace tutti_torch
