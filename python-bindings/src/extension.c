#include "extension.h"

#include "tutti/torch/csrc/functions.h"

#define TABLE_ENTRY(name) .name = tutti_##name,
static const struct tutti_functions table = {.struct_size = sizeof table, TUTTI_FUNCTION_MAP(TABLE_ENTRY)};

const void *function_table(void)
{
    return &table;
}

void pending_start(struct pending *pending, tutti_comm *comm, const struct tutti_call *calls, size_t count)
{
    int status = tutti_start(comm, calls, count, &pending->request);
    pending->status = status == TUTTI_OK ? TUTTI_PENDING : status;
}

void pending_run(struct pending *pending, tutti_comm *comm, const struct tutti_call *calls, size_t count,
                 int timeout_ms)
{
    pending->status = tutti_run(comm, calls, count, timeout_ms, &pending->request);
}

void pending_plan_start(struct pending *pending, tutti_plan *plan)
{
    int status = tutti_plan_start(plan, &pending->request);
    pending->status = status == TUTTI_OK ? TUTTI_PENDING : status;
}

void pending_plan_run(struct pending *pending, tutti_plan *plan, int timeout_ms)
{
    pending->status = tutti_plan_run(plan, timeout_ms, &pending->request);
}

void pending_wait(struct pending *pending, int timeout_ms)
{
    pending->status = tutti_wait(&pending->request, timeout_ms);
}
