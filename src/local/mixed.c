#include "local/mixed.h"

#include "local/collective.h"

/* The part of this rank, in the output. */
static uint8_t *own_part(const struct mixed *m, int cuts)
{
    const struct executor *x = &m->executor;
    size_t part = chunk_begin(x->total, (size_t)x->schedule->chunks, (size_t)(m->arena->index * cuts));
    return x->total > 0 ? (uint8_t *)x->buffers.recv + part * x->element_bytes : x->buffers.recv;
}

static void start_within(struct mixed *m, uint32_t first)
{
    const struct executor_buffers *buffers = &m->executor.buffers;
    bool again = m->phase == MIXED_WITHIN_AGAIN;
    struct direct_phase phase = {.first = first};
    if (m->operation.call.operation == TUTTI_BARRIER) {
        phase.collective = again ? &shared_release : &shared_arrival;
    } else {
        phase.collective = again ? &shared_all_gather : &shared_reduce_scatter;
        phase.cuts = m->executor.schedule->chunks / m->arena->count;
        phase.send = again ? own_part(m, phase.cuts) : buffers->send;
        phase.recv = again ? buffers->recv : own_part(m, phase.cuts);
    }
    direct_start_phase(&m->direct, m->arena, &m->operation, &phase);
}

static struct operation *phase_under_way(struct mixed *m)
{
    return m->phase == MIXED_ACROSS ? &m->executor.operation : &m->direct.operation;
}

static uint64_t moved_in(const struct operation *phase)
{
    return atomic_load_explicit(&phase->moved_bytes, memory_order_relaxed);
}

static int mixed_progress(struct operation *operation, struct tutti_error *error)
{
    struct mixed *m = (struct mixed *)operation;
    for (;;) {
        struct operation *phase = phase_under_way(m);
        int status = phase->progress(phase, error);
        atomic_store_explicit(&operation->moved_bytes, m->moved_bytes + moved_in(phase),
                              memory_order_relaxed);
        operation->wait = phase->wait;
        if (status != TUTTI_OK || m->phase == MIXED_WITHIN_AGAIN)
            return status;
        m->moved_bytes += moved_in(phase);
        if (++m->phase == MIXED_WITHIN_AGAIN)
            start_within(m, direct_end(&m->direct));
    }
}

void mixed_init(struct mixed *m, struct arena *arena, const struct executor_group *group,
                const struct schedule *schedule, const struct fingerprint *call,
                const struct executor_buffers *buffers, void *scratch)
{
    m->operation.progress = mixed_progress;
    m->operation.call = *call;
    m->arena = arena;
    executor_init(&m->executor, group, schedule, call, buffers, scratch);
}

void mixed_start(struct mixed *m, uint64_t sequence, int64_t now_ns, int64_t deadline_ns)
{
    struct operation *operation = &m->operation;
    operation->begun = false;
    operation->sequence = sequence;
    operation->started_ns = now_ns;
    operation->deadline_ns = deadline_ns;
    operation->wait = (struct operation_wait){.from = -1, .to = -1};
    atomic_store_explicit(&operation->moved_bytes, 0, memory_order_relaxed);
    operation->input.is_packed = false;
    m->moved_bytes = 0;
    m->phase = MIXED_WITHIN;
    executor_start(&m->executor, sequence, now_ns, deadline_ns);
    start_within(m, 0);
}
