/* The communicator, as the files of the engine share it.
 *
 * Who may touch what:
 *   - what is set while joining and constant afterwards: anyone;
 *   - links, scratch memory and the operation at the head of the queue: the holder of the progress token;
 *   - `ring` and everything of libuv: the worker's thread;
 *   - the rest: under `lock`, but for `failed`, the abort word, which spinners read without it. */
#ifndef TUTTI_ENGINE_COMM_H
#define TUTTI_ENGINE_COMM_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include "algorithm/algorithm.h"
#include "base/log.h"
#include "base/settings.h"
#include "engine/connection.h"
#include "engine/connector.h"
#include "engine/listeners.h"
#include "engine/rendezvous_service.h"
#include "engine/wait.h"
#include "engine/worker.h"
#include "executor/executor.h"
#include "group/launcher.h"
#include "wire/hello.h"

#define COMM_ALGORITHMS_MAX 32 /* of the table in algorithm/ */

/* Who moves data.  FREE: nobody right now.  CALLER: a thread in a blocking call or a wait.  LOOP: the worker,
 * in a callback; it gives the token back before it returns to libuv. */
enum progress_token { TOKEN_FREE, TOKEN_CALLER, TOKEN_LOOP };

/* FINALIZING: the last call has been issued; no other may follow, but the group can still fail. */
enum comm_phase { COMM_ACTIVE, COMM_FINALIZING, COMM_FINALIZED };

/* Calls that were issued together. */
struct tutti_request {
    tutti_request *next;                     /* in the queue */
    tutti_request *next_taken, **link_taken; /* among those in use, or the spare ones */
    tutti_comm *comm;
    int status;   /* TUTTI_PENDING until complete */
    bool signals; /* begun by tutti_start(): makes tutti_fd() readable */
    bool straggler_named, announced;
    _Atomic int64_t due_ns; /* the earliest deadline of this request and those behind it */
    size_t count, capacity;
    atomic_size_t current; /* moved on by the holder of the token, looked at by whoever reports a failure */
    struct executor executors[]; /* behind them: as many struct fusion_part */
};

/* A ring neighbour. */
struct comm_peer {
    int rank;
    uint8_t member_id[MEMBER_ID_BYTES];
    char host_name[256];              /* for people */
    char text[320];                   /* "rank 3 (host b, pid 4711)" */
    bool same_host;                   /* says so itself; proved when a Unix socket connects */
    struct connector_targets targets; /* where it listens, in our order of preference */
};

/* Control connections to the ring neighbours, and what else of the communicator lives on the loop. */
struct comm_ring {
    struct connection *connection[2]; /* to next and previous; NULL when gone */
    int64_t heard_ms[2];
    atomic_uint_fast64_t heard_sequence[2]; /* the latest call that the peer has made, as far as known */
    bool goodbye_heard[2];
    int64_t ticked_ms;
    uv_timer_t heartbeat, deadline;
    uv_poll_t readable, writable; /* data links, armed while asynchronous calls are blocked */
    bool polls_made;
    int handles;                        /* open ones of these, and the service; under the lock when closing */
    struct rendezvous_service *service; /* rank 0, unless somebody else serves */
    char meeting_path[256];             /* the file or Unix socket that it made, removed with it */
    dev_t meeting_device;
    ino_t meeting_inode;
};

struct tutti_comm {
    struct settings settings;
    struct log log;
    struct launch launch;
    char host[256]; /* identity of this host */
    char host_name[256];
    uint8_t member_id[MEMBER_ID_BYTES];

    int rank, size; /* -1 before the group is there */
    int local_size; /* ranks on this host */
    uint64_t instance;
    uint32_t generation;
    struct comm_peer peers[2]; /* next, previous */
    bool joined;               /* the ring is there */
    struct worker *worker;

    struct link **in, **out; /* by rank */
    struct executor_group group;
    struct wait_policy wait_policy;
    int doorbell; /* eventfd: readable once the group has failed */

    pthread_mutex_t lock;
    pthread_cond_t
        changed; /* a request completed, the token became free, the group failed, goodbyes were heard */
    enum progress_token token;
    atomic_int waiters; /* threads that wait for the token or for a request */
    tutti_request *head, **tail, *spare, *taken;
    struct schedule **schedules[COMM_ALGORITHMS_MAX]; /* by algorithm, then root; made on first use */
    uint8_t *scratch;
    size_t scratch_bytes;
    struct scratch_block *retired; /* outgrown while operations still used them */
    uint64_t sequence;
    atomic_int phase;    /* enum comm_phase; changed under the lock */
    int64_t last_due_ns; /* of the request at the end of the queue */
    atomic_int failed;   /* 1: `failure` is set and final */
    struct tutti_error failure, local_error;
    bool abort_sent;
    int completion_fd, completed; /* eventfd of tutti_fd() or -1; requests complete and not waited for */
    struct worker_task drive_task, abort_task, drain_task, heartbeat_task;

    struct comm_ring ring;
};

/* ---- failure.c --------------------------------------------------------------------------------- */

/* Ends the group with this cause, unless it has failed already: later callers see the first.  Any thread,
 * without the lock. */
void comm_fail(tutti_comm *comm, const struct tutti_error *cause);

/* As comm_fail() for a cause that another rank noticed and told, whose sentence is complete. */
void comm_fail_as_told(tutti_comm *comm, const struct tutti_error *cause);

/* The holder of the token met an error on a data link: ends the group, but first gives the peer's control
 * connection a chance to tell why.  `on_loop`: on the worker's thread. */
void comm_fail_from_link(tutti_comm *comm, const struct tutti_error *cause, bool on_loop);

/* Completes every queued request with the failure.  With the lock and the token. */
void comm_fail_pending(tutti_comm *comm);

/* Returns when the neighbours have been told of the failure, or soon after that proved impossible.  So that a
 * process that ends on the error does not take the reason with it.  Not on the worker's thread. */
void comm_await_abort_sent(tutti_comm *comm);

/* An argument error: keeps it for tutti_get_error() and returns its code. */
int comm_local_error(tutti_comm *comm, const struct tutti_error *error);

bool comm_has_failed(const tutti_comm *comm);

/* The one answer of a dead communicator to every call: its failure, or that it is finalized. With the lock.
 */
int comm_refuse_if_dead(tutti_comm *comm);

/* Waits on `changed` until `until_ns` at most.  With the lock. */
void comm_wait_changed(tutti_comm *comm, int64_t until_ns);

/* ---- issue.c: with the lock -------------------------------------------------------------------- */

/* Puts validated calls at the end of the queue as one request; fused where that pays. */
int issue_calls(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **request);
void issue_release(tutti_request *request); /* for reuse */
void issue_free(tutti_comm *comm);          /* requests, schedules, scratch; needs no lock any more */

/* ---- progress.c -------------------------------------------------------------------------------- */

/* Issues validated calls as one request: left to the loop, or driven by the caller as in tutti_run(). */
int progress_issue(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **request);
int progress_run(tutti_comm *comm, const struct tutti_call *calls, size_t count, int timeout_ms,
                 tutti_request **request);
int progress_wait(tutti_request **request, int timeout_ms);

/* Runs the call as the last one of this communicator. */
int progress_run_last(tutti_comm *comm, const struct tutti_call *call);

/* Marks the head of the queue complete and takes it out.  With the lock and the token. */
void progress_complete_head(tutti_comm *comm, int status);

/* Moves asynchronous calls on the worker's thread; a task. */
void progress_drive_on_loop(void *comm);

/* ---- lateness.c: with the token ----------------------------------------------------------------- */

/* The head of the queue is blocked: warns or ends the group when it is late. */
void lateness_judge(tutti_comm *comm, tutti_request *head, int64_t now_ns);

/* When to judge again at the latest. */
int64_t lateness_next_ns(const tutti_comm *comm, const tutti_request *head, int64_t now_ns);

/* ---- ring.c: on the worker's thread ------------------------------------------------------------ */

int ring_open(tutti_comm *comm, const int control_fds[2], struct tutti_error *error);
void ring_send_abort(void *comm); /* a task */
void ring_drain(void *comm);      /* a task: reads what has arrived on the control connections */
void ring_send_goodbye(void *comm);
void ring_send_heartbeats(void *comm);            /* a task */
bool ring_goodbyes_heard(const tutti_comm *comm); /* with the lock */

/* Closes all that lives on the loop; comm->ring.handles is 0, under the lock, when that is over. */
void ring_close(void *comm);

/* ---- join.c, wiring.c --------------------------------------------------------------------------- */

/* Makes the group: rendezvous, then wiring.  Blocks.  Not on the worker's thread. */
int join_group(tutti_comm *comm, struct tutti_error *error);

/* Connects the ring: data and control connections to the next rank, and those that the previous rank
 * makes to us on `listeners` (borrowed).  comm->peers are set.  Calls `done` once, with TUTTI_OK when
 * comm->in, comm->out and the ring are ready.  On the worker's thread.  NULL when out of memory. */
struct wiring *wiring_start(tutti_comm *comm, const struct listeners *listeners,
                            void (*done)(void *context, const struct tutti_error *error), void *context);
/* NULL is accepted; `done` is not called any more.  Neighbours that are connected are told `why`. */
void wiring_stop(struct wiring *wiring, const struct tutti_error *why);

/* What is not connected yet, for the error when time is up. */
void wiring_describe(const struct wiring *wiring, char *text, size_t size);

#endif
