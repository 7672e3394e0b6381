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
#include "group/lateness.h"
#include "group/launcher.h"
#include "group/membership.h"

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
    struct lateness lateness;
    _Atomic int64_t due_ns; /* the earliest deadline of this request and those behind it */
    size_t count, capacity;
    atomic_size_t current; /* moved on by the holder of the token, looked at by whoever reports a failure */
    struct executor executors[]; /* behind them: as many struct fusion_part */
};

/* The control connections to the ring neighbours and to the rendezvous, and what else of the communicator
 * lives on the loop. */
struct comm_ring {
    struct membership membership;
    struct connection *connection[SIDES]; /* NULL when gone */
    uv_timer_t heartbeat, deadline;
    uv_poll_t readable, writable; /* data links, armed while asynchronous calls are blocked */
    bool is_open;                 /* `membership` is */
    bool timers_made, polls_made;
    int handles;                        /* open ones of these, and the service; under the lock when closing */
    struct rendezvous_service *service; /* rank 0, unless somebody else serves */
    char meeting_path[256];             /* the file or Unix socket that it made, removed with it */
    dev_t meeting_device;
    ino_t meeting_inode;
};

/* The failed group that a communicator re-forms. */
struct comm_previous {
    uint64_t instance;
    uint32_t generation;
    int rank, size;
    uint64_t completed;
    bool embedded; /* the rendezvous lived in a member, */
    int server;    /* of this rank; -1: unknown */
    struct tutti_error cause;
};

struct tutti_comm {
    struct settings settings;
    struct log log;
    struct launch launch;
    char host[256]; /* identity of this host */
    char host_name[256];
    struct failpoints failpoints;

    struct group_place place;
    struct connector_targets next_targets; /* where the next rank listens, in our order of preference */
    bool re_forms;                         /* `previous` is what it comes from */
    atomic_int re_formed;                  /* 1: another communicator takes its place, or is about to */
    struct comm_previous previous;
    struct tutti_reform_info reformed;
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
    struct scratch_block *retired;                          /* outgrown while operations still used them */
    uint64_t sequence;                                      /* of the latest call */
    uint64_t completed;                                     /* of the latest that has completed */
    bool finalizes;                                         /* the next call is that of finalize */
    struct fingerprint recent_calls[EXECUTOR_RECENT_CALLS]; /* by sequence modulo their number */
    atomic_uint_fast64_t late_sequence; /* the operation about which the rendezvous is to be asked */
    atomic_int phase;                   /* enum comm_phase; changed under the lock */
    int64_t last_due_ns;                /* of the request at the end of the queue */
    struct tutti_error link_error;      /* of a data link, which is of no more use; with the token */
    int64_t link_error_until_ns;        /* how long it waits for a better reason; 0: there is none */
    atomic_int failed;                  /* 1: `failure` is set and final */
    struct tutti_error failure, local_error;
    bool abort_sent, goodbyes_heard;
    int completion_fd, unfetched; /* eventfd of tutti_fd() or -1; requests complete and not waited for */
    struct worker_task drive_task, abort_task, drain_task, announce_task, ask_task;

    struct comm_ring ring;
};

/* ---- failure.c --------------------------------------------------------------------------------- */

/* Ends the group with this cause, unless it has failed already: later callers see the first.  Any thread,
 * without the lock. */
void comm_fail(tutti_comm *comm, const struct tutti_error *cause);

/* As comm_fail() for a cause that another rank noticed and told, whose sentence is complete. */
void comm_fail_as_told(tutti_comm *comm, const struct tutti_error *cause);

/* The holder of the token met an error on a data link: ends the group, but first gives the control
 * connections a chance to tell why.  A caller waits for that here.  The loop (`on_loop`) does not: false, and
 * it calls again when comm->link_error_until_ns has come, or earlier. */
bool comm_fail_from_link(tutti_comm *comm, const struct tutti_error *cause, bool on_loop);

/* Completes every queued request with the failure.  With the lock and the token. */
void comm_fail_pending(tutti_comm *comm);

/* Returns when the neighbours have been told of the failure, or soon after that proved impossible.  So that a
 * process that ends on the error does not take the reason with it.  Not on the worker's thread. */
void comm_await_abort_sent(tutti_comm *comm);

/* An argument error: keeps it for tutti_get_error() and returns its code. */
int comm_local_error(tutti_comm *comm, const struct tutti_error *error);

bool comm_has_failed(const tutti_comm *comm);

/* At the head of the queue, or NULL.  With the lock. */
const struct operation *comm_operation_under_way(const tutti_comm *comm);

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

/* ---- ring.c: on the worker's thread ------------------------------------------------------------ */

/* Takes over the control connections to the next and the previous rank, and that to the rendezvous (NULL:
 * none).  A neighbour may go on wiring for `grace_ms` before it says its first word. */
int ring_open(tutti_comm *comm, const int control_fds[2], struct connection *rendezvous, int grace_ms,
              struct tutti_error *error);
/* A group of one has no ring, but the loop needs the timers for its calls, too.  A task. */
void ring_make_timers(void *comm);
void ring_send_abort(void *comm);  /* a task */
void ring_drain(void *comm);       /* a task: reads what has arrived on the control connections */
void ring_announce(void *comm);    /* a task: tells the neighbours in which call this rank waits */
void ring_ask(void *comm);         /* a task: asks the rendezvous who has not made the call `late_sequence` */
void ring_say_goodbye(void *comm); /* a task */
void ring_leave(void *comm);       /* a task: tells the rendezvous that this member has left the group */

/* Closes all that lives on the loop; comm->ring.handles is 0, under the lock, when that is over. */
void ring_close(void *comm);

/* ---- join.c, wiring.c --------------------------------------------------------------------------- */

/* Makes the group: rendezvous, then wiring, within `timeout_ms`.  Blocks.  Not on the worker's thread. */
int join_group(tutti_comm *comm, int timeout_ms, struct tutti_error *error);

/* Connects the ring: data and control connections to the next rank, and those that the previous rank
 * makes to us on `listeners` (borrowed).  comm->place is set.  Calls `done` once, with TUTTI_OK when
 * comm->in and comm->out are there and `control_fds`, which pass to the receiver, are connected to the next
 * and the previous rank.  On the worker's thread.  NULL when out of memory. */
typedef void (*wiring_done)(void *context, const int control_fds[2], const struct tutti_error *error);
struct wiring *wiring_start(tutti_comm *comm, const struct listeners *listeners, wiring_done done,
                            void *context);
/* NULL is accepted; `done` is not called any more.  Neighbours that are connected are told `why`. */
void wiring_stop(struct wiring *wiring, const struct tutti_error *why);

/* What is not connected yet, for the error when time is up; and a neighbour to whom that is. */
void wiring_describe(const struct wiring *wiring, char *text, size_t size);
int wiring_missing_rank(const struct wiring *wiring);

#endif
