/* Waiting in three stages: spin, yield, sleep.  Waking a sleeping core costs about 30 us, a yield with nobody
 * else to run well under one; so a waiter yields for up to about a millisecond before it sleeps, and where
 * ranks outnumber cores spins hardly at all. */
#ifndef TUTTI_ENGINE_WAIT_H
#define TUTTI_ENGINE_WAIT_H

#include <stdbool.h>
#include <stdint.h>

enum wait_stage { WAIT_SPIN, WAIT_YIELD, WAIT_SLEEP };

struct wait_policy {
    int spin_turns;   /* looks before the first yield */
    int64_t yield_ns; /* from the first look until it may sleep */
    bool sleeps;
};

/* `mode`: the setting `wait`.  `local_size`: ranks on this host, compared with the cores that this process
 * may use. */
struct wait_policy wait_policy_for(const char *mode, int local_size);

/* Cores that this process may use: affinity mask and cgroup quota. */
int wait_usable_cores(void);

struct waiter {
    const struct wait_policy *policy;
    int turns;
    int64_t since_ns; /* when the first stage ended; 0 before */
};

static inline void waiter_reset(struct waiter *waiter)
{
    waiter->turns = 0;
    waiter->since_ns = 0;
}

/* One look was in vain: what to do before the next.  Spins and yields itself; after WAIT_SLEEP the caller
 * sleeps. `now_ns` is set to the time unless the stage is WAIT_SPIN. */
enum wait_stage waiter_turn(struct waiter *waiter, int64_t *now_ns);

#endif
