#include "pending.h"

#include "work.h"

namespace tutti_torch {

uint64_t Pending::add(c10::intrusive_ptr<Work> work)
{
    std::lock_guard<std::mutex> lock(mutex_);
    Works &works = work->is_message() ? messages_ : collectives_;
    works.emplace_hint(works.end(), ++latest_, std::move(work));
    return latest_;
}

void Pending::remove(uint64_t number)
{
    Works::node_type removed; // goes without the lock, since its tensors do
    std::lock_guard<std::mutex> lock(mutex_);
    removed = collectives_.extract(number);
    if (!removed) {
        removed = messages_.extract(number);
    }
}

// What becomes complete may call anything, so looks are taken without the lock.
void Pending::look()
{
    c10::intrusive_ptr<Work> collective, message;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!collectives_.empty()) {
            collective = collectives_.begin()->second;
        }
        if (!messages_.empty()) {
            auto next = messages_.upper_bound(looked_at_);
            next = next == messages_.end() ? messages_.begin() : next;
            looked_at_ = next->first;
            message = next->second;
        }
    }
    for (auto &work : {collective, message}) {
        if (work && !work->is_watched()) {
            work->isCompleted();
        }
    }
}

std::vector<c10::intrusive_ptr<Work>> Pending::collectives()
{
    std::vector<c10::intrusive_ptr<Work>> result;
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto &entry : collectives_) {
        result.push_back(entry.second);
    }
    return result;
}

std::vector<c10::intrusive_ptr<Work>> Pending::all()
{
    auto result = collectives();
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto &entry : messages_) {
        result.push_back(entry.second);
    }
    return result;
}

} // namespace tutti_torch
