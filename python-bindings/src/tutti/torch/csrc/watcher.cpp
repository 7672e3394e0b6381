#include "watcher.h"

#include <algorithm>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <thread>
#include <vector>

#include "work.h"

namespace tutti_torch {

struct Watcher::State : std::enable_shared_from_this<Watcher::State> {
    explicit State(milliseconds every) : look_every(every) {}

    const milliseconds look_every;
    std::mutex mutex; // guards what follows
    std::condition_variable changed;
    std::vector<c10::intrusive_ptr<Work>> works; // those that no thread has taken
    int threads = 0, in_callbacks = 0;
    bool has_driver = false; // one of them waits for works, but for those in callbacks
    bool closes = false;
};

namespace {

constexpr milliseconds kCallbackMs{10};
thread_local bool drives = false; // this thread, and no other of its watcher

} // namespace

thread_local Watcher::State *Watcher::own_state = nullptr;

Watcher::Watcher(milliseconds look_every) : state_(std::make_shared<State>(look_every)) {}

Watcher::~Watcher()
{
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->closes = true;
    state_->changed.notify_all();
    if (own_state != state_.get()) { // a thread cannot wait for its own end
        state_->changed.wait(lock, [this] { return state_->threads == 0; });
    }
}

void Watcher::watch(c10::intrusive_ptr<Work> work)
{
    {
        std::lock_guard<std::mutex> lock(state_->mutex);
        state_->works.push_back(std::move(work));
        start_thread_if_needed(state_);
    }
    state_->changed.notify_all();
}

// With the lock.
void Watcher::start_thread_if_needed(const std::shared_ptr<State> &state)
{
    if (!state->works.empty() && state->threads == state->in_callbacks) {
        state->threads++;
        std::thread(run, state).detach(); // ~Watcher() counts them
    }
}

Watcher::Callbacks::Callbacks()
{
    if (State *state = own_state) {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->in_callbacks++;
        if (drives) {
            state->has_driver = drives = false;
        }
        start_thread_if_needed(state->shared_from_this());
        state->changed.notify_all();
    }
}

Watcher::Callbacks::~Callbacks()
{
    if (State *state = own_state) {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->in_callbacks--;
        state->changed.notify_all();
    }
}

// Drives the oldest work for a while, and looks at the others.  With the lock, which is open meanwhile.
void Watcher::drive(State &state, std::unique_lock<std::mutex> &lock)
{
    auto oldest = state.works.front();
    lock.unlock();
    if (!oldest->drive(state.look_every, false)) {
        lock.lock();
        auto others = state.works;
        lock.unlock();
        for (auto &work : others) {
            if (work != oldest) {
                work->isCompleted();
            }
        }
    }
    lock.lock();
    auto &works = state.works;
    auto done =
        std::stable_partition(works.begin(), works.end(), [](auto &work) { return !work->is_done(); });
    std::vector<c10::intrusive_ptr<Work>> ended(std::make_move_iterator(done),
                                                std::make_move_iterator(works.end()));
    works.erase(done, works.end());
    // Tensors that go may take Python's lock, which somebody may hold who waits for this one.
    lock.unlock();
    ended.clear();
    oldest.reset();
    lock.lock();
}

void Watcher::run(std::shared_ptr<State> state)
{
    own_state = state.get();
    std::unique_lock<std::mutex> lock(state->mutex);
    while (!state->closes || !state->works.empty()) {
        if (state->works.empty() || state->has_driver) {
            state->changed.wait(lock);
            continue;
        }
        // Callbacks come in the order of their works, unless one waits for something itself.
        state->changed.wait_for(lock, kCallbackMs, [&state] { return state->in_callbacks == 0; });
        if (state->works.empty() || state->has_driver) {
            continue;
        }
        state->has_driver = drives = true;
        drive(*state, lock);
        state->has_driver = state->has_driver && !drives;
        drives = false;
        state->changed.notify_all();
    }
    state->threads--;
    state->changed.notify_all();
}

} // namespace tutti_torch
