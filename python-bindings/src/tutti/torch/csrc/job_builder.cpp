#include "job_builder.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>

namespace tutti_torch {

namespace {

// ---- Element types ----------------------------------------------------------------------------------------

// An element of torch's as `factor` elements of tutti's.
struct Elements {
    tutti_type type;
    size_t factor;
    bool is_number; // else bytes, which can be moved and not combined
};

Elements elements_of(const at::Tensor &tensor)
{
    switch (tensor.scalar_type()) {
    case at::kFloat:
        return {TUTTI_FLOAT32, 1, true};
    case at::kDouble:
        return {TUTTI_FLOAT64, 1, true};
    case at::kHalf:
        return {TUTTI_FLOAT16, 1, true};
    case at::kBFloat16:
        return {TUTTI_BFLOAT16, 1, true};
    case at::kChar:
        return {TUTTI_INT8, 1, true};
    case at::kByte:
        return {TUTTI_UINT8, 1, true};
    case at::kShort:
        return {TUTTI_INT16, 1, true};
    case at::kInt:
        return {TUTTI_INT32, 1, true};
    case at::kLong:
        return {TUTTI_INT64, 1, true};
    case at::kUInt32:
        return {TUTTI_UINT32, 1, true};
    case at::kUInt64:
        return {TUTTI_UINT64, 1, true};
    case at::kBool:
        return {TUTTI_BOOL, 1, true};
    case at::kComplexFloat:
        return {TUTTI_COMPLEX64, 1, true};
    case at::kComplexDouble: // sums of these are sums of their parts
        return {TUTTI_FLOAT64, 2, true};
    default:
        return {TUTTI_UINT8, static_cast<size_t>(tensor.element_size()), false};
    }
}

tutti_reduction reduction_of(const char *name, const c10d::ReduceOp &reduction)
{
    switch (reduction) {
    case c10d::ReduceOp::SUM:
        return TUTTI_SUM;
    case c10d::ReduceOp::AVG:
        return TUTTI_AVG;
    case c10d::ReduceOp::PRODUCT:
        return TUTTI_PRODUCT;
    case c10d::ReduceOp::MIN:
        return TUTTI_MIN;
    case c10d::ReduceOp::MAX:
        return TUTTI_MAX;
    case c10d::ReduceOp::BAND:
        return TUTTI_BIT_AND;
    case c10d::ReduceOp::BOR:
        return TUTTI_BIT_OR;
    case c10d::ReduceOp::BXOR:
        return TUTTI_BIT_XOR;
    case c10d::ReduceOp::PREMUL_SUM:
        return TUTTI_PREMULTIPLIED_SUM;
    default:
        TORCH_CHECK_VALUE(false, "tutti: ", name, ": ReduceOp number ", static_cast<int>(reduction.op_),
                          " is unknown");
    }
}

// The struct has had another name, and the same beginning, in older releases of torch.
double factor_of(const c10d::ReduceOp &reduction)
{
    auto *supplement = static_cast<c10d::NCCLPreMulSumSupplement *>(reduction.supplement_.get());
    return supplement->tensor_factor.defined() ? supplement->tensor_factor.item<double>()
                                               : supplement->double_factor;
}

// ---- Layouts ----------------------------------------------------------------------------------------------

// Do the elements lie in one row, tensor after tensor?
bool are_adjacent(const Tensors &tensors)
{
    const char *next = nullptr;
    for (const at::Tensor &tensor : tensors) {
        if (!tensor.is_contiguous() || (next && tensor.numel() > 0 && tensor.const_data_ptr() != next)) {
            return false;
        }
        if (tensor.numel() > 0) {
            next = static_cast<const char *>(tensor.const_data_ptr()) + tensor.nbytes();
        }
    }
    return true;
}

const at::Tensor &first_with_elements(const Tensors &tensors)
{
    for (const at::Tensor &tensor : tensors) {
        if (tensor.numel() > 0) {
            return tensor;
        }
    }
    return tensors.front();
}

// Memory for all of them, one behind the other, and a view of it for each.
struct Row {
    at::Tensor flat;
    Tensors parts;
};

Row make_row(const Tensors &tensors)
{
    int64_t count = 0;
    for (const at::Tensor &tensor : tensors) {
        count += tensor.numel();
    }
    Row row{at::empty({count}, tensors.front().options().memory_format(std::nullopt)), {}};
    count = 0;
    for (const at::Tensor &tensor : tensors) {
        row.parts.push_back(row.flat.narrow(0, count, tensor.numel()).view(tensor.sizes()));
        count += tensor.numel();
    }
    return row;
}

void *data_of(const at::Tensor &tensor)
{
    return tensor.data_ptr();
}

bool is_misplaced(const at::Tensor &tensor, const void *row, const Tensors &parts, int rank)
{
    if (!tensor.is_contiguous() || !row || tensor.numel() == 0) {
        return false;
    }
    const char *own = static_cast<const char *>(data_of(tensor));
    const char *begin = static_cast<const char *>(row), *place = begin, *end = begin;
    for (size_t i = 0; i < parts.size(); i++) {
        place += i < static_cast<size_t>(rank) ? parts[i].nbytes() : 0;
        end += parts[i].nbytes();
    }
    return own < end && begin < own + tensor.nbytes() && own != place;
}

} // namespace

// ---- Checks -----------------------------------------------------------------------------------------------

void check_tensor(const char *name, const at::Tensor &tensor)
{
    TORCH_CHECK_VALUE(tensor.defined(), "tutti: ", name, ": a tensor is undefined");
    TORCH_CHECK_VALUE(tensor.device().is_cpu(), "tutti: ", name, ": a tensor is on ", tensor.device(),
                      ": tutti moves tensors of the CPU; give the other device a backend of its own, as in "
                      "init_process_group(\"cpu:tutti,cuda:nccl\"), or pass tensor.cpu()");
    TORCH_CHECK_VALUE(tensor.layout() == at::kStrided, "tutti: ", name, ": a tensor is ", tensor.layout(),
                      ": only all_reduce takes sparse ones; pass tensor.to_dense()");
}

void check_one(const char *name, const Tensors &tensors)
{
    TORCH_CHECK_VALUE(tensors.size() == 1, "tutti: ", name, " takes one tensor, not ", tensors.size());
    check_tensor(name, tensors.front());
}

void check_list(const char *name, const Tensors &tensors, size_t count, const at::Tensor &like)
{
    TORCH_CHECK_VALUE(tensors.size() == count, "tutti: ", name, " takes a list of ", count,
                      " tensors, one for each rank, not ", tensors.size());
    for (const at::Tensor &tensor : tensors) {
        check_tensor(name, tensor);
        TORCH_CHECK_VALUE(tensor.scalar_type() == like.scalar_type(), "tutti: ", name, ": tensors of ",
                          like.scalar_type(), " and of ", tensor.scalar_type(),
                          " are mixed: all must have one type");
    }
}

void check_elements(const char *name, const at::Tensor &longer, const at::Tensor &shorter, int64_t times)
{
    check_tensor(name, longer);
    check_tensor(name, shorter);
    TORCH_CHECK_VALUE(longer.scalar_type() == shorter.scalar_type(), "tutti: ", name,
                      ": input and output are of ", longer.scalar_type(), " and ", shorter.scalar_type(),
                      ": both must have one type");
    TORCH_CHECK_VALUE(longer.numel() == shorter.numel() * times, "tutti: ", name, ": one tensor has ",
                      longer.numel(), " elements and the other ", shorter.numel(), ": the first must have ",
                      times, " times as many as the second, one part for each rank");
}

bool are_equally_long(const Tensors &tensors)
{
    for (const at::Tensor &tensor : tensors) {
        if (tensor.numel() != tensors.front().numel()) {
            return false;
        }
    }
    return true;
}

// ---- JobBuilder -------------------------------------------------------------------------------------------

JobBuilder::JobBuilder(const char *title, c10d::OpType type, milliseconds timeout)
    : name_(title + sizeof "tutti:" - 1), timeout_ms_(to_timeout_ms(timeout))
{
    job.title = title;
    job.type = type;
}

const void *JobBuilder::input(const at::Tensor &tensor)
{
    job.keep.push_back(tensor.is_contiguous() ? tensor : tensor.contiguous());
    return data_of(job.keep.back());
}

// A copy that replaces the tensor's elements when the operation is complete.
void *JobBuilder::stand_in_for(const at::Tensor &tensor, bool with_elements)
{
    TORCH_CHECK_VALUE(at::has_internal_overlap(tensor) != at::MemOverlap::Yes, "tutti: ", name_,
                      ": several elements of an output lie at the same place: pass tensor.contiguous()");
    at::Tensor copy = at::empty_like(tensor, at::MemoryFormat::Contiguous);
    if (with_elements) {
        copy.copy_(tensor);
    }
    job.keep.push_back(copy);
    job.copies.emplace_back(tensor, copy);
    return data_of(copy);
}

void *JobBuilder::output(const at::Tensor &tensor)
{
    job.keep.push_back(tensor);
    return tensor.is_contiguous() ? data_of(tensor) : stand_in_for(tensor, false);
}

void *JobBuilder::in_place(const at::Tensor &tensor)
{
    job.keep.push_back(tensor);
    return tensor.is_contiguous() ? data_of(tensor) : stand_in_for(tensor, true);
}

const void *JobBuilder::input_beside(const at::Tensor &tensor, const void *row, const Tensors &parts,
                                     int rank)
{
    if (!is_misplaced(tensor, row, parts, rank)) {
        return input(tensor);
    }
    job.keep.push_back(tensor.clone(at::MemoryFormat::Contiguous));
    return data_of(job.keep.back());
}

void *JobBuilder::output_beside(const at::Tensor &tensor, const void *row, const Tensors &parts, int rank)
{
    job.keep.push_back(tensor);
    return is_misplaced(tensor, row, parts, rank) ? stand_in_for(tensor, false) : output(tensor);
}

const void *JobBuilder::input(const Tensors &tensors)
{
    if (are_adjacent(tensors)) {
        job.keep.insert(job.keep.end(), tensors.begin(), tensors.end());
        return data_of(first_with_elements(tensors));
    }
    Row row = make_row(tensors);
    for (size_t i = 0; i < tensors.size(); i++) {
        row.parts[i].copy_(tensors[i]);
    }
    job.keep.push_back(row.flat);
    return data_of(row.flat);
}

void *JobBuilder::output(const Tensors &tensors)
{
    job.keep.insert(job.keep.end(), tensors.begin(), tensors.end());
    if (are_adjacent(tensors)) {
        return data_of(first_with_elements(tensors));
    }
    Row row = make_row(tensors);
    for (size_t i = 0; i < tensors.size(); i++) {
        job.copies.emplace_back(tensors[i], row.parts[i]);
    }
    return data_of(row.flat);
}

const size_t *JobBuilder::keep_counts(std::vector<size_t> counts)
{
    job.counts.push_back(std::move(counts));
    return job.counts.back().data(); // stays where it is when the outer vector grows
}

const size_t *JobBuilder::counts(const Tensors &tensors)
{
    std::vector<size_t> result;
    for (const at::Tensor &tensor : tensors) {
        result.push_back(static_cast<size_t>(tensor.numel()) * elements_of(tensor).factor);
    }
    return keep_counts(std::move(result));
}

const size_t *JobBuilder::counts(const at::Tensor &tensor, const std::vector<int64_t> &rows)
{
    int64_t count = tensor.dim() > 0 ? tensor.size(0) : 1, sum = 0;
    size_t row = count > 0 ? static_cast<size_t>(tensor.numel() / count) * elements_of(tensor).factor : 0;
    std::vector<size_t> result;
    for (int64_t part : rows) {
        TORCH_CHECK_VALUE(part >= 0, "tutti: ", name_, ": a split size is ", part);
        sum += part;
        result.push_back(static_cast<size_t>(part) * row);
    }
    TORCH_CHECK_VALUE(sum == count, "tutti: ", name_, ": the split sizes add up to ", sum,
                      ", and the tensor has ", count, " rows: they must be the same");
    return keep_counts(std::move(result));
}

tutti_call &JobBuilder::empty_call(tutti_operation operation)
{
    tutti_call call{};
    call.op = operation;
    call.timeout_ms = timeout_ms_;
    job.calls.push_back(call);
    return job.calls.back();
}

tutti_call &JobBuilder::call(tutti_operation operation, const at::Tensor &like, int64_t count)
{
    Elements elements = elements_of(like);
    tutti_call &call = empty_call(operation);
    call.type = elements.type;
    call.count = static_cast<size_t>(count) * elements.factor;
    return call;
}

tutti_call &JobBuilder::reducing_call(tutti_operation operation, const at::Tensor &like, int64_t count,
                                      const c10d::ReduceOp &reduction)
{
    TORCH_CHECK_VALUE(elements_of(like).is_number, "tutti: ", name_, " cannot combine elements of ",
                      like.scalar_type(), ": convert them, to bfloat16 for instance");
    tutti_call &result = call(operation, like, count);
    result.reduction = reduction_of(name_, reduction);
    bool is_sum = result.reduction == TUTTI_SUM || result.reduction == TUTTI_AVG ||
                  result.reduction == TUTTI_PREMULTIPLIED_SUM;
    TORCH_CHECK_VALUE(is_sum || like.scalar_type() != at::kComplexDouble, "tutti: ", name_,
                      " of complex128 can be a sum or an average only");
    if (result.reduction == TUTTI_PREMULTIPLIED_SUM) {
        result.factor = factor_of(reduction);
    }
    return result;
}

} // namespace tutti_torch
