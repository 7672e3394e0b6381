#include "engine/quick.h"

#include "tensor/type.h"

#define QUICK_BYTES_MAX (32u << 10) /* the lock is held while they are copied */

#define QUICK_SPINS_MAX 2000 /* likewise */

#define QUICK_OPERATIONS                                                                                     \
    (OPERATION_SET(TUTTI_ALL_REDUCE) | OPERATION_SET(TUTTI_BARRIER) | OPERATION_SET(TUTTI_BROADCAST) |       \
     OPERATION_SET(TUTTI_ALL_GATHER) | OPERATION_SET(TUTTI_GATHER) | OPERATION_SET(TUTTI_REDUCE_SCATTER))

static bool is_quick(const tutti_comm *comm, const struct tutti_call *call)
{
    return comm->select.shared && comm->spare && !comm->head && comm->token == TOKEN_FREE &&
           operation_is_in(call->op, QUICK_OPERATIONS) && !call->algorithm &&
           !comm->select.override.by_operation[call->op] && call->reduction != TUTTI_PREMULTIPLIED_SUM &&
           (call->op == TUTTI_BARRIER || call->count * type_size(call->type) <= QUICK_BYTES_MAX) &&
           !messages_are_pending(comm) && !comm_has_failed(comm) &&
           atomic_load_explicit(&comm->phase, memory_order_relaxed) == COMM_ACTIVE;
}

static struct fingerprint print_of(const struct tutti_call *call)
{
    bool has_type = call->op != TUTTI_BARRIER;
    return (struct fingerprint){
        .operation = (uint8_t)call->op,
        .type = has_type ? (uint8_t)call->type : 0,
        .reduction = operation_reduces(call->op) ? (uint8_t)call->reduction : 0,
        .algorithm = ALGORITHM_SHARED_NUMBER,
        .root = operation_has_root(call->op) ? (uint32_t)call->root : 0,
        .count = has_type ? call->count : 0,
    };
}

bool quick_run(tutti_comm *comm, const struct tutti_call *call, int *status, tutti_request **request)
{
    if (!is_quick(comm, call))
        return false;
    const struct fingerprint print = print_of(call);
    struct waiter waiter = {.policy = &comm->wait_policy};
    struct tutti_error error;
    struct direct *direct = &comm->spare->operations[0].direct;
    uint64_t sequence = ++comm->sequence;
    comm->recent_calls[sequence % EXECUTOR_RECENT_CALLS] = print;
    int spins = waiter_shared_spins(&waiter);
    comm->arena->spins = spins < QUICK_SPINS_MAX ? spins : QUICK_SPINS_MAX;
    direct_init(direct, comm->arena, &print, call->send, call->recv, (int)print.root);
    direct_start(direct, sequence, 0, 0);
    *status = direct->operation.progress(&direct->operation, &error);
    if (*status == TUTTI_OK) {
        failpoint_hit(&comm->failpoints, FAILPOINT_operation_done);
        comm->completed = sequence;
        return true;
    }
    /* An error comes again when the request is moved, and is seen to there. */
    *status = TUTTI_PENDING;
    *request = issue_begun(comm, call);
    return true;
}
