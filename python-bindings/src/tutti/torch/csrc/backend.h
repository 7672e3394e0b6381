// torch's interface of a communication backend, over a tutti communicator.
#pragma once

#include <list>
#include <mutex>

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "job_builder.h"
#include "work.h"

namespace tutti_torch {

// Threads: collectives must be issued in the same order on every rank, so from one thread at a time; sends
// and receives by any.  A collective that torch calls synchronously is carried out by its caller before the
// method returns; others go on by themselves (work.h).
//
// Errors: what is wrong with the arguments is a ValueError of the method, and the group lives on; the end of
// the group is a DistBackendError of the method or of Work::wait().
class Backend final : public c10d::Backend {
  public:
    Backend(std::shared_ptr<Communicator> communicator, int rank, int size, milliseconds timeout);
    ~Backend() override;

    const std::shared_ptr<Communicator> &communicator() const
    {
        return communicator_;
    }

    const std::string getBackendName() const override
    {
        return "tutti";
    }
    c10::intrusive_ptr<c10d::Backend::Options> getBackendOptions() override;

    c10::intrusive_ptr<c10d::Work> broadcast(Tensors &tensors,
                                             const c10d::BroadcastOptions &options) override;
    c10::intrusive_ptr<c10d::Work> allreduce(Tensors &tensors,
                                             const c10d::AllreduceOptions &options) override;
    c10::intrusive_ptr<c10d::Work> allreduce_sparse(Tensors &tensors,
                                                    const c10d::AllreduceOptions &options) override;
    c10::intrusive_ptr<c10d::Work>
    allreduce_coalesced(Tensors &tensors, const c10d::AllreduceCoalescedOptions &options) override;
    c10::intrusive_ptr<c10d::Work> reduce(Tensors &tensors, const c10d::ReduceOptions &options) override;
    c10::intrusive_ptr<c10d::Work> allgather(std::vector<Tensors> &outputs, Tensors &inputs,
                                             const c10d::AllgatherOptions &options) override;
    c10::intrusive_ptr<c10d::Work> _allgather_base(at::Tensor &output, at::Tensor &input,
                                                   const c10d::AllgatherOptions &options) override;
    c10::intrusive_ptr<c10d::Work> allgather_coalesced(std::vector<Tensors> &outputs, Tensors &inputs,
                                                       const c10d::AllgatherOptions &options) override;
    c10::intrusive_ptr<c10d::Work>
    allgather_into_tensor_coalesced(Tensors &outputs, Tensors &inputs,
                                    const c10d::AllgatherOptions &options) override;
    c10::intrusive_ptr<c10d::Work> gather(std::vector<Tensors> &outputs, Tensors &inputs,
                                          const c10d::GatherOptions &options) override;
    c10::intrusive_ptr<c10d::Work> scatter(Tensors &outputs, std::vector<Tensors> &inputs,
                                           const c10d::ScatterOptions &options) override;
    c10::intrusive_ptr<c10d::Work> reduce_scatter(Tensors &outputs, std::vector<Tensors> &inputs,
                                                  const c10d::ReduceScatterOptions &options) override;
    c10::intrusive_ptr<c10d::Work> _reduce_scatter_base(at::Tensor &output, at::Tensor &input,
                                                        const c10d::ReduceScatterOptions &options) override;
    c10::intrusive_ptr<c10d::Work>
    reduce_scatter_tensor_coalesced(Tensors &outputs, Tensors &inputs,
                                    const c10d::ReduceScatterOptions &options) override;
    c10::intrusive_ptr<c10d::Work> alltoall_base(at::Tensor &output, at::Tensor &input,
                                                 std::vector<int64_t> &output_rows,
                                                 std::vector<int64_t> &input_rows,
                                                 const c10d::AllToAllOptions &options) override;
    c10::intrusive_ptr<c10d::Work> alltoall(Tensors &outputs, Tensors &inputs,
                                            const c10d::AllToAllOptions &options) override;
    c10::intrusive_ptr<c10d::Work> send(Tensors &tensors, int to, int tag) override;
    c10::intrusive_ptr<c10d::Work> recv(Tensors &tensors, int from, int tag) override;
    c10::intrusive_ptr<c10d::Work> recvAnysource(Tensors &tensors, int tag) override;
    c10::intrusive_ptr<c10d::Work> barrier(const c10d::BarrierOptions &options) override;
    // A rank that does not come in time ends the group, and the error names it, and all others that are
    // missing.
    void monitoredBarrier(const c10d::BarrierOptions &options, bool wait_all_ranks) override;

    void setTimeout(milliseconds timeout) override;
    void setSequenceNumberForGroup() override {} // tutti numbers its calls by itself
    uint64_t getSequenceNumberForGroup() override;

    void abort() override;
    // Of the group that was joined: collective, waits for what is under way and says goodbye, within the
    // group's time-out.  Of others: waits for this rank's collectives.
    void shutdown() override;
    void waitForPendingWorks() override;

    // Memory that the other ranks of this host can read where it is; zeros.
    at::Tensor empty(at::IntArrayRef sizes, const at::TensorOptions &options);
    at::Tensor allocateTensor(long size, at::TensorOptions options) override;
    bool supportsTensorAlloc(c10::DeviceIndex device) override;

  private:
    milliseconds timeout_or(milliseconds timeout) const;
    c10::intrusive_ptr<c10d::Work> issue(JobBuilder builder, const Tensors &inputs, bool blocking);
    c10::intrusive_ptr<c10d::Work> receive(Tensors &tensors, int from, int tag, const char *title,
                                           c10d::OpType type);
    const std::shared_ptr<Communicator> communicator_;
    std::atomic<milliseconds> timeout_;
    std::atomic<uint64_t> sequence_{0};
    std::atomic<bool> left_{false};
    const std::shared_ptr<Pending> pending_ = std::make_shared<Pending>();
    std::shared_ptr<Watcher> collectives_watcher_, messages_watcher_;
};

} // namespace tutti_torch
