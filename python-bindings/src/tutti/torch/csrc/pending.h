// The works of a group that are under way: the user may have dropped them, while tutti uses their tensors.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <c10/util/intrusive_ptr.h>

namespace tutti_torch {

class Work;

// Any thread.  A work takes itself off when it is complete.
class Pending {
  public:
    // Returns the number under which it is kept, from 1.
    uint64_t add(c10::intrusive_ptr<Work> work);
    void remove(uint64_t number);

    // Looks whether the oldest collective is complete, behind which all others are, and at one of the
    // messages, each in its turn.
    void look();

    std::vector<c10::intrusive_ptr<Work>> all();
    std::vector<c10::intrusive_ptr<Work>> collectives();

  private:
    using Works = std::map<uint64_t, c10::intrusive_ptr<Work>>;

    std::mutex mutex_;
    uint64_t latest_ = 0, looked_at_ = 0;
    Works collectives_, messages_;
};

} // namespace tutti_torch
