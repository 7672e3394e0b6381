/* tutti: collective communication for distributed machine learning on CPUs.
 *
 * The whole public interface, meant to be read in one sitting.
 *
 *     struct tutti_config config = TUTTI_CONFIG_INIT;
 *     tutti_comm *comm;
 *     if (tutti_init(&config, &comm) == TUTTI_OK)
 *         tutti_all_reduce(comm, x, x, count, TUTTI_FLOAT32, TUTTI_SUM);
 *     tutti_finalize(comm, 10000);
 *     tutti_free(comm);
 *
 * Words.  A *communicator* is this process's membership in a group of `size` ranks, numbered from 0.
 * A *collective* is a call that every rank of the group makes, in the same order, with matching
 * arguments.  `count` is always a number of elements, never of bytes; what it counts is said at each
 * operation.
 *
 * Errors.  A function that can fail returns a value of `enum tutti_status`: zero or positive is success,
 * negative is an error; tutti_get_error() gives the full sentence.  An error in the arguments is local: the
 * call did nothing, and the group lives on.  Any other error (a lost peer, an expired deadline, an abort) is
 * the end of the group on every rank: each pending and later call returns an error that names the cause, and
 * what is left to do is tutti_wait() for what is pending, tutti_get_error() and tutti_free().  A failed call
 * may have left anything in its `recv` buffer, but nothing writes there after it returned.
 *
 * Threads.  Calls on different communicators are independent, those that were split from another included.
 * Collectives on one communicator must be issued in the same order on every rank, so issue them from one
 * thread at a time; calls that overlap are serialised.  Sends and receives may be made by any thread at any
 * time, also while another is in a collective.  tutti_wait(), tutti_abort() and tutti_get_error() may be
 * called from any thread at any time.
 *
 * Processes.  A child of fork() cannot use its parent's communicators: calls on them return
 * TUTTI_ERR_UNSUPPORTED and disturb nobody.  tutti handles no signals, and its sockets raise no SIGPIPE.
 */
#ifndef TUTTI_TUTTI_H
#define TUTTI_TUTTI_H

#include <stddef.h>
#include <stdint.h>

#if defined(TUTTI_STATIC)
#define TUTTI_API
#elif defined(__GNUC__)
#define TUTTI_API __attribute__((visibility("default")))
#else
#define TUTTI_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define TUTTI_VERSION_MAJOR 0
#define TUTTI_VERSION_MINOR 2
#define TUTTI_VERSION_PATCH 0

/* ---- Status ------------------------------------------------------------------------------------ */

/* Name, value, text.  The values are frozen. */
#define TUTTI_STATUS_MAP(X)                                                                                  \
    X(OK, 0, "success")                                                                                      \
    X(PENDING, 1, "not complete yet")                                                                        \
    X(ERR_ARGUMENT, -1, "invalid argument")                                                                  \
    X(ERR_MEMORY, -2, "out of memory")                                                                       \
    X(ERR_SYSTEM, -3, "a system call failed")                                                                \
    X(ERR_CONFIG, -4, "invalid or incomplete configuration")                                                 \
    X(ERR_UNREACHABLE, -5, "the rendezvous or a peer cannot be reached")                                     \
    X(ERR_REFUSED, -6, "the rendezvous refused this member")                                                 \
    X(ERR_TIMEOUT, -7, "a deadline passed")                                                                  \
    X(ERR_PEER_LOST, -8, "the connection to a peer was lost")                                                \
    X(ERR_ABORTED, -9, "the group was aborted")                                                              \
    X(ERR_MISMATCH, -10, "ranks made different calls")                                                       \
    X(ERR_PROTOCOL, -11, "a peer sent bytes that are not tutti's")                                           \
    X(ERR_VERSION, -12, "a peer speaks another version of the protocol")                                     \
    X(ERR_FINALIZED, -13, "the communicator is finalized")                                                   \
    X(ERR_UNSUPPORTED, -14, "not supported")                                                                 \
    X(ERR_INTERNAL, -15, "a bug in tutti")

enum tutti_status {
#define TUTTI_STATUS_ENUM(name, value, text) TUTTI_##name = (value),
    TUTTI_STATUS_MAP(TUTTI_STATUS_ENUM)
#undef TUTTI_STATUS_ENUM
};

/* The text of a status, "a deadline passed", and its name, "TUTTI_ERR_TIMEOUT".  Never NULL; static. */
TUTTI_API const char *tutti_strerror(int status);
TUTTI_API const char *tutti_error_name(int status);

/* What went wrong: a copy, so it stays valid whatever becomes of the communicator. */
struct tutti_error {
    size_t struct_size;   /* set by TUTTI_ERROR_INIT */
    int code;             /* enum tutti_status; TUTTI_OK when nothing has failed */
    int rank;             /* the rank that is the cause, -1 when unknown or when it is no rank's fault */
    char host[256];       /* the host of that rank, "" when unknown */
    char operation[32];   /* the operation under way here, "all_reduce"; "" outside of one */
    uint64_t sequence;    /* the number of that operation on this communicator, from 1; 0 outside of one */
    char message[1024];   /* one full sentence: what, where, and how to mend it */
    uint64_t moved_bytes; /* of that operation that had arrived here, headers included; in shared memory an
                             estimate by steps */
};
#define TUTTI_ERROR_INIT                                                                                     \
    {                                                                                                        \
        sizeof(struct tutti_error), 0, -1, {0}, {0}, 0, {0}, 0                                               \
    }

/* ---- Joining and leaving a group --------------------------------------------------------------- */

typedef struct tutti_comm tutti_comm;       /* a communicator */
typedef struct tutti_request tutti_request; /* operations under way */

/* How to start.  A field that is zero is "not given": the environment variable decides, and then
 * the default (so a zero here does not switch off what a variable switches on).  docs/configuration.md
 * describes every field that has a variable, and its default; it is generated from the table that reads them.
 * Strings are copied. */
struct tutti_config {
    size_t struct_size;     /* set by TUTTI_CONFIG_INIT */
    int size;               /* ranks in the group; 0: taken from the launcher's variables */
    int rank;               /* read only when `size` is given; TUTTI_RANK_ANY: assigned on arrival */
    const char *rendezvous; /* unix:PATH, HOST:PORT or file:PATH */
    const char *job;        /* name of the job, so that one rendezvous can serve many */
    const char *member;     /* name of this member: the same name gets the same rank again; default: random */
    const char *host;       /* identity of this host; default: the kernel's boot id */
    const char *transports; /* which may be used, in order of preference: "shm,uds,tcp" */
    const char *interface;  /* names, ^exclusions or CIDRs of the network interfaces to listen on */
    const char *port_range; /* "20000-20100": where to listen; default: any port */
    int join_timeout_ms;    /* until the group must be complete */
    int missing_after_ms;   /* until missing members are named in a warning */
    int call_timeout_ms;    /* deadline of a call that brings none of its own; it ends the group */
    int straggler_after_ms; /* until a call that waits names the rank it waits for in a warning */
    int heartbeat_ms;       /* between heartbeats to the ring neighbours */
    int dead_after_ms;      /* silence after which a neighbour counts as dead */
    size_t slice_bytes;     /* the pipeline's unit, the same on every rank; over shm at most 64 KiB */
    int checksum;           /* 1: payloads carry a CRC-32C; the same on every rank */
    const char *wait;       /* "adaptive" or "spin" (for those who own their cores) */
    const char *congestion; /* TCP congestion control between ranks of one host; "default": the kernel's */
    int socket_buffer_bytes; /* SO_SNDBUF and SO_RCVBUF of data links; -1: leave the kernel's default */
    const char *log;         /* "error", "warning", "info" or "debug" */
    const char *algorithm;   /* "all_reduce:ring,broadcast:tree": instead of what the cost model chooses */
    int deterministic;       /* 1: the same bits whatever the transport, the channels and the hosts */
    int channels;            /* most channels over which a large operation is striped */
    const char *tuning;      /* file of `tutti tune`; "none": the built-in constants */

    /* On rank 0, with `size` and `rank`, instead of `rendezvous`: rank 0 serves the rendezvous at a free TCP
     * port (`interface` and `port_range` hold) and calls this once it listens there, with "HOST:PORT", which
     * is to reach the other ranks and is their `rendezvous`.  Called once, on a thread of tutti's, within
     * tutti_init(), which waits for it however long it takes; not in a group of one.  A negative result ends
     * tutti_init() with TUTTI_ERR_UNREACHABLE.  `address` is valid until it returns. */
    int (*announce)(void *context, const char *address);
    void *announce_context; /* handed to it */
};
#define TUTTI_RANK_ANY (-1)
#define TUTTI_CONFIG_INIT                                                                                    \
    {                                                                                                        \
        sizeof(struct tutti_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, 0                                                                                          \
    }

/* Joins the group and connects the ring.  Blocks until every rank is there or `join_timeout_ms` has passed.
 * `config` may be NULL.  Always sets *comm (NULL only when memory is exhausted): on failure to a dead
 * handle that carries the error and must be freed. */
TUTTI_API int tutti_init(const struct tutti_config *config, tutti_comm **comm);

/* Collective: waits for the operations under way, then for every rank to come here, and says goodbye, within
 * `timeout_ms` (0: call_timeout_ms).  The handle stays valid for tutti_get_error() and tutti_free().
 * Leaving without it counts as a failure elsewhere. */
TUTTI_API int tutti_finalize(tutti_comm *comm, int timeout_ms);

/* Local: releases everything and, if the group is alive and not finalized, aborts it.  Pending requests
 * become invalid.  No other thread may use `comm` or its requests any more.  NULL is accepted.  May wait for
 * a look-up of a host's name that is still under way. */
TUTTI_API void tutti_free(tutti_comm *comm);

/* Ends the group on every rank; `reason` (copied, may be NULL) is what the others are told: "aborted by rank
 * 2: reason".  Does nothing to a group that has failed or is finalized already.  Any thread. */
TUTTI_API int tutti_abort(tutti_comm *comm, const char *reason);

/* Fills *error with the failure of the group or, while it lives, with the latest argument error of
 * any thread.  `error->struct_size` must be set.  `comm` may be NULL (after an init without memory). */
TUTTI_API int tutti_get_error(tutti_comm *comm, struct tutti_error *error);

TUTTI_API int tutti_rank(const tutti_comm *comm); /* -1 on a handle to which none was ever assigned */
TUTTI_API int tutti_size(const tutti_comm *comm); /* -1 likewise */

/* A link to another rank: what carries the bytes, and how many it carried. */
struct tutti_link_info {
    size_t struct_size;      /* set by TUTTI_LINK_INFO_INIT */
    int peer;                /* the rank at the other end */
    char transport[16];      /* "shm", "uds" or "tcp" */
    char host[256];          /* name of the peer's host */
    uint64_t sent_bytes;     /* headers and payloads of data frames */
    uint64_t received_bytes; /* likewise */
};
#define TUTTI_LINK_INFO_INIT                                                                                 \
    {                                                                                                        \
        sizeof(struct tutti_link_info), -1, {0}, {0}, 0, 0                                                   \
    }

/* `index` 0 is the link to the next rank of the ring, which only sends; 1 the one from the previous rank,
 * which only receives; from 2 on come the others that are open, which may become more with any call.
 * TUTTI_ERR_ARGUMENT beyond (a group of one has no links).  Exact only while no operation is under way. */
TUTTI_API int tutti_get_link(tutti_comm *comm, int index, struct tutti_link_info *info);

/* ---- After a failure --------------------------------------------------------------------------- */

/* Survivors only, each on its failed communicator: makes a new group, of the next generation, out of the
 * members of the old one that come here.
 *
 * - Their order is kept: who had the lower rank has the lower one now.
 * - The new group is complete when every old member has come, has ended or is known to be lost; and after
 *   `timeout_ms` (0: join_timeout_ms; the shortest that any member gives) without those that have not come.
 *   What they try later is refused.
 * - *survivors is always set (NULL only when memory is exhausted, or `failed` is NULL or the parent's): on
 * failure to a dead handle that carries the error and must be freed.  Then `failed` may be re-formed again;
 * but where a rank had been assigned already (tutti_rank(*survivors) is not -1), it is *survivors that may.
 * - `failed` stays failed, and must be freed as ever, at any time after this call.  One thread re-forms it,
 * once.
 * - It needs the rendezvous.  `tutti run` and `tutti rendezvous` outlive the ranks.  Where it lived in a rank
 * that is gone, a survivor on the same host takes over its HOST:PORT or abstract Unix socket; where none can,
 * this is TUTTI_ERR_UNREACHABLE and says what to run instead. */
TUTTI_API int tutti_reform(tutti_comm *failed, int timeout_ms, tutti_comm **survivors);

/* How a group came out of the one before; the same on every member, but for `previous_rank`. */
struct tutti_reform_info {
    size_t struct_size;           /* set by TUTTI_REFORM_INFO_INIT */
    uint32_t generation;          /* of this group; the first has 1 */
    uint32_t previous_generation; /* 0: this group was not re-formed, and the rest is empty */
    int previous_rank;            /* of this member */
    int previous_size;
    uint64_t completed_everywhere; /* the newest operation of the old group that every survivor completed */
    uint64_t completed_anywhere;   /* the newest that any survivor completed */
    char lost[256];                /* the old ranks that are not here: "ranks 2, 5-7"; "" when all are */
    struct tutti_error cause;      /* the one agreed cause of the failure; ranks as in the old group */
};
#define TUTTI_REFORM_INFO_INIT                                                                               \
    {                                                                                                        \
        sizeof(struct tutti_reform_info), 0, 0, -1, 0, 0, 0, {0}, TUTTI_ERROR_INIT                           \
    }
TUTTI_API int tutti_get_reform(const tutti_comm *comm, struct tutti_reform_info *info);

/* The number of the latest operation that has completed on this rank, from 1, in the order of issue; 0 when
 * none has.  Compare with `completed_everywhere`. */
TUTTI_API uint64_t tutti_completed(tutti_comm *comm);

/* ---- Tensors ----------------------------------------------------------------------------------- */

/* Element types, little-endian.  Values are frozen: they travel on the wire. */
enum tutti_type {
    TUTTI_FLOAT32 = 1,
    TUTTI_FLOAT64 = 2,
    TUTTI_FLOAT16 = 3,  /* IEEE 754 binary16, as uint16_t */
    TUTTI_BFLOAT16 = 4, /* the upper half of a float32, as uint16_t */
    TUTTI_INT8 = 5,
    TUTTI_UINT8 = 6,
    TUTTI_INT32 = 7,
    TUTTI_INT64 = 8,
    TUTTI_UINT32 = 9,
    TUTTI_UINT64 = 10,
    TUTTI_INT16 = 11,
    TUTTI_BOOL = 12,     /* one byte; any value but 0 is true, results are 0 or 1 */
    TUTTI_COMPLEX64 = 13 /* two float32: real, imaginary */
};

/* How elements are combined; which types each takes (any other is TUTTI_ERR_ARGUMENT):
 *   SUM, PRODUCT       all.  Integers wrap around; of bools they are "or" and "and".
 *   MIN, MAX           all but complex.  NaN when any operand is NaN; of bools "and" and "or".
 *   AVG                all but bool: SUM divided by the number of ranks (integers: truncated towards zero);
 *                      where the sum overflows, so does it.
 *   BIT_AND, _OR, _XOR integers and bool.
 *   LOGICAL_AND, _OR   integers and bool: 1 or 0.
 *   PREMULTIPLIED_SUM  floats and complex: each rank's elements are multiplied by its `factor`, and rounded
 * to their type, before they are added. float16 and bfloat16 are combined in float32.  Where all terms of an
 * element meet on one rank the result is rounded once; where a ring or a tree combines them, at each of the
 * size - 1 steps.  The former is chosen wherever it moves no more bytes. */
enum tutti_reduction {
    TUTTI_SUM = 1,
    TUTTI_PRODUCT = 2,
    TUTTI_MIN = 3,
    TUTTI_MAX = 4,
    TUTTI_AVG = 5,
    TUTTI_BIT_AND = 6,
    TUTTI_BIT_OR = 7,
    TUTTI_BIT_XOR = 8,
    TUTTI_LOGICAL_AND = 9,
    TUTTI_LOGICAL_OR = 10,
    TUTTI_PREMULTIPLIED_SUM = 11 /* needs struct tutti_call, which has the factor */
};

/* Bytes of one element; 0 for a value that is no type. */
TUTTI_API size_t tutti_type_size(enum tutti_type type);

/* ---- Collectives ------------------------------------------------------------------------------- */

/* Blocking: each returns when this rank's part is done and its buffers may be used again.  In place
 * means `send == recv`, or, where one of the two is a part of the other, as said there (as in NCCL);
 * any other overlap of the two is an error.  Deadline: `call_timeout_ms` of the configuration.
 * A NULL buffer is allowed where the count is zero or the buffer is not used on this rank. */

/* recv = reduction of every rank's send.  count: elements of the whole buffer, on every rank. In
 * place: send == recv.  Every rank receives the same bits. */
TUTTI_API int tutti_all_reduce(tutti_comm *comm, const void *send, void *recv, size_t count,
                               enum tutti_type type, enum tutti_reduction reduction);

/* As all_reduce, received on `root` only; `recv` is not used elsewhere. */
TUTTI_API int tutti_reduce(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                           enum tutti_reduction reduction, int root);

/* recv on every rank = send of `root`.  count: elements of the whole buffer.  `send` is read on the
 * root only.  In place: send == recv. */
TUTTI_API int tutti_broadcast(tutti_comm *comm, const void *send, void *recv, size_t count,
                              enum tutti_type type, int root);

/* recv = the sends of all ranks, in the order of the ranks.  count: elements that each rank contributes;
 * recv holds size * count.  In place: send == recv + rank * count. */
TUTTI_API int tutti_all_gather(tutti_comm *comm, const void *send, void *recv, size_t count,
                               enum tutti_type type);

/* As all_gather, received on `root` only; `recv` is not used elsewhere. */
TUTTI_API int tutti_gather(tutti_comm *comm, const void *send, void *recv, size_t count, enum tutti_type type,
                           int root);

/* recv = this rank's part of the reduction of every rank's send.  count: elements that each rank receives;
 * send holds size * count and is not changed, but for this rank's part in place: recv == send + rank * count.
 */
TUTTI_API int tutti_reduce_scatter(tutti_comm *comm, const void *send, void *recv, size_t count,
                                   enum tutti_type type, enum tutti_reduction reduction);

/* recv = this rank's part of the send of `root`.  count: elements that each rank receives; `send` holds
 * size * count on the root and is not used elsewhere.  In place, on the root: recv == send + rank * count. */
TUTTI_API int tutti_scatter(tutti_comm *comm, const void *send, void *recv, size_t count,
                            enum tutti_type type, int root);

/* Part r of recv = part `rank` of the send of rank r.  count: elements that each pair of ranks exchanges;
 * both buffers hold size * count.  In place: send == recv. */
TUTTI_API int tutti_all_to_all(tutti_comm *comm, const void *send, void *recv, size_t count,
                               enum tutti_type type);

/* The same with parts of different lengths.  Part r has `counts[r]` elements and begins at element
 * `offsets[r]` of its buffer; `offsets` NULL: one part follows the other.  Parts that are written must not
 * overlap. Both arrays have an entry for each rank, and are copied. */

/* counts: the same on every rank; this rank sends counts[rank].  In place: send == recv + offsets[rank]. */
TUTTI_API int tutti_all_gather_v(tutti_comm *comm, const void *send, void *recv, const size_t *counts,
                                 const size_t *offsets, enum tutti_type type);

/* count: what this rank sends.  counts, offsets: on the root only, where counts[r] is what rank r sends.  In
 * place, on the root: send == recv + offsets[root]. */
TUTTI_API int tutti_gather_v(tutti_comm *comm, const void *send, size_t count, void *recv,
                             const size_t *counts, const size_t *offsets, enum tutti_type type, int root);

/* counts, offsets: on the root only, where counts[r] is what rank r receives.  count: what this one does.  In
 * place, on the root: recv == send + offsets[root]. */
TUTTI_API int tutti_scatter_v(tutti_comm *comm, const void *send, const size_t *counts, const size_t *offsets,
                              void *recv, size_t count, enum tutti_type type, int root);

/* counts: what each rank receives, the same on every rank.  In place: recv == send + offset of this part. */
TUTTI_API int tutti_reduce_scatter_v(tutti_comm *comm, const void *send, void *recv, const size_t *counts,
                                     enum tutti_type type, enum tutti_reduction reduction);

/* send_counts[r] goes to rank r, recv_counts[r] comes from it: each rank's own, and those of two ranks must
 * agree.  Not in place. */
TUTTI_API int tutti_all_to_all_v(tutti_comm *comm, const void *send, const size_t *send_counts,
                                 const size_t *send_offsets, void *recv, const size_t *recv_counts,
                                 const size_t *recv_offsets, enum tutti_type type);

/* Returns when every rank has come here. */
TUTTI_API int tutti_barrier(tutti_comm *comm);

/* ---- From rank to rank -------------------------------------------------------------------------- */

#define TUTTI_ANY_SOURCE (-1)
#define TUTTI_ANY_TAG    (-1)

/* What a receive has received. */
struct tutti_received {
    int source, tag;
    size_t count; /* elements */
};

/* Messages have links of their own: they neither wait for collectives nor hold them up.  They are matched by
 * source, tag and nothing else, those of one pair in the order of sending; a receive may be longer than its
 * message, not shorter (TUTTI_ERR_MISMATCH), and both must give the same type.  tag: from 0.  A rank may send
 * to itself.
 *
 * A send returns when `send` may be used again, which does not mean that it has been received.  It may have
 * to wait for its receive, as in MPI: a rank takes messages in while it is in a call or has one under way,
 * and then keeps up to 64 MiB (and 65,536 messages) of each other rank that it has not asked for yet. */
TUTTI_API int tutti_send(tutti_comm *comm, const void *send, size_t count, enum tutti_type type, int to,
                         int tag);

/* from: a rank or TUTTI_ANY_SOURCE; tag: or TUTTI_ANY_TAG.  count: room at `recv`, elements.  `received` may
 * be NULL. */
TUTTI_API int tutti_recv(tutti_comm *comm, void *recv, size_t count, enum tutti_type type, int from, int tag,
                         struct tutti_received *received);

/* ---- Asynchronous and fused calls --------------------------------------------------------------- */

/* Values are frozen: they travel on the wire. */
enum tutti_operation {
    TUTTI_ALL_REDUCE = 1,
    TUTTI_BROADCAST = 2,
    TUTTI_ALL_GATHER = 3,
    TUTTI_GATHER = 4,
    TUTTI_REDUCE_SCATTER = 5,
    TUTTI_BARRIER = 6,
    TUTTI_REDUCE = 7,
    TUTTI_SCATTER = 8,
    TUTTI_ALL_TO_ALL = 9,
    TUTTI_ALL_GATHER_V = 10,
    TUTTI_GATHER_V = 11,
    TUTTI_SCATTER_V = 12,
    TUTTI_REDUCE_SCATTER_V = 13,
    TUTTI_ALL_TO_ALL_V = 14,
    TUTTI_SEND = 15,
    TUTTI_RECV = 16
};

/* One operation as data; the fields mean what the arguments of the blocking call mean.  Those that the
 * operation does not have are ignored; zero them, as an initialiser with names does. */
struct tutti_call {
    enum tutti_operation op;
    const void *send;
    void *recv;
    size_t count;
    enum tutti_type type;
    enum tutti_reduction reduction;
    int root;
    int timeout_ms; /* deadline, from the issue: when it passes, the group ends; 0: call_timeout_ms */
    const size_t *send_counts, *send_offsets; /* scatter_v, reduce_scatter_v (no offsets), all_to_all_v */
    const size_t *recv_counts, *recv_offsets; /* all_gather_v, gather_v, all_to_all_v */
    int peer;                                 /* send: to whom; recv: from whom */
    int tag;
    struct tutti_received *received; /* recv; filled when the request completes; may be NULL */
    double factor;                   /* of TUTTI_PREMULTIPLIED_SUM; each rank has its own */
    const char *algorithm; /* "ring": instead of the one that would be chosen; NULL: choose.  The same
                            * on every rank; not of messages */
};

/* Issues the `count` calls at `calls` as one request; their progress needs no further call.  Copies `calls`;
 * borrows the buffers until the request completes.  On an error nothing was issued and *request is NULL.
 * Several calls at once are fused where that pays, so they must not depend on each other: what one writes no
 * other may read or write (TUTTI_ERR_ARGUMENT).  Either all complete or the group has failed.  Sends and
 * receives can be issued together, in any order, but not together with collectives. */
TUTTI_API int tutti_start(tutti_comm *comm, const struct tutti_call *calls, size_t count,
                          tutti_request **request);

/* As tutti_start() followed by tutti_wait(request, timeout_ms), but driven by the calling thread from the
 * first byte; the blocking calls are this with a `timeout_ms` of -1.  When it returns TUTTI_PENDING, *request
 * must be waited for; else it is NULL. */
TUTTI_API int tutti_run(tutti_comm *comm, const struct tutti_call *calls, size_t count, int timeout_ms,
                        tutti_request **request);

/* Waits at most `timeout_ms` (0: only looks; -1: until it completes).  TUTTI_PENDING means "not yet" and
 * changes nothing.  Any other result completes the request, frees it and sets it to NULL.  Waiting for NULL
 * is TUTTI_OK. One thread at a time may wait for a given request. */
TUTTI_API int tutti_wait(tutti_request **request, int timeout_ms);

/* A descriptor that polls readable while a request of this communicator that was begun by tutti_start() is
 * complete and not yet waited for: for a server's own event loop.  Owned by the communicator: neither read
 * nor close it. Negative on error. */
TUTTI_API int tutti_fd(tutti_comm *comm);

/* ---- Plans -------------------------------------------------------------------------------------- */

/* Calls that are made again and again: all that can be done once is done here, and starting them allocates
 * nothing.  The buffers are borrowed until tutti_plan_free().  Local: it exchanges nothing, and the other
 * ranks may make the same calls with or without a plan.  Collectives only. */
typedef struct tutti_plan tutti_plan;
TUTTI_API int tutti_plan_new(tutti_comm *comm, const struct tutti_call *calls, size_t count,
                             tutti_plan **plan);

/* As tutti_start() of its calls: *request is to be waited for before the plan is started again
 * (TUTTI_ERR_ARGUMENT). */
TUTTI_API int tutti_plan_start(tutti_plan *plan, tutti_request **request);

/* As tutti_run() of its calls; `request` NULL: waits until they are complete, whatever `timeout_ms`. */
TUTTI_API int tutti_plan_run(tutti_plan *plan, int timeout_ms, tutti_request **request);

/* Not while it is under way.  Before its communicator is freed, also when the group has failed.  NULL is
 * accepted. */
TUTTI_API void tutti_plan_free(tutti_plan *plan);

/* What would be done for a call, and how long that is expected to take.  Its buffers do not matter; its
 * counts do. */
struct tutti_choice {
    size_t struct_size;  /* set by TUTTI_CHOICE_INIT */
    char algorithm[32];  /* "ring" */
    int channels;        /* over which it is striped; 1 where several calls are started at once */
    double predicted_us; /* by the cost model */
};
#define TUTTI_CHOICE_INIT                                                                                    \
    {                                                                                                        \
        sizeof(struct tutti_choice), {0}, 0, 0                                                               \
    }
TUTTI_API int tutti_get_choice(tutti_comm *comm, const struct tutti_call *call, struct tutti_choice *choice);

/* ---- Symmetric memory ---------------------------------------------------------------------------- */

/* Memory for buffers that the other ranks of this host can read where they are, so that a collective on them
 * needs no copy in between: long broadcast, gather, all_gather and reduce_scatter are about twice as fast,
 * and all_reduce from 2 MiB on (docs/shared-memory.md).  Use it like any other; a collective uses its
 * advantage where the buffers of every rank lie in such memory, and works all the same where not.  It belongs
 * to the process: all communicators take it, and it outlives them.  It is taken from the system at once.  A
 * child of fork() has the same memory, not a copy.
 *
 * At least `bytes` bytes (more than 0), all zero, aligned to a page.  Local: nobody else takes part.  Where
 * no shared memory is to be had it is ordinary memory.  `comm` is used for errors only.  Any thread.
 * TUTTI_ERR_ARGUMENT, TUTTI_ERR_MEMORY. */
TUTTI_API int tutti_alloc(tutti_comm *comm, size_t bytes, void **memory);

/* Gives it back, once every collective that uses it is complete; NULL is accepted.  Any thread.
 * TUTTI_ERR_ARGUMENT: it is not memory of tutti_alloc(), or has been given back. */
TUTTI_API int tutti_dealloc(void *memory);

/* ---- Groups within the group --------------------------------------------------------------------- */

/* A communicator that is made of another has ranks from 0, links and an order of calls of its own, and may be
 * used by another thread.  It lives and dies with the communicator of tutti_init(), the root of the family: a
 * failure in one is the end of all, on every rank; errors give the ranks of the root.  Re-forming is for the
 * root; split again what comes out of it.  Each is finalized (which drains it) and freed by itself; what is
 * left of the family when the root is finalized or freed is dead.
 * Where one cannot be made *child is NULL, and `comm` has the error. */

/* Collective over `comm`: the ranks that give the same `color` make a group, in the order of `key`, then of
 * their ranks.  color: from 0, or TUTTI_NO_COLOR: *child becomes NULL. */
#define TUTTI_NO_COLOR (-1)
TUTTI_API int tutti_split(tutti_comm *comm, int color, int key, tutti_comm **child);

/* Collective over the `count` ranks at `ranks`, which all give the same list, in the order of the new ranks;
 * the others need not call. */
TUTTI_API int tutti_subgroup(tutti_comm *comm, const int *ranks, int count, tutti_comm **child);

/* Collective over the ranks of this host: the group of those. */
TUTTI_API int tutti_local(tutti_comm *comm, tutti_comm **child);

/* The rank in the root of the family of rank `rank` of `comm`; -1 where there is none. */
TUTTI_API int tutti_root_rank(const tutti_comm *comm, int rank);

/* The version of the library that is linked, "0.2.0". */
TUTTI_API const char *tutti_version(void);

#ifdef __cplusplus
}
#endif

#endif
