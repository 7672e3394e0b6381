/* Which algorithm runs a call: the one that the cost model expects to be the fastest, unless it is told.  All
 * that the choice depends on is the same on every rank, and does not change from run to run. */
#ifndef TUTTI_ALGORITHM_SELECT_H
#define TUTTI_ALGORITHM_SELECT_H

#include <stdio.h>
#include "algorithm/algorithm.h"
#include "base/settings.h"

/* The constants of one kind of link, in microseconds and bytes.  The `shared_` ones are what one more rank on
 * the same core adds. */
struct tuning_link {
    double latency_us;        /* of a round: from the send to the receive of a small message */
    double shared_latency_us; /* added to it for each rank that a core has beyond the first */
    double overhead_us;       /* of a message: what it costs the core of the sender and of the receiver */
    double us_per_byte;
};

/* Those of the direct collectives in shared memory. */
struct tuning_shared {
    double latency_us;        /* of a call: each rank tells all others something */
    double shared_latency_us; /* added to it for each rank that a core has beyond the first */
    double us_per_byte;       /* of the work vector of an all_reduce */
};

struct tuning {
    int version; /* TUNING_VERSION */
    struct tuning_link shm, uds, tcp_local, tcp;
    struct tuning_shared shared;
    double reduce_us_per_byte, copy_us_per_byte;
    double stripe_overhead_us; /* of waking a further channel */
};

#define TUNING_VERSION 2
extern const struct tuning tuning_default;

/* The text form: a line "tutti tuning 2", then "uds.latency_us 2.1" and so on, each once, in any order; '#'
 * begins a comment.  Numbers are decimal, at most 1000000, with at most 9 digits after the point.  Parsing
 * refuses unknown names, names that are missing, what is no such number, and another version:
 * TUTTI_ERR_CONFIG, with the number of the line; *tuning is as it was then.  What is printed is less than 1
 * KiB, and is parsed to the same constants when they were parsed or rounded before. */
int tuning_parse(const char *text, struct tuning *tuning, struct tutti_error *error);
void tuning_print(const struct tuning *tuning, FILE *out);
void tuning_round(struct tuning *tuning); /* to what the text form holds: for measured ones */

/* Where `tutti tune` stores it and the library looks: $XDG_CONFIG_HOME/tutti/tuning, else
 * ~/.config/tutti/tuning.  false: neither variable is of use, or `path` is too small. */
bool tuning_default_path(settings_getenv read, void *context, char *path, size_t size);

/* What TUTTI_ALGORITHM says, "all_reduce:ring,broadcast:tree": at most one algorithm for each operation. That
 * of a plain operation is for its _v, too. */
struct algorithm_override {
    const struct algorithm *by_operation[OPERATION_COUNT]; /* NULL: choose; never of a _v */
};
/* `text` NULL or "": none.  TUTTI_OK, or TUTTI_ERR_CONFIG with a sentence that lists what there is. */
int algorithm_override_parse(const char *text, struct algorithm_override *override,
                             struct tutti_error *error);

/* What carries the links between ranks of one host: the better, the more. */
enum local_transport { LOCAL_TCP, LOCAL_UDS, LOCAL_SHM };

/* What the setting "shm,uds,tcp" makes of them where all goes well: TCP where it comes first, else shared
 * memory where that is in the list at all, for it is set up over a Unix socket. */
enum local_transport local_transport_of(const char *transports);
/* The same from the two things that others know of a rank (struct roster_member). */
static inline enum local_transport local_transport_from(bool prefers_uds, bool may_shm)
{
    return !prefers_uds ? LOCAL_TCP : may_shm ? LOCAL_SHM : LOCAL_UDS;
}
const char *local_transport_name(enum local_transport transport); /* "shm", "uds" or "tcp" */

/* A group as the choice sees it. */
struct select_group {
    int size, host_count, local_min, local_max;
    bool hosts_consecutive;
    enum local_transport local; /* the least of all ranks */
    bool shared;                /* an arena joins all ranks: they are on one host */
    bool mixed;      /* an arena joins the ranks of each of several hosts, which have equally many */
    double crowding; /* ranks of a host for each of its cores, the most of all hosts; at least 1 */
    size_t slice_bytes;
    int channels_max;   /* over which an operation may be striped, at least 1: those whose threads have a core
                         */
    bool deterministic; /* only ALGORITHM_RANK_ORDER */
    struct tuning tuning;
    struct algorithm_override override;
};

/* Sets what the group, whose size is set, knows of its hosts: how many, their fewest and most ranks, and
 * whether those of each are consecutive. */
void select_count_hosts(struct select_group *group, const struct host_map *hosts);

/* `ranks` ranks of the group share `cores` cores: raises crowding and lowers channels_max, which begin as 0
 * and as the most that is wanted, to what that calls for. */
void select_share_cores(struct select_group *group, int ranks, int cores);

/* The payload of a slot of transport/shm_ring.h: a frame that fits is reduced where it lies. */
#define SELECT_SHM_SLICE_BYTES ((size_t)64 << 10)

/* The slice of a group whose ranks set it to `setting_bytes`: where shared memory carries every link, at most
 * SELECT_SHM_SLICE_BYTES. */
size_t select_slice_bytes(const struct select_group *group, size_t setting_bytes);

struct select_call {
    int operation;       /* enum tutti_operation, _v or not; no message */
    int type, reduction; /* as in the call; reduction 0 where there is none */
    size_t bytes;        /* of the work vector (of all_to_all: of one rank's input).  Ignored of gather_v,
                          * scatter_v and all_to_all_v, whose counts no rank knows all of: those are taken to move
                          * a slice for each rank */
    const char *name;    /* the algorithm that the caller wants, NULL: choose */
};

struct selection {
    const struct algorithm *algorithm;
    int channels; /* more than 1 for all_reduce, reduce and broadcast only */
    double predicted_us;
};

/* Where the group has an arena: the direct collective of algorithm_shared(), which is faster than any
 * schedule of the same call at every length.  Else the algorithm with the least predicted time; among equals,
 * the first of the table.  But halves (float16, bfloat16) under a reduction that rounds take, instead of one
 * that rounds at each step, the fastest ALGORITHM_RANK_ORDER one that moves no more bytes than it.  A _v has
 * the algorithms of its plain operation; gather_v and scatter_v only ALGORITHM_DIRECT ones. TUTTI_OK, or
 * ERR_ARGUMENT when call->name is no algorithm of the operation or may not be used here, with a sentence that
 * lists those that may.  An override that may not be used here is ignored: one that a mode rules out is
 * refused when it is set, by select_check(); one that a group rules out (hierarchical, one host; shared,
 * several) may serve in others of the family. */
int algorithm_select(const struct select_group *group, const struct select_call *call,
                     struct selection *selection, struct tutti_error *error);

/* Do the overrides go with group->deterministic?  TUTTI_OK or ERR_CONFIG. */
int select_check(const struct select_group *group, struct tutti_error *error);

/* Whether `algorithm` may run that call in that group at all: it is one of that operation, the mode allows
 * it, a hierarchical one has several hosts, one of them with several ranks, each with consecutive ranks,
 * "shared" has an arena, and a mixed one has one on each host. */
bool select_is_eligible(const struct select_group *group, const struct select_call *call,
                        const struct algorithm *algorithm);

/* The time that the model predicts, with the best number of channels.  0 for a group of one. */
double select_predict_us(const struct select_group *group, const struct select_call *call,
                         const struct algorithm *algorithm);

#endif
