#include "backend.h"

#include "interpreter.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/sparse_coo_tensor.h>
#include <c10/util/Exception.h>

namespace tutti_torch {

using c10d::OpType;
using WorkPointer = c10::intrusive_ptr<c10d::Work>;

namespace {

// Collectives complete in the order of their issue; messages need not.
constexpr milliseconds kLookAtCollectives{1000}, kLookAtMessages{10};

// Older releases of torch do not say whether the caller waits.
template <typename Options> bool is_blocking(const Options &options)
{
    if constexpr (requires { options.asyncOp; }) {
        return !options.asyncOp;
    } else {
        return false;
    }
}

bool is_message(OpType type)
{
    return type == OpType::SEND || type == OpType::RECV || type == OpType::RECVANYSOURCE;
}

Tensors flattened(const std::vector<Tensors> &lists)
{
    Tensors result;
    for (const Tensors &list : lists) {
        result.insert(result.end(), list.begin(), list.end());
    }
    return result;
}

// An input that does not share memory with the output, for an operation that cannot be done in place.
at::Tensor apart_from(const at::Tensor &output, const at::Tensor &input)
{
    return input.is_alias_of(output) ? input.clone(at::MemoryFormat::Contiguous) : input;
}

void check_pairs(const char *name, size_t outputs, size_t inputs)
{
    TORCH_CHECK_VALUE(outputs == inputs, "tutti: ", name, ": ", inputs, " inputs and ", outputs,
                      " outputs: there must be one for each");
}

} // namespace

// ---- Life -------------------------------------------------------------------------------------------------

Backend::Backend(std::shared_ptr<Communicator> communicator, int rank, int size, milliseconds timeout)
    : c10d::Backend(rank, size), communicator_(std::move(communicator)), timeout_(timeout),
      collectives_watcher_(std::make_shared<Watcher>(kLookAtCollectives)),
      messages_watcher_(std::make_shared<Watcher>(kLookAtMessages))
{
    init();
}

Backend::~Backend()
{
    run_unlocked([this] {
        if (!left_ && communicator_->is_split()) {
            communicator_->leave(timeout_);
        } else if (!left_) {
            auto works = pending_->all();
            if (!works.empty()) {
                communicator_->abort("a process group was dropped while operations were under way");
            }
            for (auto &work : works) {
                work->drive(milliseconds(-1), false);
            }
        }
        collectives_watcher_.reset();
        messages_watcher_.reset();
    });
}

c10::intrusive_ptr<c10d::Backend::Options> Backend::getBackendOptions()
{
    return c10::make_intrusive<c10d::Backend::Options>("tutti", timeout_.load());
}

void Backend::setTimeout(milliseconds timeout)
{
    timeout_ = timeout;
}

uint64_t Backend::getSequenceNumberForGroup()
{
    return sequence_;
}

void Backend::abort()
{
    communicator_->abort("ProcessGroup.abort() was called");
}

void Backend::shutdown()
{
    if (left_.exchange(true)) {
        return;
    }
    run_unlocked([this] {
        if (communicator_->is_split()) { // messages may never be answered
            for (auto &work : pending_->collectives()) {
                work->drive(milliseconds(-1));
            }
            communicator_->leave(timeout_);
            return;
        }
        communicator_->leave(timeout_);
        for (auto &work : pending_->all()) {
            work->drive(milliseconds(-1));
        }
        // Callbacks must not outlive the interpreter.
        collectives_watcher_.reset();
        messages_watcher_.reset();
    });
}

void Backend::waitForPendingWorks()
{
    for (auto &work : pending_->all()) {
        work->wait(kNoTimeout);
    }
}

// ---- Issuing ----------------------------------------------------------------------------------------------

milliseconds Backend::timeout_or(milliseconds timeout) const
{
    return timeout == c10d::kUnsetTimeout ? timeout_.load() : timeout;
}

WorkPointer Backend::issue(JobBuilder builder, const Tensors &inputs, bool blocking)
{
    OpType type = builder.job.type;
    auto &watcher = is_message(type) ? messages_watcher_ : collectives_watcher_;
    auto work = c10::make_intrusive<Work>(communicator_, watcher, rank_, std::move(builder.job), inputs,
                                          is_message(type) ? sequence_.load() : ++sequence_);
    if (!blocking) {
        work->keep_in(pending_);
    }
    try {
        work->start(blocking);
    } catch (...) {
        if (!work->is_done() && blocking) { // Ctrl-C
            work->keep_in(pending_);
        }
        throw;
    }
    pending_->look();
    return work;
}

// ---- Reductions -------------------------------------------------------------------------------------------

WorkPointer Backend::allreduce(Tensors &tensors, const c10d::AllreduceOptions &options)
{
    if (tensors.size() == 1 && tensors.front().is_sparse()) {
        return allreduce_sparse(tensors, options);
    }
    check_one("all_reduce", tensors);
    JobBuilder builder("tutti:all_reduce", OpType::ALLREDUCE, timeout_or(options.timeout));
    const at::Tensor &tensor = tensors.front();
    auto &call = builder.reducing_call(TUTTI_ALL_REDUCE, tensor, tensor.numel(), options.reduceOp);
    call.send = call.recv = builder.in_place(tensor);
    builder.job.outputs = tensors;
    return issue(std::move(builder), tensors, is_blocking(options));
}

WorkPointer Backend::allreduce_coalesced(Tensors &tensors, const c10d::AllreduceCoalescedOptions &options)
{
    JobBuilder builder("tutti:all_reduce_coalesced", OpType::ALLREDUCE_COALESCED,
                       timeout_or(options.timeout));
    TORCH_CHECK_VALUE(!tensors.empty(), "tutti: all_reduce_coalesced: the list of tensors is empty");
    for (const at::Tensor &tensor : tensors) {
        check_tensor("all_reduce_coalesced", tensor);
        auto &call = builder.reducing_call(TUTTI_ALL_REDUCE, tensor, tensor.numel(), options.reduceOp);
        call.send = call.recv = builder.in_place(tensor);
    }
    builder.job.outputs = tensors;
    return issue(std::move(builder), tensors, is_blocking(options));
}

WorkPointer Backend::reduce(Tensors &tensors, const c10d::ReduceOptions &options)
{
    check_one("reduce", tensors);
    JobBuilder builder("tutti:reduce", OpType::REDUCE, timeout_or(options.timeout));
    const at::Tensor &tensor = tensors.front();
    auto &call = builder.reducing_call(TUTTI_REDUCE, tensor, tensor.numel(), options.reduceOp);
    call.root = static_cast<int>(options.rootRank);
    if (options.rootRank == rank_) {
        call.send = call.recv = builder.in_place(tensor);
    } else {
        call.send = builder.input(tensor);
    }
    builder.job.outputs = tensors;
    return issue(std::move(builder), tensors, is_blocking(options));
}

WorkPointer Backend::reduce_scatter(Tensors &outputs, std::vector<Tensors> &inputs,
                                    const c10d::ReduceScatterOptions &options)
{
    check_one("reduce_scatter", outputs);
    check_pairs("reduce_scatter", outputs.size(), inputs.size());
    const at::Tensor &output = outputs.front();
    const Tensors &parts = inputs.front();
    check_list("reduce_scatter", parts, size_, output);
    TORCH_CHECK_VALUE(parts[rank_].numel() == output.numel(), "tutti: reduce_scatter: the output has ",
                      output.numel(), " elements, and part ", rank_, " of the input ", parts[rank_].numel());
    JobBuilder builder("tutti:reduce_scatter", OpType::REDUCE_SCATTER, timeout_or(options.timeout));
    bool is_even = are_equally_long(parts);
    auto &call = builder.reducing_call(is_even ? TUTTI_REDUCE_SCATTER : TUTTI_REDUCE_SCATTER_V, output,
                                       output.numel(), options.reduceOp);
    call.send = builder.input(parts);
    call.recv = builder.output_beside(output, call.send, parts, rank_);
    call.send_counts = is_even ? nullptr : builder.counts(parts);
    builder.job.outputs = outputs;
    return issue(std::move(builder), parts, is_blocking(options));
}

WorkPointer Backend::_reduce_scatter_base(at::Tensor &output, at::Tensor &input,
                                          const c10d::ReduceScatterOptions &options)
{
    check_elements("reduce_scatter_tensor", input, output, size_);
    JobBuilder builder("tutti:reduce_scatter_tensor", OpType::_REDUCE_SCATTER_BASE,
                       timeout_or(options.timeout));
    auto &call = builder.reducing_call(TUTTI_REDUCE_SCATTER, output, output.numel(), options.reduceOp);
    call.send = builder.input(input);
    call.recv = builder.output_beside(output, call.send, Tensors(size_, output), rank_);
    builder.job.outputs = {output};
    return issue(std::move(builder), {input}, is_blocking(options));
}

WorkPointer Backend::reduce_scatter_tensor_coalesced(Tensors &outputs, Tensors &inputs,
                                                     const c10d::ReduceScatterOptions &options)
{
    const char *name = "reduce_scatter_tensor_coalesced";
    check_pairs(name, outputs.size(), inputs.size());
    JobBuilder builder("tutti:reduce_scatter_tensor_coalesced", OpType::REDUCE_SCATTER_TENSOR_COALESCED,
                       timeout_or(options.timeout));
    for (size_t i = 0; i < outputs.size(); i++) {
        check_elements(name, inputs[i], outputs[i], size_);
        auto &call =
            builder.reducing_call(TUTTI_REDUCE_SCATTER, outputs[i], outputs[i].numel(), options.reduceOp);
        call.send = builder.input(inputs[i]);
        call.recv = builder.output(outputs[i]);
    }
    builder.job.outputs = outputs;
    return issue(std::move(builder), inputs, is_blocking(options));
}

// The indices and values of all ranks side by side are the sum of their tensors.
WorkPointer Backend::allreduce_sparse(Tensors &tensors, const c10d::AllreduceOptions &options)
{
    TORCH_CHECK_VALUE(options.reduceOp == c10d::ReduceOp::SUM,
                      "tutti: all_reduce of a sparse tensor can be a sum only");
    TORCH_CHECK_VALUE(tensors.size() == 1 && tensors.front().device().is_cpu(),
                      "tutti: all_reduce takes one sparse tensor of the CPU");
    at::Tensor tensor = tensors.front().coalesce();
    at::Tensor indices = tensor._indices().t().contiguous(), values = tensor._values().contiguous();
    at::Tensor count = at::empty({1}, at::kLong), each = at::empty({size_}, at::kLong);
    count.fill_(tensor._nnz());
    c10d::AllgatherOptions gather;
    gather.timeout = options.timeout;
    _allgather_base(each, count, gather)->wait();
    std::vector<Tensors> all(2);
    for (int i = 0; i < size_; i++) {
        int64_t length = each[i].item<int64_t>();
        auto shape = values.sizes().vec();
        shape[0] = length;
        all[0].push_back(at::empty({length, indices.size(1)}, indices.options()));
        all[1].push_back(at::empty(shape, values.options()));
    }
    std::vector<Tensors> parts{{all[0]}, {all[1]}};
    for (size_t i = 0; i < parts.size(); i++) {
        std::vector<Tensors> outputs{parts[i]};
        Tensors inputs{i == 0 ? indices : values};
        allgather(outputs, inputs, gather)->wait();
    }
    at::Tensor sum = at::sparse_coo_tensor(at::cat(all[0]).t(), at::cat(all[1]), tensor.sizes()).coalesce();
    tensors.front().copy_(sum);
    // Nothing is left to do.
    JobBuilder builder("tutti:all_reduce_sparse", OpType::_ALLREDUCE_SPARSE, timeout_or(options.timeout));
    builder.job.outputs = tensors;
    return issue(std::move(builder), {}, true);
}

// ---- From and to all --------------------------------------------------------------------------------------

WorkPointer Backend::broadcast(Tensors &tensors, const c10d::BroadcastOptions &options)
{
    check_one("broadcast", tensors);
    JobBuilder builder("tutti:broadcast", OpType::BROADCAST, timeout_or(options.timeout));
    const at::Tensor &tensor = tensors.front();
    auto &call = builder.call(TUTTI_BROADCAST, tensor, tensor.numel());
    call.root = static_cast<int>(options.rootRank);
    if (options.rootRank == rank_) {
        call.send = builder.input(tensor);
        call.recv = const_cast<void *>(call.send); // in place: it is read only
    } else {
        call.recv = builder.output(tensor);
    }
    builder.job.outputs = tensors;
    return issue(std::move(builder), tensors, is_blocking(options));
}

WorkPointer Backend::allgather(std::vector<Tensors> &outputs, Tensors &inputs,
                               const c10d::AllgatherOptions &options)
{
    check_one("all_gather", inputs);
    check_pairs("all_gather", outputs.size(), inputs.size());
    const at::Tensor &input = inputs.front();
    const Tensors &parts = outputs.front();
    check_list("all_gather", parts, size_, input);
    TORCH_CHECK_VALUE(parts[rank_].numel() == input.numel(), "tutti: all_gather: the input has ",
                      input.numel(), " elements, and part ", rank_, " of the output ", parts[rank_].numel());
    JobBuilder builder("tutti:all_gather", OpType::ALLGATHER, timeout_or(options.timeout));
    bool is_even = are_equally_long(parts);
    auto &call = builder.call(is_even ? TUTTI_ALL_GATHER : TUTTI_ALL_GATHER_V, input, input.numel());
    call.recv = builder.output(parts);
    call.send = builder.input_beside(input, call.recv, parts, rank_);
    call.recv_counts = is_even ? nullptr : builder.counts(parts);
    builder.job.outputs = parts;
    return issue(std::move(builder), inputs, is_blocking(options));
}

WorkPointer Backend::_allgather_base(at::Tensor &output, at::Tensor &input,
                                     const c10d::AllgatherOptions &options)
{
    check_elements("all_gather_into_tensor", output, input, size_);
    JobBuilder builder("tutti:all_gather_into_tensor", OpType::_ALLGATHER_BASE, timeout_or(options.timeout));
    auto &call = builder.call(TUTTI_ALL_GATHER, input, input.numel());
    call.recv = builder.output(output);
    call.send = builder.input_beside(input, call.recv, Tensors(size_, input), rank_);
    builder.job.outputs = {output};
    return issue(std::move(builder), {input}, is_blocking(options));
}

WorkPointer Backend::allgather_coalesced(std::vector<Tensors> &outputs, Tensors &inputs,
                                         const c10d::AllgatherOptions &options)
{
    // One list for each rank, of one tensor for each input.
    const char *name = "all_gather_coalesced";
    check_pairs(name, outputs.size(), static_cast<size_t>(size_));
    JobBuilder builder("tutti:all_gather_coalesced", OpType::ALLGATHER_COALESCED,
                       timeout_or(options.timeout));
    for (size_t i = 0; i < inputs.size(); i++) {
        Tensors parts;
        for (const Tensors &list : outputs) {
            check_pairs(name, list.size(), inputs.size());
            parts.push_back(list[i]);
        }
        check_list(name, parts, size_, inputs[i]);
        for (const at::Tensor &part : parts) {
            check_elements(name, part, inputs[i], 1);
        }
        auto &call = builder.call(TUTTI_ALL_GATHER, inputs[i], inputs[i].numel());
        call.send = builder.input(inputs[i]);
        call.recv = builder.output(parts);
    }
    builder.job.outputs = flattened(outputs);
    return issue(std::move(builder), inputs, is_blocking(options));
}

WorkPointer Backend::allgather_into_tensor_coalesced(Tensors &outputs, Tensors &inputs,
                                                     const c10d::AllgatherOptions &options)
{
    const char *name = "all_gather_into_tensor_coalesced";
    check_pairs(name, outputs.size(), inputs.size());
    JobBuilder builder("tutti:all_gather_into_tensor_coalesced", OpType::COALESCED,
                       timeout_or(options.timeout));
    for (size_t i = 0; i < outputs.size(); i++) {
        check_elements(name, outputs[i], inputs[i], size_);
        auto &call = builder.call(TUTTI_ALL_GATHER, inputs[i], inputs[i].numel());
        call.send = builder.input(inputs[i]);
        call.recv = builder.output(outputs[i]);
    }
    builder.job.outputs = outputs;
    return issue(std::move(builder), inputs, is_blocking(options));
}

WorkPointer Backend::gather(std::vector<Tensors> &outputs, Tensors &inputs,
                            const c10d::GatherOptions &options)
{
    check_one("gather", inputs);
    const at::Tensor &input = inputs.front();
    JobBuilder builder("tutti:gather", OpType::GATHER, timeout_or(options.timeout));
    auto &call = builder.call(TUTTI_GATHER, input, input.numel());
    call.root = static_cast<int>(options.rootRank);
    if (options.rootRank == rank_) {
        check_pairs("gather", outputs.size(), inputs.size());
        check_list("gather", outputs.front(), size_, input);
        for (const at::Tensor &part : outputs.front()) {
            check_elements("gather", part, input, 1);
        }
        call.recv = builder.output(outputs.front());
        call.send = builder.input_beside(input, call.recv, outputs.front(), rank_);
        builder.job.outputs = outputs.front();
    } else {
        call.send = builder.input(input);
    }
    return issue(std::move(builder), inputs, is_blocking(options));
}

WorkPointer Backend::scatter(Tensors &outputs, std::vector<Tensors> &inputs,
                             const c10d::ScatterOptions &options)
{
    check_one("scatter", outputs);
    const at::Tensor &output = outputs.front();
    JobBuilder builder("tutti:scatter", OpType::SCATTER, timeout_or(options.timeout));
    auto &call = builder.call(TUTTI_SCATTER, output, output.numel());
    call.root = static_cast<int>(options.rootRank);
    if (options.rootRank == rank_) {
        check_pairs("scatter", outputs.size(), inputs.size());
        check_list("scatter", inputs.front(), size_, output);
        for (const at::Tensor &part : inputs.front()) {
            check_elements("scatter", part, output, 1);
        }
        call.send = builder.input(inputs.front());
        call.recv = builder.output_beside(output, call.send, inputs.front(), rank_);
    } else {
        call.recv = builder.output(output);
    }
    builder.job.outputs = outputs;
    return issue(std::move(builder), flattened(inputs), is_blocking(options));
}

WorkPointer Backend::alltoall_base(at::Tensor &output, at::Tensor &input, std::vector<int64_t> &output_rows,
                                   std::vector<int64_t> &input_rows, const c10d::AllToAllOptions &options)
{
    const char *name = "all_to_all_single";
    check_tensor(name, output);
    check_tensor(name, input);
    JobBuilder builder("tutti:all_to_all_single", OpType::ALLTOALL_BASE, timeout_or(options.timeout));
    TORCH_CHECK_VALUE(output.scalar_type() == input.scalar_type(),
                      "tutti: all_to_all_single: input and output are of ", input.scalar_type(), " and ",
                      output.scalar_type(), ": both must have one type");
    auto rows = [this, name](const at::Tensor &tensor, const std::vector<int64_t> &given) {
        if (!given.empty()) {
            TORCH_CHECK_VALUE(given.size() == static_cast<size_t>(size_), "tutti: ", name, ": ", given.size(),
                              " split sizes for ", size_, " ranks");
            return given;
        }
        int64_t count = tensor.dim() > 0 ? tensor.size(0) : 1;
        TORCH_CHECK_VALUE(count % size_ == 0, "tutti: ", name, ": ", count,
                          " rows cannot be split evenly among ", size_, " ranks: pass the split sizes");
        return std::vector<int64_t>(size_, count / size_);
    };
    // Other ranks may give split sizes though this one does not, so only the general form is safe.
    auto &call = builder.call(TUTTI_ALL_TO_ALL_V, input, 0);
    call.send = builder.input(apart_from(output, input));
    call.recv = builder.output(output);
    call.send_counts = builder.counts(input, rows(input, input_rows));
    call.recv_counts = builder.counts(output, rows(output, output_rows));
    builder.job.outputs = {output};
    return issue(std::move(builder), {input}, is_blocking(options));
}

WorkPointer Backend::alltoall(Tensors &outputs, Tensors &inputs, const c10d::AllToAllOptions &options)
{
    const char *name = "all_to_all";
    TORCH_CHECK_VALUE(!inputs.empty() && inputs.front().defined(),
                      "tutti: all_to_all: the list of inputs is empty");
    check_list(name, inputs, size_, inputs.front());
    check_list(name, outputs, size_, inputs.front());
    JobBuilder builder("tutti:all_to_all", OpType::ALLTOALL, timeout_or(options.timeout));
    // Other ranks may differ in lengths though these here do not, so only the general form is safe.
    auto &call = builder.call(TUTTI_ALL_TO_ALL_V, inputs.front(), 0);
    Tensors sources;
    for (size_t i = 0; i < inputs.size(); i++) {
        sources.push_back(apart_from(outputs[i], inputs[i]));
    }
    call.send = builder.input(sources);
    call.recv = builder.output(outputs);
    call.send_counts = builder.counts(inputs);
    call.recv_counts = builder.counts(outputs);
    builder.job.outputs = outputs;
    return issue(std::move(builder), inputs, is_blocking(options));
}

WorkPointer Backend::barrier(const c10d::BarrierOptions &options)
{
    JobBuilder builder("tutti:barrier", OpType::BARRIER, timeout_or(options.timeout));
    builder.empty_call(TUTTI_BARRIER);
    return issue(std::move(builder), {}, is_blocking(options));
}

void Backend::monitoredBarrier(const c10d::BarrierOptions &options, bool /* wait_all_ranks: always */)
{
    JobBuilder builder("tutti:monitored_barrier", OpType::BARRIER, timeout_or(options.timeout));
    builder.empty_call(TUTTI_BARRIER);
    issue(std::move(builder), {}, true);
}

// ---- From rank to rank ------------------------------------------------------------------------------------

WorkPointer Backend::send(Tensors &tensors, int to, int tag)
{
    check_one("send", tensors);
    JobBuilder builder("tutti:send", OpType::SEND, timeout_);
    auto &call = builder.call(TUTTI_SEND, tensors.front(), tensors.front().numel());
    call.send = builder.input(tensors.front());
    call.peer = to;
    call.tag = tag;
    return issue(std::move(builder), tensors, false);
}

WorkPointer Backend::receive(Tensors &tensors, int from, int tag, const char *title, OpType type)
{
    check_one("recv", tensors);
    JobBuilder builder(title, type, timeout_);
    auto &call = builder.call(TUTTI_RECV, tensors.front(), tensors.front().numel());
    call.recv = builder.in_place(tensors.front()); // the message may be shorter
    call.peer = from;
    call.tag = tag;
    builder.job.outputs = tensors;
    return issue(std::move(builder), tensors, false);
}

WorkPointer Backend::recv(Tensors &tensors, int from, int tag)
{
    TORCH_CHECK_VALUE(from != rank_, "tutti: recv: this is rank ", rank_,
                      ", and torch does not let a rank send to itself");
    return receive(tensors, from, tag, "tutti:recv", OpType::RECV);
}

WorkPointer Backend::recvAnysource(Tensors &tensors, int tag)
{
    return receive(tensors, TUTTI_ANY_SOURCE, tag, "tutti:recv_any_source", OpType::RECVANYSOURCE);
}

// ---- Symmetric memory -------------------------------------------------------------------------------------

at::Tensor Backend::empty(at::IntArrayRef sizes, const at::TensorOptions &options)
{
    size_t bytes = c10::elementSize(c10::typeMetaToScalarType(options.dtype()));
    for (int64_t size : sizes) {
        TORCH_CHECK_VALUE(size >= 0, "tutti: empty: a dimension is ", size);
        TORCH_CHECK_VALUE(!__builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes),
                          "tutti: empty: ", sizes, " elements are more than memory can hold");
    }
    if (bytes == 0) {
        return at::empty(sizes, options);
    }
    void *memory = nullptr;
    int status = functions->alloc(communicator_->handle(), bytes, &memory);
    if (status < 0) {
        std::rethrow_exception(communicator_->exception_of(status));
    }
    return at::from_blob(
        memory, sizes, [](void *data) { functions->dealloc(data); }, options);
}

at::Tensor Backend::allocateTensor(long size, at::TensorOptions options)
{
    return empty({size}, options);
}

bool Backend::supportsTensorAlloc(c10::DeviceIndex /* the CPU has none */)
{
    return true;
}

} // namespace tutti_torch
