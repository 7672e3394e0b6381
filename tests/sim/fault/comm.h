/* One communicator of one rank: the shell that src/engine is in a process, over the virtual network.  Files:
 * joining_shell.c finds the rendezvous, wiring_shell.c connects the ring, ring_shell.c has the control
 * connections and the failure rule, calls.c moves data.  The machines inside are the real ones. */
#ifndef TUTTI_TESTS_FAULT_COMM_H
#define TUTTI_TESTS_FAULT_COMM_H

#include "algorithm/algorithm.h"
#include "executor/executor.h"
#include "group/cause.h"
#include "group/lateness.h"
#include "group/membership.h"
#include "tests/sim/fault/control_stream.h"
#include "tests/sim/fault/simulation.h"

/* The bounds of src/engine, which the invariants build on. */
#define EXPLANATION_MS     200 /* how long a broken data link waits for the reason */
#define ABORT_SENT_MS      1000
#define REFUSAL_GRACE_MS   2000
#define WIRING_MIN_MS      5000
#define RENDEZVOUS_LOST_MS 3000
#define ATTEMPT_TIMEOUT_MS 3000

#define COMM_RECENT_CALLS 64
#define COMM_ALGORITHMS   16
#define INCOMING_MAX      8

enum comm_phase { COMM_JOINING, COMM_ACTIVE, COMM_FINALIZING, COMM_FINALIZED };
enum { DATA, CONTROL, ROLES };

/* A call and its request.  Whoever makes it keeps it until it is complete. */
struct call {
    struct call *next;
    struct comm *comm;
    struct fingerprint print;
    void *send, *recv;
    int64_t timeout_ms;
    /* What follows is the communicator's. */
    int status; /* TUTTI_PENDING until it is complete */
    struct executor executor;
    void *scratch;
    struct lateness lateness;
    int64_t due_ns;
};

/* What a member that re-forms knows. */
struct comm_previous {
    uint64_t instance, completed;
    uint32_t generation;
    int rank, size, server;
    bool embedded;
    struct tutti_error cause;
};

struct outgoing {
    struct comm *comm;
    int role;
    struct dial dial;
    struct end *end;
    struct event retry;
    uint8_t answer[HELLO_BYTES];
    uint32_t have;
    bool done;
};

struct incoming {
    struct comm *comm;
    struct end *end; /* NULL: this entry is free */
    uint8_t hello[HELLO_BYTES];
    uint32_t have;
};

struct joining {
    enum { JOIN_MEETING, JOIN_ANNOUNCED, JOIN_WIRING, JOIN_OVER } state;
    int64_t timeout_ms, deadline_ns, retry_ms;
    struct event retry, deadline;
    struct dial dial;
    struct listener listener;
    struct tutti_error why;
    bool waiting_told; /* the rendezvous has said who is awaited */
    int next_address;  /* where the next rank listens */
    struct outgoing outgoing[ROLES];
    struct incoming incoming[INCOMING_MAX];
    struct end *accepted[ROLES];
};

struct comm {
    struct simulation *sim;
    struct process *process;
    struct node *node;
    struct comm *older; /* of the same process */
    struct group_place place;
    enum comm_phase phase;
    struct joining joining;
    bool re_forms;
    struct comm_previous previous;
    struct tutti_reform_info reformed;

    struct control_stream *connection[SIDES];
    struct membership membership;
    bool ring_open;
    struct event heartbeat;

    struct link *in[RANKS_MAX], *out[RANKS_MAX];
    struct executor_group group;
    struct schedule **schedules[COMM_ALGORITHMS]; /* by algorithm, then root */
    struct call *head, **tail;
    uint64_t sequence, completed;
    struct fingerprint recent_calls[COMM_RECENT_CALLS];
    struct event judge, drain, explanation;
    bool driving, explaining; /* explaining: the head met a broken link, and waits for the reason */
    struct tutti_error link_error;

    bool failed, abort_sent, freed;
    struct tutti_error failure;
    struct event abort_task, announce_task, ask_task, goodbye_limit;
    uint64_t late_sequence;
};

/* ---- joining_shell.c ----------------------------------------------------------------------------------- */

/* Begins to join, or to re-form `failed` (NULL: to join).  process_joined() is called once. */
struct comm *comm_begin(struct process *process, const struct comm *failed);

/* Ends joining with a result. */
void join_finish(struct comm *comm, const struct tutti_error *result);
int64_t join_left_ms(const struct comm *comm);
void join_on_deadline(void *comm);

/* ---- wiring_shell.c ------------------------------------------------------------------------------ */

void wiring_shell_start(struct comm *comm);
void wiring_shell_stop(struct comm *comm, const struct tutti_error *why);
/* Tells why the group does not come about. */
void wiring_shell_tell(struct comm *comm, struct control_stream *stream, const struct tutti_error *why,
                       bool of_group);
void wiring_shell_accept(void *comm, struct end *end); /* of the listener */

/* ---- ring_shell.c -------------------------------------------------------------------------------- */

void ring_shell_open(struct comm *comm, struct end *const control[2], struct control_stream *rendezvous);
void comm_fail(struct comm *comm, const struct tutti_error *cause, bool noticed_here);
void comm_fail_from_link(struct comm *comm, const struct tutti_error *cause);
const struct operation *comm_operation_under_way(const struct comm *comm);
void comm_announce(struct comm *comm);
void comm_ask(struct comm *comm, uint64_t sequence);
void comm_abort(struct comm *comm, const char *reason);

/* Closes and frees what a failed, finalized or still working communicator has; a working one fails first.
 * The rest, which others look at, goes with comm_release(), also for processes that have ended. */
void comm_free(struct comm *comm);
void comm_release(struct comm *comm);

/* ---- calls.c ------------------------------------------------------------------------------------- */

/* TUTTI_PENDING: process_called() follows; else what a dead communicator answers. */
int comm_call(struct comm *comm, struct call *call);
/* The last barrier; process_called() follows. */
int comm_finalize(struct comm *comm, struct call *barrier);
/* Once the barrier is complete: the goodbyes, until the deadline of the barrier. */
void comm_say_goodbye(struct comm *comm, int64_t until_ns);
void comm_goodbyes_heard(struct comm *comm);
void comm_fail_pending(struct comm *comm);
void comm_drive(void *comm); /* a data link may go on */
void calls_free(struct comm *comm);

/* ---- program.c: what the user's program is told --------------------------------------------------- */

void process_joined(struct comm *comm, const struct tutti_error *result);
void process_called(struct call *call); /* complete, well or not */
void process_finalized(struct comm *comm);
void process_failed(struct comm *comm); /* the others have been told: calls return now */

#endif
