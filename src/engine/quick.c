#include "engine/quick.h"

#include "executor/call_print.h"
#include "tensor/type.h"

#define QUICK_BYTES_MAX (32u << 10) /* of the larger buffer: the lock is held while they are copied */
#define QUICK_SPINS_MAX 2000

static bool is_quick(const tutti_comm *comm, const struct tutti_call *call)
{
    return comm->select.shared && comm->spare && !comm->head && comm->token == TOKEN_FREE &&
           algorithm_shared(call->op) && !call->algorithm && !comm->select.override.by_operation[call->op] &&
           call->reduction != TUTTI_PREMULTIPLIED_SUM && !messages_are_pending(comm) &&
           !comm_has_failed(comm) && atomic_load_explicit(&comm->phase, memory_order_relaxed) == COMM_ACTIVE;
}

bool quick_run(tutti_comm *comm, const struct tutti_call *call, int *status, tutti_request **request)
{
    if (!is_quick(comm, call))
        return false;
    struct fingerprint print = call_print(call, 1, comm->place.size, false);
    if (executor_total(&print, comm->place.size) * type_size(print.type) > QUICK_BYTES_MAX)
        return false;
    print.algorithm = ALGORITHM_SHARED_NUMBER;
    struct waiter waiter = {.policy = &comm->wait_policy};
    struct tutti_error error;
    struct direct *direct = &comm->spare->operations[0].direct;
    uint64_t sequence = ++comm->sequence;
    comm->recent_calls[sequence % EXECUTOR_RECENT_CALLS] = print;
    progress_set_spins(comm, &waiter);
    if (comm->arena->spins > QUICK_SPINS_MAX)
        comm->arena->spins = QUICK_SPINS_MAX;
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
