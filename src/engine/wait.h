/* Waiting in three stages: spin, yield, sleep.  Waking a sleeping core costs about 30 us, a yield with nobody
 * else to run well under one; so a waiter yields for up to about a millisecond before it sleeps, and where
 * ranks outnumber cores spins hardly at all; and where somebody else computes on its core it sleeps at once.
 */
#ifndef TUTTI_ENGINE_WAIT_H
#define TUTTI_ENGINE_WAIT_H

#include <stdbool.h>
#include <stdint.h>

enum wait_stage { WAIT_SPIN, WAIT_YIELD, WAIT_SLEEP };

/* Of one communicator; used by one thread at a time. */
struct wait_policy {
    int spin_turns;    /* looks before the first yield */
    int shared_spins;  /* looks at a flag in shared memory, likewise */
    int further_spins; /* beyond these, as long as nobody waits for this core */
    int64_t yield_ns;  /* from the first look until it may sleep */
    bool sleeps;
    int hogged_waits;  /* so many times a waiter sleeps and does not yield: who shares this core keeps it */
    int crowded_waits; /* so many times a waiter yields sooner than it would, for somebody else was seen on
                          this core */
};

/* `mode`: the setting `wait`.  `crowded`: ranks outnumber cores on some host of the group. */
struct wait_policy wait_policy_for(const char *mode, bool crowded);

/* Cores that this process may use: affinity mask and cgroup quota.  And which: a number that is the same for
 * the same mask. */
int wait_usable_cores(void);
uint64_t wait_core_set(void);

int wait_core(void); /* on which the caller runs */

struct waiter {
    struct wait_policy *policy;
    int turns;
    int64_t since_ns; /* when the first stage ended; 0 before */
    bool hogged;      /* sleeps from then on */
};

static inline void waiter_reset(struct waiter *waiter)
{
    waiter->turns = 0;
    waiter->since_ns = 0;
    waiter->hogged = false;
}

/* As if all its looks before the first yield had been in vain. */
static inline void waiter_end_spinning(struct waiter *waiter)
{
    if (waiter->turns < waiter->policy->spin_turns)
        waiter->turns = waiter->policy->spin_turns;
}

#define SHARED_SPINS_FEW 20

/* Looks at a flag in shared memory before the waiter is asked. */
static inline int waiter_shared_spins(const struct waiter *waiter)
{
    struct wait_policy *policy = waiter->policy;
    bool crowded = policy->crowded_waits > 0;
    policy->crowded_waits -= crowded; /* asking is one, also when nothing has to be waited for then */
    return (crowded || waiter->since_ns != 0) && policy->shared_spins > SHARED_SPINS_FEW
               ? SHARED_SPINS_FEW
               : policy->shared_spins;
}

/* One look was in vain: what to do before the next.  Spins and yields itself; after WAIT_SLEEP the caller
 * sleeps. `now_ns` is set to the time unless the stage is WAIT_SPIN. */
enum wait_stage waiter_turn(struct waiter *waiter, int64_t *now_ns);

#endif
