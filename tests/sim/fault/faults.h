/* The faults of a run: drawn from the seed, done when their time has come. */
#ifndef TUTTI_TESTS_FAULT_FAULTS_H
#define TUTTI_TESTS_FAULT_FAULTS_H

#include "tests/sim/fault/simulation.h"

/* What, how the table of what happened calls it. */
#define FAULT_MAP(X)                                                                                         \
    X(kill, "process killed")                                                                                \
    X(unplug, "host loses power")                                                                            \
    X(freeze_short, "stopped, not for long")                                                                 \
    X(freeze_long, "stopped for long")                                                                       \
    X(freeze_ever, "stopped for ever")                                                                       \
    X(cut, "host cut off")                                                                                   \
    X(cut_one_way, "host cut off in one direction")                                                          \
    X(cut_pair, "host cut off from another one")                                                             \
    X(refuse, "connections to a rank refused")                                                               \
    X(slow, "stream slowed down")                                                                            \
    X(reset, "stream reset")                                                                                 \
    X(half_open, "stream half open")                                                                         \
    X(half_close, "stream half closed")                                                                      \
    X(corrupt, "byte changed under way")                                                                     \
    X(failpoint, "failpoint of a rank")                                                                      \
    X(memory, "no memory")                                                                                   \
    X(rendezvous_kill, "rendezvous killed")                                                                  \
    X(rendezvous_freeze, "rendezvous stopped")                                                               \
    X(rendezvous_memory, "no memory at the rendezvous")                                                      \
    X(differ, "a rank makes another call")                                                                   \
    X(late, "a rank is late")                                                                                \
    X(abort, "a rank aborts")                                                                                \
    X(leave, "a rank frees without finalizing")

enum fault_kind {
#define FAULT_ENUM(name, text) FAULT_##name,
    FAULT_MAP(FAULT_ENUM)
#undef FAULT_ENUM
        FAULT_KINDS
};

extern uint64_t fault_counts[FAULT_KINDS][2]; /* over all runs: drawn, done */
const char *fault_text(enum fault_kind kind);

struct faults *faults_new(struct simulation *sim, uint64_t seed);
void faults_free(struct faults *faults);

/* Something has happened that a fault may wait for. */
void faults_joined(struct faults *faults, const struct process *process);
void faults_called(struct faults *faults, const struct process *process, uint64_t completed);
void faults_finalizing(struct faults *faults, const struct process *process);
void faults_group_failed(struct faults *faults);

/* Before an error is judged: has a fault that acts by itself (a failpoint, memory) done so meanwhile? */
void faults_look(struct faults *faults);

/* There was but one fault, and one that no group can survive. */
bool faults_must_show(const struct faults *faults);

/* The process that was late, where nothing else happened but to the rendezvous; else NULL. */
const struct process *faults_only_late(const struct faults *faults);

/* The error of the user that this process is to make with its call number `index` (from 0), or FAULT_KINDS.
 */
enum fault_kind faults_of_user(struct faults *faults, const struct process *process, uint32_t generation,
                               int index);

#endif
