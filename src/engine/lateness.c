/* Lateness: warnings about a call that waits long, and the end of the group when its deadline passes.
 *
 * Who is to blame?  In a ring everybody waits for the rank before, so the one that this rank waits for may
 * itself wait.  Heartbeats therefore carry the number of the latest call that their sender has made: a
 * neighbour that has made this one is not the late rank.  Then the rank beside the late one, which knows, is
 * given time to speak first. */
#include <stdio.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/comm.h"
#include "tensor/type.h"

#define ANNOUNCE_NS                                                                                          \
    (20 * NS_PER_MS)                  /* waiting for so long, tell the neighbours which call this rank is in \
                                       */
#define PATIENCE_NS (300 * NS_PER_MS) /* past a deadline, for one who knows the late rank */

struct suspect {
    const struct comm_peer *peer; /* the neighbour that the operation waits for; NULL: it does not wait */
    bool has_called;              /* it has made this call too */
};

static struct suspect find_suspect(const tutti_comm *comm, const struct operation *operation)
{
    if (!operation->wait.receive && !operation->wait.send)
        return (struct suspect){NULL, true};
    int side = operation->wait.receive ? 1 : 0; /* a ring receives from the previous and sends to the next */
    uint64_t heard = atomic_load_explicit(&comm->ring.heard_sequence[side], memory_order_relaxed);
    return (struct suspect){&comm->peers[side], heard >= operation->sequence};
}

static void describe_wait(const struct operation *operation, struct suspect suspect, char *text, size_t size)
{
    if (!suspect.peer)
        snprintf(text, size, "still moving data");
    else
        snprintf(text, size, "waiting %s %s, which %s",
                 operation->wait.receive ? "for data from" : "to send to", suspect.peer->text,
                 suspect.has_called ? "has made this call and waits as well: another rank is late"
                                    : "has not made this call");
}

static void expire(tutti_comm *comm, const struct operation *operation, struct suspect suspect,
                   int64_t due_ns)
{
    struct tutti_error error;
    char waiting[480];
    describe_wait(operation, suspect, waiting, sizeof waiting);
    error_set(&error, TUTTI_ERR_TIMEOUT, "did not complete within %.1f s, %s: %s",
              (double)(due_ns - operation->started_ns) / 1e9,
              due_ns < operation->deadline_ns ? "when the deadline of a call behind it passed"
                                              : "its deadline",
              waiting);
    error.rank = suspect.peer && !suspect.has_called ? suspect.peer->rank : -1;
    comm_fail(comm, &error);
}

static void warn(tutti_comm *comm, const struct operation *operation, struct suspect suspect, int64_t now_ns)
{
    char waiting[480];
    describe_wait(operation, suspect, waiting, sizeof waiting);
    log_warning(&comm->log, "%s (operation %llu) has been under way for %.1f s, %s; its deadline is %.1f s",
                operation_name(operation->call.operation), (unsigned long long)operation->sequence,
                (double)(now_ns - operation->started_ns) / 1e9, waiting,
                (double)(operation->deadline_ns - operation->started_ns) / 1e9);
}

static int64_t straggler_ns(const tutti_comm *comm, const struct operation *operation)
{
    return operation->started_ns + comm->settings.values.straggler_after_ms * NS_PER_MS;
}

void lateness_judge(tutti_comm *comm, tutti_request *head, int64_t now_ns)
{
    const struct operation *operation = &head->executors[head->current].operation;
    int64_t due_ns = atomic_load_explicit(&head->due_ns, memory_order_relaxed);
    if (!head->announced && now_ns - operation->started_ns >= ANNOUNCE_NS) {
        head->announced = true;
        worker_post(comm->worker, &comm->heartbeat_task);
    }
    bool straggles = !head->straggler_named && now_ns >= straggler_ns(comm, operation);
    if (now_ns < due_ns && !straggles)
        return;
    struct suspect suspect = find_suspect(comm, operation);
    if (now_ns >= due_ns + (suspect.has_called ? PATIENCE_NS : 0)) {
        expire(comm, operation, suspect, due_ns);
    } else if (straggles) {
        head->straggler_named = true;
        if (!suspect.has_called) /* else the rank beside the late one warns */
            warn(comm, operation, suspect, now_ns);
    }
}

int64_t lateness_next_ns(const tutti_comm *comm, const tutti_request *head, int64_t now_ns)
{
    const struct operation *operation = &head->executors[head->current].operation;
    int64_t next_ns = atomic_load_explicit(&head->due_ns, memory_order_relaxed);
    if (now_ns >= next_ns)
        next_ns += PATIENCE_NS;
    int64_t others_ns[] = {head->announced ? INT64_MAX : operation->started_ns + ANNOUNCE_NS,
                           head->straggler_named ? INT64_MAX : straggler_ns(comm, operation)};
    for (int i = 0; i < 2; i++)
        if (others_ns[i] < next_ns)
            next_ns = others_ns[i];
    return next_ns;
}
