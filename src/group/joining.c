#include "group/joining.h"

#include <assert.h>
#include "group/answer.h"
#include "group/reforming.h"
#include "group/roll_call.h"

#define PARKED_MS 1000 /* how long a stranger waits for the end of a group that runs */

/* ---- Groups -------------------------------------------------------------------------------------- */

void joining_begin_group(struct rendezvous *r, struct job *job)
{
    job->connected = job->size;
    job->generation++;
    job->instance = r->output.random(r->output.context);
    if (job->instance == 0)
        job->instance = 1;
    job->lost_ms = NEVER;
    job->state = JOB_COMPLETE;
    job->server = -1;
    for (int rank = 0; rank < job->size; rank++) {
        if (job->by_rank[rank]->join->serves)
            job->server = rank;
    }
    for (int rank = 0; rank < job->size; rank++)
        answer_welcome(&r->output, job->by_rank[rank], r->embedded);
}

void joining_fail_group(struct rendezvous *r, struct job *job, const struct member *teller, int64_t now_ms)
{
    assert(job->state == JOB_COMPLETE);
    roll_call_cancel(job);
    job->state = JOB_FAILED;
    rendezvous_expect(r, reforming_review_all(job, now_ms));
    for (int rank = 0; rank < job->size; rank++) {
        const struct member *member = job->by_rank[rank];
        if (member != teller && member->connected)
            answer_abort(&r->output, member);
    }
}

/* ---- Joining ------------------------------------------------------------------------------------- */

/* The same member on a new connection. */
static void replace(struct rendezvous *r, struct job *job, struct member *old, struct member *member,
                    int64_t now_ms)
{
    bool in_group = job->state != JOB_FILLING;
    int rank = old->rank;
    if (old->connected) {
        r->output.close(r->output.context, old->connection);
        registry_forget_connection(&r->registry, old);
    } else {
        job->connected++;
    }
    if (in_group)
        roll_call_lose(&r->output, job, old);
    job_replace(job, old, member);
    if (in_group) {
        job->standings[rank].gone_ms = NEVER;
        job->standings[rank].wired = false;
        rendezvous_expect(r, reforming_review(job, rank, now_ms));
    }
}

/* Into a job that fills. */
static int join_filling(struct rendezvous *r, struct job *job, struct member *member, int64_t now_ms,
                        struct tutti_error *error)
{
    struct member *old = job_find(job, member);
    int status = job_check(job, member, old, error);
    if (status == TUTTI_OK && !old)
        status = job_add(job, member, error);
    if (status < 0)
        return status;
    if (old)
        replace(r, job, old, member, now_ms);
    if (job->count == job->size) {
        job_assign(job);
        joining_begin_group(r, job);
    } else {
        rendezvous_expect(r, member->warn_ms);
        rendezvous_expect(r, member->refuse_ms);
    }
    return TUTTI_OK;
}

/* Whether the Join of a member of this group means this group.  Once that has failed, a new process under the
 * same member id does not. */
static bool means_this_group(const struct job *job, const struct member *old, const struct member *member)
{
    const struct standing *standing = &job->standings[old->rank];
    if (standing->left || standing->willing || job_check_agreement(job, member->join, NULL) < 0 ||
        (member->wanted != TUTTI_RANK_ANY && member->wanted != old->rank))
        return false;
    return job->state == JOB_COMPLETE || reforming_repeats(old, member);
}

void joining_park(struct rendezvous *r, struct member *member, int64_t now_ms)
{
    member->unpark_ms = now_ms + PARKED_MS < member->refuse_ms ? now_ms + PARKED_MS : member->refuse_ms;
    rendezvous_expect(r, member->unpark_ms);
}

/* To a job that has a group: a member that has lost its connection, or a stranger. */
static void join_group(struct rendezvous *r, struct job *job, struct member *member, int64_t now_ms)
{
    struct member *old = job_find(job, member);
    if (old && means_this_group(job, old, member)) {
        replace(r, job, old, member, now_ms);
        answer_welcome(&r->output, member, r->embedded);
        if (job_has_failed(job))
            answer_abort(&r->output, member);
        return;
    }
    member->job = job;
    member->parked = true;
    TAILQ_INSERT_TAIL(&job->parked, member, entry);
    joining_park(r, member, now_ms);
}

/* A member that is late answers, one that is stopped or cut off does not. */
static void ask_who_lives(struct rendezvous *r, struct job *job)
{
    for (int rank = 0; rank < job->size; rank++) {
        if (job->by_rank[rank] && reforming_ask(job, job->by_rank[rank]))
            answer_roll_call(&r->output, job->by_rank[rank]);
    }
}

/* The member is in the job: it comes to re-form the group.  If nobody has told of a failure yet, it does. */
static void become_willing(struct rendezvous *r, struct job *job, struct member *member, int64_t now_ms)
{
    bool first = job->willing == 0;
    if (job->state == JOB_COMPLETE) {
        reforming_set_cause_of_survivor(job, member);
        joining_fail_group(r, job, member, now_ms);
    }
    if (job->state == JOB_FAILED) {
        job->state = JOB_REFORMING;
        job->reforming_ms = now_ms;
    }
    rendezvous_expect(r, reforming_come(job, member, now_ms));
    if (first) {
        if (job->silence_ms > 0)
            ask_who_lives(r, job);
        rendezvous_expect(r, reforming_review_all(job, now_ms));
    }
    rendezvous_expect(r, member->warn_ms);
    rendezvous_expect(r, member->refuse_ms);
}

/* A survivor, to a job that has a group. */
static int rejoin_group(struct rendezvous *r, struct job *job, struct member *member, int64_t now_ms,
                        struct tutti_error *error)
{
    struct member *old = job_find(job, member);
    int status = reforming_check(job, member, old, error);
    if (status == TUTTI_OK && !old)
        status = job_add(job, member, error);
    if (status < 0)
        return status;
    if (old) {
        bool again = job->state == JOB_COMPLETE && reforming_repeats(old, member);
        replace(r, job, old, member, now_ms);
        if (again) { /* it has come already, and only its Welcome was lost */
            answer_welcome(&r->output, member, r->embedded);
            return TUTTI_OK;
        }
    } else {
        job->connected++;
    }
    become_willing(r, job, member, now_ms);
    return TUTTI_OK;
}

/* A survivor, to a job of which little is known but what it says. */
static int rejoin_resting(struct rendezvous *r, struct job *job, struct member *member, int64_t now_ms,
                          struct tutti_error *error)
{
    const Wire__Previous *previous = member->join->previous;
    bool known = job->generation == previous->generation && job->instance == previous->instance;
    int status = reforming_check(job, member, NULL, error);
    if (status == TUTTI_OK)
        status = job_adopt(job, member, error);
    if (status < 0)
        return status;
    registry_activate(&r->registry, job);
    job->reforming_ms = now_ms;
    for (int rank = 0; known && rank < job->size; rank++)
        job->standings[rank].gone_ms =
            now_ms; /* the job has come to rest because all connections were gone */
    reforming_review_all(job, now_ms);
    status = rejoin_group(r, job, member, now_ms, error);
    if (status == TUTTI_OK)
        reforming_set_cause_of_survivor(job, member);
    return status;
}

int joining_admit(struct rendezvous *r, struct job *job, struct member *member, int64_t now_ms,
                  struct tutti_error *error)
{
    bool survives = member->join->previous != NULL, resting = job->state == JOB_RESTING;
    if (survives)
        return resting ? rejoin_resting(r, job, member, now_ms, error)
                       : rejoin_group(r, job, member, now_ms, error);
    if (!resting && job->state != JOB_FILLING) {
        join_group(r, job, member, now_ms);
        return TUTTI_OK;
    }
    if (resting) {
        int status = job_open(job, member, error);
        if (status < 0)
            return status;
        registry_activate(&r->registry, job);
    }
    return join_filling(r, job, member, now_ms, error);
}
