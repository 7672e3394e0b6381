/* What the world knows of a run, and the invariants that it holds the ranks to.
 *
 * Bounds, of virtual time, without that for which a process itself was stopped:
 * - A call: its deadline; three times the patience of group/lateness.h (asked, waits as well, looked late
 *   itself); EXPLANATION_MS for a link that breaks at last; SLACK_MS.
 * - Joining: its time-out, REFUSAL_GRACE_MS, WIRING_MIN_MS, ATTEMPT_TIMEOUT_MS for an attempt under way.
 * - The news of a failure, from the first member of a group to the last: EXPLANATION_MS and the time of the
 *   messages.  Who cannot be reached, for processes are stopped or networks cut, learns of it by silence:
 *   dead_after and three heartbeats, counted from when the neighbours have spoken for the first time.
 * - A lost rank is noticed by its closed connections or by its silence, dead_after and a heartbeat at most,
 * and the news follows. */
#ifndef TUTTI_TESTS_FAULT_WORLD_H
#define TUTTI_TESTS_FAULT_WORLD_H

#include "tests/sim/fault/comm.h"

#define SLACK_MS        50
#define REFORM_GRACE_MS 500 /* group/reforming.h */
#define GROUPS_MAX      32

/* Counted over all runs. */
struct statistics {
    uint64_t runs, events, calls_right, calls_failed, finalized, refused, unreachable;
    uint64_t groups, groups_failed, reformed, quiet_runs, perfect_runs, failed_runs, reformed_runs;
    uint64_t exchanges_right;
    uint64_t causes[64];                       /* by minus code */
    uint64_t algorithms[OPERATION_COUNT][256]; /* calls with the right result, by their number */
};
extern struct statistics statistics;

struct group_record {
    uint64_t instance;
    uint32_t generation;
    int size;
    int64_t began_ns, failed_ns; /* failed_ns: first noticed; 0: it lives */
    int members[RANKS_MAX];      /* processes by rank; -1: not welcomed yet */
    int64_t wired_ns[RANKS_MAX]; /* when the rank had joined; 0: not yet */
    struct tutti_reform_info reformed;
    bool has_reformed;
};

/* What has been done to a process, or what it did. */
struct blame {
    int64_t guilty_until_ns;   /* it may be named; -1: never */
    int64_t involved_until_ns; /* it and those beside it may be named */
    int64_t late_until_ns;     /* it may be named as late */
    bool aborts, differs, lacks_memory;
    int64_t ended_ns; /* when it has left by itself; 0: it has not */
    int ended_after;  /* generation; it has left by itself and is in no later one; -1: has not */
    int64_t lost_ns;  /* since when it has been killed, stopped or unplugged; -1: it has not */
    bool lost_late;   /* it had said goodbye by then */
    int64_t frozen_ns, froze_at_ns; /* in all; froze_at_ns: -1 when it is not stopped */
};

struct world {
    struct simulation *sim;
    struct group_record groups[GROUPS_MAX];
    int group_count;
    struct blame blames[RANKS_MAX + 1];
    bool troubled;  /* anything has been done that may show */
    bool must_fail; /* what was done cannot go unnoticed */
    int hampered;   /* how many times something was done that may keep news from somebody */
    int64_t troubled_until_ns;
    int64_t vague_until_ns; /* ranks may not know who is late: the rendezvous or the network is in trouble */
};

struct world *world_new(struct simulation *sim);
void world_free_records(struct world *world);

/* ---- What was done ------------------------------------------------------------------------------- */

void world_blame(struct world *world, const struct process *process, int64_t until_ns);
void world_involve(struct world *world, const struct process *process, int64_t until_ns);
void world_lost(struct world *world, const struct process *process); /* killed, stopped, unplugged */
void world_froze(struct world *world, const struct process *process);
void world_thawed(struct world *world, const struct process *process);
int64_t world_frozen_ns(const struct world *world, const struct process *process);

/* ---- What is seen -------------------------------------------------------------------------------- */

void world_welcomed(struct world *world, const struct comm *comm);
void world_joined(struct world *world, const struct comm *comm);
void world_failed(struct world *world, const struct comm *comm, bool noticed_here);
/* `began_ns`, `frozen_ns`: when the call was made, and how long the process had been stopped by then. */
void world_returned(struct world *world, const struct comm *comm, const char *what, int64_t began_ns,
                    int64_t frozen_ns, int64_t bound_ms);
int64_t world_call_bound_ms(int64_t timeout_ms);
int64_t world_join_bound_ms(const struct options *options);
/* All is over. */
void world_finished(struct world *world);

#endif
