// From tensors to the calls of an operation: element types, and what stands in for tensors that do not lie in
// memory as tutti takes them.
#pragma once

#include <vector>

#include <torch/csrc/distributed/c10d/Types.hpp>

#include "work.h"

namespace tutti_torch {

using Tensors = std::vector<at::Tensor>;

class JobBuilder {
  public:
    // `title`: a literal, "tutti:" and the name of the operation.
    JobBuilder(const char *title, c10d::OpType type, milliseconds timeout);

    // Where tutti reads, or writes, the elements of a tensor in order: its own memory, or a copy.  Of a list,
    // one tensor follows the other.
    const void *input(const at::Tensor &tensor);
    void *output(const at::Tensor &tensor);
    void *in_place(const at::Tensor &tensor);
    const void *input(const Tensors &tensors);
    void *output(const Tensors &tensors);

    // The same of one rank's part, beside the row of all parts of `parts` at `row`: where it shares memory
    // with that, but does not lie at its own place in it, a copy.
    const void *input_beside(const at::Tensor &tensor, const void *row, const Tensors &parts, int rank);
    void *output_beside(const at::Tensor &tensor, const void *row, const Tensors &parts, int rank);

    // The parts of tensors that differ in length, as an array for a call: it lives as long as the job.
    const size_t *counts(const Tensors &tensors);
    const size_t *counts(const at::Tensor &tensor, const std::vector<int64_t> &rows);

    // Adds a call of `count` elements of tensors like this one.
    tutti_call &call(tutti_operation operation, const at::Tensor &like, int64_t count);
    tutti_call &reducing_call(tutti_operation operation, const at::Tensor &like, int64_t count,
                              const c10d::ReduceOp &reduction);
    tutti_call &empty_call(tutti_operation operation);

    Job job;

  private:
    void *stand_in_for(const at::Tensor &tensor, bool with_elements);
    const size_t *keep_counts(std::vector<size_t> counts);

    const char *const name_;
    const int timeout_ms_;
};

// Throw ValueError with the name of the operation, and what is wrong.
void check_tensor(const char *name, const at::Tensor &tensor);
void check_one(const char *name, const Tensors &tensors);
void check_list(const char *name, const Tensors &tensors, size_t count, const at::Tensor &like);
void check_elements(const char *name, const at::Tensor &longer, const at::Tensor &shorter, int64_t times);

// Are all of them as long as the first?
bool are_equally_long(const Tensors &tensors);

} // namespace tutti_torch
