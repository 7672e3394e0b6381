/* One communicator of one rank: the shell that src/engine is in a process, over the virtual network.  Files:
 * joining_shell.c finds the rendezvous, wiring_shell.c connects the ring, ring_shell.c has the control
 * connections and the failure rule, roll_shell.c the cards; dial_shell.c, door_shell.c and mesh_shell.c open
 * links beyond the ring; arena_shell.c has the memory that the ranks of a host share; calls.c moves the data
 * of collectives, messages.c that of sends and receives.  The machines inside are the real ones. */
#ifndef TUTTI_TESTS_FAULT_COMM_H
#define TUTTI_TESTS_FAULT_COMM_H

#include "algorithm/select.h"
#include "executor/fusion.h"
#include "executor/mailbox.h"
#include "group/cause.h"
#include "group/lateness.h"
#include "group/membership.h"
#include "group/roster.h"
#include "local/mixed.h"
#include "tests/sim/fault/control_stream.h"
#include "tests/sim/fault/simulation.h"

/* The bounds of src/engine, which the invariants build on. */
#define EXPLANATION_MS     200 /* how long a broken data link waits for the reason */
#define ABORT_SENT_MS      1000
#define REFUSAL_GRACE_MS   2000
#define WIRING_MIN_MS      5000
#define RENDEZVOUS_LOST_MS 3000
#define ATTEMPT_TIMEOUT_MS 3000

#define COMM_ALGORITHMS 64
#define VISITORS_MAX    256

enum comm_phase { COMM_JOINING, COMM_ACTIVE, COMM_FINALIZING, COMM_FINALIZED };
enum { DATA, CONTROL, ROLES };
enum { CHANNEL_COLLECTIVES, CHANNEL_MESSAGES, CHANNELS };

/* A collective call and its request.  Whoever makes it keeps it until it is complete. */
struct call {
    struct call *next;
    struct comm *comm;
    struct tutti_call args; /* with every offset that it has */
    /* What follows is the communicator's. */
    int status; /* TUTTI_PENDING until it is complete */
    union {
        struct operation operation; /* what all begin with */
        struct executor executor;
        struct direct direct;
        struct mixed mixed;
    };
    struct fusion_part part; /* where the input is staged */
    void *scratch;
    struct lateness lateness;
    int64_t due_ns;
};

/* Sends and receives that are issued together, and their request.  Likewise. */
struct letters {
    struct letters *next;
    struct comm *comm;
    struct mail *mails;
    size_t count;
    int64_t timeout_ms;
    /* What follows is the communicator's. */
    int status;
    size_t pending;
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

/* ---- Connections ------------------------------------------------------------------------------- */

struct dialler_events {
    /* Is this answer that of the rank?  TUTTI_OK or an error. */
    int (*check)(void *context, const struct hello *answer, struct tutti_error *error);
    /* Called once: with the connection, which passes to the receiver, or with NULL and why not. */
    void (*done)(void *context, struct end *end, const struct tutti_error *why);
};

/* Connects and says hello, again and again, as engine/dial.c does.  Zeroed: it does not dial. */
struct dialler {
    struct comm *comm; /* NULL: it does not dial (any more) */
    const struct dialler_events *events;
    void *context;
    struct hello hello;
    int address;
    int64_t give_up_ms, started_ns; /* give_up_ms 0: never */
    struct dial dial;
    struct end *end; /* whose answer it waits for */
    struct event retry;
    uint8_t answer[HELLO_BYTES];
    uint32_t have;
    struct tutti_error why; /* what the latest attempt met */
};

void dialler_start(struct dialler *dialler); /* filled in down to `give_up_ms` */
void dialler_stop(struct dialler *dialler);
bool hello_send(struct end *end, const struct hello *hello);

#define DOOR_NOT_YET (-1)

struct door_events {
    int (*judge)(struct comm *comm, const struct hello *hello, struct hello *answer);
    void (*take)(struct comm *comm, const struct hello *hello, struct end *end);
};

/* A connection that has not been let in yet. */
struct visitor {
    struct comm *comm;
    struct end *end;
    bool waits; /* its hello is here, and was answered DOOR_NOT_YET */
    uint8_t hello[HELLO_BYTES];
    uint32_t have;
    TAILQ_ENTRY(visitor) entry;
};

/* As engine/door.c. */
struct door {
    struct listener listener;
    const struct door_events *events; /* NULL: visitors are not looked at yet */
    int visitor_count;
    TAILQ_HEAD(visitor_list_head, visitor) visitors; /* in the order of arrival */
};

void door_listen(struct comm *comm);
void door_hand_over(struct comm *comm, const struct door_events *events); /* asks those that wait again */
void door_ask_again(struct comm *comm);
void door_close(struct comm *comm);

/* Links of one kind to the other ranks, as in engine/comm.h. */
struct channel {
    struct link *in[RANKS_MAX], *out[RANKS_MAX];
    bool wanted[RANKS_MAX], dialled[RANKS_MAX];
    struct call_out *dials[RANKS_MAX];
    struct executor_group group;
};

struct outgoing {
    struct comm *comm;
    int role;
    struct dialler dialler;
    struct end *end; /* answered */
};

struct joining {
    enum { JOIN_MEETING, JOIN_ANNOUNCED, JOIN_WIRING, JOIN_CARDS, JOIN_OVER } state;
    int64_t timeout_ms, deadline_ns, retry_ms;
    struct event retry, deadline;
    struct dial dial;
    struct tutti_error why;
    bool waiting_told; /* the rendezvous has said who is awaited */
    int next_address;  /* where the next rank listens */
    struct outgoing outgoing[ROLES];
    struct end *accepted[ROLES];
};

/* ---- The communicator -------------------------------------------------------------------------- */

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
    struct roster roster;
    struct host_map hosts;
    struct select_group select;

    struct arena_room *room; /* NULL: no shared memory */
    struct arena *arena;     /* in it; likewise */
    struct event bell;

    struct door door;
    struct channel channels[CHANNELS];
    struct event mesh_task;
    struct schedule **schedules[COMM_ALGORITHMS]; /* by algorithm, then root */
    struct call *head, **tail;
    bool finalizes; /* the next call is that of finalize */
    uint64_t sequence, completed;
    struct fingerprint recent_calls[EXECUTOR_RECENT_CALLS];
    struct mailbox *mailbox; /* NULL before the first message */
    struct letters *letters; /* under way */
    struct event judge, go_on, drain, explanation;
    bool driving, explaining; /* explaining: a link is broken, and its error waits for the reason */
    struct tutti_error link_error;

    bool failed, abort_sent, freed;
    struct tutti_error failure;
    struct event abort_task, announce_task, ask_task, goodbye_limit;
    uint64_t late_sequence;
};

/* ---- joining_shell.c --------------------------------------------------------------------------- */

/* Begins to join, or to re-form `failed` (NULL: to join).  process_joined() is called once. */
struct comm *comm_begin(struct process *process, const struct comm *failed);

/* Ends joining with a result. */
void join_finish(struct comm *comm, const struct tutti_error *result);
int64_t join_left_ms(const struct comm *comm);
void join_on_deadline(void *comm);

/* ---- wiring_shell.c ---------------------------------------------------------------------------- */

void wiring_shell_start(struct comm *comm);
void wiring_shell_stop(struct comm *comm, const struct tutti_error *why);
/* Tells why the group does not come about. */
void wiring_shell_tell(struct comm *comm, struct control_stream *stream, const struct tutti_error *why,
                       bool of_group);

/* ---- ring_shell.c ------------------------------------------------------------------------------ */

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

/* ---- roll_shell.c ------------------------------------------------------------------------------ */

/* Begins with the own card, when the ring is open, or in a group of one. */
void roll_shell_open(struct comm *comm);
void roll_shell_on_card(void *comm, const Wire__Card *card);

/* ---- mesh_shell.c ------------------------------------------------------------------------------ */

void mesh_shell_want(struct comm *comm, int channel, int rank);
void mesh_shell_want_for(struct comm *comm, const struct schedule *schedule);
void mesh_shell_take_door(struct comm *comm);
bool mesh_shell_is_for_later(const struct comm *comm, const struct hello *hello);
void mesh_shell_stop(struct comm *comm); /* gives up what is under way */
void mesh_shell_free(struct comm *comm);
/* A data link over a connection that it takes over. */
struct link *mesh_shell_make_link(struct comm *comm, struct end *end, int rank, int channel,
                                  const char *peer_text);

/* ---- arena_shell.c ----------------------------------------------------------------------------- */

/* Once the members know each other: shares memory with those of the same host, where all of them do. */
void arena_shell_open(struct comm *comm);
void arena_shell_close(struct comm *comm);

/* ---- calls.c ----------------------------------------------------------------------------------- */

/* Once the members know each other: what calls need. */
void comm_prepare(struct comm *comm);

/* TUTTI_PENDING: process_called() follows; else what a dead communicator answers. */
int comm_call(struct comm *comm, struct call *call);
/* The last barrier; process_called() follows. */
int comm_finalize(struct comm *comm, struct call *barrier);
/* Once the barrier is complete: the goodbyes, until the deadline of the barrier. */
void comm_say_goodbye(struct comm *comm, int64_t until_ns);
void comm_goodbyes_heard(struct comm *comm);
void comm_fail_pending(struct comm *comm);
void comm_drive(void *comm); /* a data link may go on */
int comm_refuse_if_dead(const struct comm *comm);
void calls_free(struct comm *comm);

/* ---- messages.c -------------------------------------------------------------------------------- */

/* TUTTI_PENDING: process_exchanged() follows. */
int comm_exchange(struct comm *comm, struct letters *letters);
/* TUTTI_OK, or an error that ends the group.  *moved: something was. */
int messages_move(struct comm *comm, bool *moved, struct tutti_error *error);
int64_t messages_due_ns(const struct comm *comm);
/* True with a sentence in *error when a deadline has passed. */
bool messages_judge(const struct comm *comm, struct tutti_error *error);
void messages_fail(struct comm *comm);

/* ---- program.c: what the user's program is told ------------------------------------------------ */

void process_joined(struct comm *comm, const struct tutti_error *result);
void process_called(struct call *call); /* complete, well or not */
void process_exchanged(struct letters *letters);
void process_finalized(struct comm *comm);
void process_failed(struct comm *comm); /* the others have been told: calls return now */

#endif
