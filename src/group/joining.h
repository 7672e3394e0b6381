/* The rendezvous from the inside, and the half of it that lets members in: who comes to a job in which state,
 * and how its group begins and fails.  rendezvous.c has the other half: who leaves, and what time brings. */
#ifndef TUTTI_GROUP_JOINING_H
#define TUTTI_GROUP_JOINING_H

#include "group/registry.h"
#include "group/rendezvous.h"

struct rendezvous {
    struct rendezvous_output output;
    bool embedded;
    struct registry registry;
    int64_t next_ms; /* nothing is due before this */
};

/* Something is due at that time. */
static inline void rendezvous_expect(struct rendezvous *r, int64_t when_ms)
{
    if (when_ms < r->next_ms)
        r->next_ms = when_ms;
}

/* Takes a member into the job, or parks it there.  On an error it is no part of the job. */
int joining_admit(struct rendezvous *r, struct job *job, struct member *member, int64_t now_ms,
                  struct tutti_error *error);

/* A stranger may wait for a moment from now on. */
void joining_park(struct rendezvous *r, struct member *member, int64_t now_ms);

/* Welcomes the members of a new group: ranks have been assigned, all are connected. */
void joining_begin_group(struct rendezvous *r, struct job *job);

/* A complete group has failed, for the cause that is in the job: tells all but `teller` (may be NULL). */
void joining_fail_group(struct rendezvous *r, struct job *job, const struct member *teller, int64_t now_ms);

#endif
