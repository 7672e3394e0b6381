/* The communicator, as the files of the engine share it.
 *
 * Who may touch what:
 *   - what is set while joining and constant afterwards: anyone;
 *   - links, scratch memory and the operation at the head of the queue: the holder of the progress token;
 *   - `ring`, the door, dials and everything of libuv: the worker's thread;
 *   - the rest: under `lock`, but for `failed`, the abort word, which spinners read without it. */
#ifndef TUTTI_ENGINE_COMM_H
#define TUTTI_ENGINE_COMM_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include "algorithm/select.h"
#include "base/log.h"
#include "base/settings.h"
#include "engine/connection.h"
#include "engine/connector.h"
#include "engine/dial.h"
#include "engine/door.h"
#include "engine/listeners.h"
#include "engine/rendezvous_service.h"
#include "engine/wait.h"
#include "engine/worker.h"
#include "executor/fusion.h"
#include "executor/mailbox.h"
#include "group/lateness.h"
#include "group/launcher.h"
#include "group/membership.h"
#include "group/roster.h"
#include "local/direct.h"
#include "local/mixed.h"

#define COMM_ALGORITHMS_MAX 64 /* that have schedules */
#define COMM_LANES_MAX      (WORKERS_MAX - 1)
#define COMM_MEMOS          16 /* a power of two */

/* Who moves data.  FREE: nobody right now.  CALLER: a thread in a blocking call or a wait.  LOOP: the worker,
 * in a callback; it gives the token back before it returns to libuv. */
enum progress_token { TOKEN_FREE, TOKEN_CALLER, TOKEN_LOOP };

/* FINALIZING: the last call has been issued; no other may follow, but the group can still fail. */
enum comm_phase { COMM_ACTIVE, COMM_FINALIZING, COMM_FINALIZED };

/* A collective: in shared memory, over links, or both. */
union any_operation {
    struct operation operation; /* what all begin with */
    struct executor executor;
    struct direct direct;
    struct mixed mixed;
};

/* Calls that were issued together: collectives, each of which is an operation, or messages, each of which has
 * a mail. */
struct tutti_request {
    tutti_request *next, **link;             /* in the queue, or among messages */
    tutti_request *next_taken, **link_taken; /* among those in use, or the spare ones */
    tutti_comm *comm;
    struct tutti_plan *plan; /* whose request it is, or NULL */
    int status;              /* TUTTI_PENDING until complete */
    bool signals;            /* begun by tutti_start(): makes tutti_fd() readable */
    struct lateness lateness;
    int64_t looked_ns;      /* for frames of other calls; 0: not yet */
    _Atomic int64_t due_ns; /* the earliest deadline of this request and, of collectives, those behind it */
    size_t count, capacity; /* of operations */
    bool is_spare_size;
    atomic_size_t current; /* moved on by the holder of the token, looked at by whoever reports a failure */
    struct mail *mails;    /* NULL: collectives; else `mail_count`, of which `pending` are not complete */
    size_t mail_count, pending;
    void *memory;                     /* copies of counts and offsets; NULL: none */
    struct stripes *stripes;          /* of its one operation; NULL: it is not striped */
    union any_operation operations[]; /* behind them: a struct fusion_part for each call */
};

/* Calls that are made again and again. */
struct tutti_plan {
    tutti_comm *comm;
    tutti_request *request;
    bool busy; /* under way, or not yet waited for */
    int timeout_ms;
    void *scratch;
};

/* Links of one kind to the other ranks.  Collectives have the ring's from the beginning; the others are
 * opened when they are first needed (mesh.h). */
enum { CHANNEL_COLLECTIVES, CHANNEL_MESSAGES, CHANNELS };

struct channel {
    struct link **in, **out; /* by rank; with the token */
    bool *wanted;            /* by rank: to be opened, or open; under the lock */
    bool *dialled;           /* likewise; on the worker's thread */
    struct dial **dials;     /* under way, by rank; likewise */
    struct executor_group group;
};

/* A link that has been opened and that the holder of the token has not seen yet. */
struct fresh_link {
    struct fresh_link *next;
    int channel, rank;
    bool out;
    struct link *link;
};

/* Communicators of one family have instances that differ in these lower bits only. */
#define INSTANCE_OWN_BITS 40

/* A communicator of tutti_init() or tutti_reform(), the root, and those that were made of it: they fail
 * together. Lives as long as the last of them.  Its lock comes before those of communicators. */
struct family {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the abort has been sent, or the root freed */
    bool abort_sent;        /* the neighbours of the root have been told */
    int references;
    tutti_comm *root;     /* NULL when it has been freed */
    tutti_comm *children; /* through `sibling` */
    struct roster roster; /* of the root; constant once the root has joined */
};

/* The control connections to the ring neighbours and to the rendezvous, and what else of the communicator
 * lives on the loop. */
struct comm_ring {
    struct membership membership;
    struct connection *connection[SIDES]; /* NULL when gone */
    uv_timer_t heartbeat, deadline;
    struct link_poll *polls; /* of data links, armed while asynchronous calls are blocked; polls.h */
    bool is_open;            /* `membership` is */
    bool timers_made;
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
    struct family *family;
    tutti_comm *sibling, **sibling_link; /* among the children of the family; NULL of the root */
    int *root_ranks;                     /* by rank; NULL of the root */
    struct host_map hosts;
    int *host_of;                     /* of a child; the root has the roster's */
    unsigned splits;                  /* made of this one, under the lock */
    struct subgroup_count *subgroups; /* likewise; split.c */
    struct listeners listeners;
    struct door *door;                     /* of the root */
    tutti_comm *lane_of;                   /* NULL: it is no lane */
    int lane;                              /* its number, from 1 */
    tutti_comm *lanes[COMM_LANES_MAX];     /* stripes.h */
    atomic_uint lanes_done;                /* parts that lanes have completed */
    struct connector_targets next_targets; /* where the next rank listens, in our order of preference */
    bool re_forms;                         /* `previous` is what it comes from */
    atomic_int re_formed;                  /* 1: another communicator takes its place, or is about to */
    struct comm_previous previous;
    struct tutti_reform_info reformed;
    struct worker *worker;

    struct channel channels[CHANNELS];
    struct fresh_link *fresh, **fresh_tail; /* under the lock */
    atomic_int fresh_count;
    int message_links;           /* from how many ranks messages may come; with the token */
    struct fresh_link *replaced; /* by later ones; with the token */
    int nudge;                   /* eventfd: readable when whoever sleeps with the token should look up */
    atomic_bool sleeps;          /* somebody does */
    struct select_group select;
    struct selection_memo { /* of the latest selections */
        struct select_call call;
        struct selection selection;
    } memos[COMM_MEMOS];
    struct wait_policy wait_policy;
    int doorbell;                  /* eventfd: readable once the group has failed */
    struct colocation *colocation; /* colocation.h; NULL: no shared memory */
    struct arena *arena;           /* of it; likewise */

    pthread_mutex_t lock;
    pthread_cond_t
        changed; /* a request completed, the token became free, the group failed, goodbyes were heard */
    enum progress_token token;
    bool watches;       /* the loop is armed for all messages that are blocked, */
    bool looks_soon;    /* the loop found a caller at work, and looks again in a millisecond */
    bool watches_head;  /* and for the head of the queue */
    atomic_int waiters; /* threads that wait for the token or for a request */
    tutti_request *head, **tail, *spare, *taken;
    struct mailbox *mailbox; /* with the token; NULL before the first message */
    tutti_request *messages; /* under way; under the lock */
    atomic_int posted_count;
    tutti_request *posted, **posted_tail;             /* not in the mailbox yet; under the lock */
    atomic_int message_count;                         /* requests in these two */
    atomic_int queue_count;                           /* requests from `head` on */
    struct schedule **schedules[COMM_ALGORITHMS_MAX]; /* by algorithm_place(), then root; made on first use */
    uint8_t *scratch;
    size_t scratch_bytes;
    struct scratch_block *retired; /* outgrown while operations still used them */
    uint64_t sequence;             /* of the latest call */
    uint64_t completed;            /* of the latest that has completed */
    bool is_uncounted;             /* the next call has the number 0; mixed_agreement.h */
    bool finalizes;                /* the next call is that of finalize */
    struct fingerprint recent_calls[EXECUTOR_RECENT_CALLS]; /* by sequence modulo their number */
    atomic_uint_fast64_t late_sequence; /* the operation about which the rendezvous is to be asked */
    atomic_int phase;                   /* enum comm_phase; changed under the lock */
    int64_t last_due_ns;                /* of the request at the end of the queue */
    struct tutti_error link_error;      /* of a data link, which is of no more use; with the token */
    int64_t link_error_until_ns;        /* how long it waits for a better reason; 0: there is none */
    atomic_int failed;                  /* 1: `failure` is set and final */
    struct tutti_error failure, local_error;
    bool goodbyes_heard;
    int completion_fd, unfetched; /* eventfd of tutti_fd() or -1; requests complete and not waited for */
    struct worker_task drive_task, abort_task, drain_task, announce_task, ask_task, mesh_task, look_task;

    const struct membership *membership; /* of the root; NULL in a group of one */
    struct comm_ring ring;
};

/* Of a rank of a communicator: the rank in the root (negative stays what it is), and what the roster says. */
static inline int comm_root_rank(const tutti_comm *comm, int rank)
{
    return rank >= 0 && comm->root_ranks ? comm->root_ranks[rank] : rank;
}

static inline const struct roster_member *comm_member(const tutti_comm *comm, int rank)
{
    return &comm->family->roster.members[comm_root_rank(comm, rank)];
}

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

/* Fails a communicator of the family that has just been made, if the family has failed meanwhile. */
void comm_share_failure(tutti_comm *child);

/* The root has gone: what is left of the family is dead.  With the lock of the family. */
void comm_fail_orphans(struct family *family);

/* Wakes whoever sleeps with the token, to look at what is new. */
void comm_nudge(tutti_comm *comm);

/* ---- issue.c: with the lock -------------------------------------------------------------------- */

/* Puts validated calls at the end of the queue as one request; fused where that pays. */
int issue_calls(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **request);
/* Prepares calls for a plan, whose request and scratch memory become its own; and puts that in the queue. */
int issue_plan(tutti_comm *comm, const struct tutti_call *calls, size_t count, struct tutti_plan *plan);
int issue_planned(struct tutti_plan *plan, tutti_request **request);
/* Queues the spare request, whose one operation has been started as number comm->sequence. */
tutti_request *issue_begun(tutti_comm *comm, const struct tutti_call *call);
void issue_unplan(struct tutti_plan *plan);
int issue_choose(tutti_comm *comm, const struct tutti_call *call, struct selection *selection,
                 struct tutti_error *error);
void issue_release(tutti_request *request); /* for reuse */
void issue_free(tutti_comm *comm);          /* requests, schedules, scratch; needs no lock any more */

/* Is it one in shared memory?  Or one that is partly so? */
static inline bool operation_is_direct(const struct operation *operation)
{
    return operation->call.algorithm == ALGORITHM_SHARED_NUMBER;
}
static inline bool operation_is_mixed(const struct operation *operation)
{
    return operation->call.algorithm >= ALGORITHM_MIXED_NUMBER;
}

/* For messages.c: a request of `count` mails, NULL when out of memory. */
tutti_request *issue_take_mails(tutti_comm *comm, size_t count);
int issue_shortest_timeout_ms(const tutti_comm *comm, const struct tutti_call *calls, size_t count);

/* ---- messages.c -------------------------------------------------------------------------------- */

/* Validated sends and receives become a request that is to be posted.  With the lock. */
int messages_issue(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **request);

/* Moves messages, with the token and without the lock.  TUTTI_OK, or an error that ends the group. */
int messages_move(tutti_comm *comm, bool *moved, struct tutti_error *error);
static inline bool messages_are_pending(const tutti_comm *comm)
{
    return atomic_load_explicit(&comm->message_count, memory_order_relaxed) > 0;
}

/* The earliest deadline.  With the token. */
int64_t messages_due_ns(const tutti_comm *comm);
/* Warns about what is late; true with a sentence in *error when a deadline has passed.  With the token. */
bool messages_judge(tutti_comm *comm, int64_t now_ns, struct tutti_error *error);

/* Completes all requests with the failure.  With the lock and the token. */
void messages_fail(tutti_comm *comm);
void messages_free(tutti_comm *comm);

/* ---- progress.c -------------------------------------------------------------------------------- */

/* Issues validated calls as one request: left to the loop, or driven by the caller as in tutti_run(). */
int progress_issue(tutti_comm *comm, const struct tutti_call *calls, size_t count, tutti_request **request);
int progress_run(tutti_comm *comm, const struct tutti_call *calls, size_t count, int timeout_ms,
                 tutti_request **request);
/* How long an operation in shared memory looks before it returns: once a waiter yields, hardly at all. */
void progress_set_spins(tutti_comm *comm, const struct waiter *waiter);
/* Issues a validated call for the loop alone to move; and whether it has, without moving anything. */
int progress_post(tutti_comm *comm, const struct tutti_call *call, tutti_request **request);
int progress_collect(tutti_request **request);
int progress_start_plan(struct tutti_plan *plan, tutti_request **request);
int progress_run_plan(struct tutti_plan *plan, int timeout_ms, tutti_request **request);
int progress_wait(tutti_request **request, int timeout_ms);

/* Waits until no message is under way, at most until `until_ns`. */
int progress_drain_messages(tutti_comm *comm, int64_t until_ns);

/* Runs the call as the last one of this communicator. */
int progress_run_last(tutti_comm *comm, const struct tutti_call *call);

/* Marks the head of the queue complete and takes it out; a request that is in no queue any more.  With the
 * lock and the token. */
void progress_complete_head(tutti_comm *comm, int status);
void progress_complete(tutti_comm *comm, tutti_request *request, int status);

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
 * makes to us on comm->listeners.  comm->place is set.  Calls `done` once, with TUTTI_OK when the links of
 * the collectives' channel and comm->door are there and `control_fds`, which pass to the receiver, are
 * connected to the next and the previous rank.  On the worker's thread.  NULL when out of memory. */
typedef void (*wiring_done)(void *context, const int control_fds[2], const struct tutti_error *error);
struct wiring *wiring_start(tutti_comm *comm, wiring_done done, void *context);
/* NULL is accepted; `done` is not called any more.  Neighbours that are connected are told `why`. */
void wiring_stop(struct wiring *wiring, const struct tutti_error *why);

/* What is not connected yet, for the error when time is up; and a neighbour to whom that is. */
void wiring_describe(const struct wiring *wiring, char *text, size_t size);
int wiring_missing_rank(const struct wiring *wiring);

#endif
