/* All jobs and all connections of a rendezvous: found by name and by number. */
#ifndef TUTTI_GROUP_REGISTRY_H
#define TUTTI_GROUP_REGISTRY_H

#include "group/job.h"

struct registry {
    void *connections; /* tree of members */
    void *jobs;        /* tree of jobs */
    int job_count, active_count;
    struct job_list active;  /* all but the resting ones */
    struct job_list resting; /* the longest resting first */
};

void registry_init(struct registry *registry);
void registry_free(struct registry *registry); /* with all jobs and members */

/* The member that has joined on that connection; NULL when nobody has. */
struct member *registry_member(const struct registry *registry, uint64_t connection);

/* A new member, on a connection on which nobody has joined yet.  NULL when out of memory. */
struct member *registry_add_member(struct registry *registry, uint64_t connection, const Wire__Join *join,
                                   int64_t now_ms);

/* The member is not connected any more. */
void registry_forget_connection(struct registry *registry, struct member *member);

/* The job of that name, which is new and resting if there was none.  NULL and *error when out of memory or
 * when there are too many jobs. */
struct job *registry_job(struct registry *registry, const char *name, struct tutti_error *error);

void registry_forget_job(struct registry *registry, struct job *job); /* that rests */

/* To and from the list of active jobs, whatever the state of the job. */
void registry_activate(struct registry *registry, struct job *job);
void registry_deactivate(struct registry *registry, struct job *job);

#endif
