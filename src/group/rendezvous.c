/* The rendezvous.
 *
 * Happy path.  The first Join of a job opens it (RESTING -> FILLING) and fixes what all must agree on.  Each
 * further Join takes a seat.  The last one completes it: ranks are assigned, everyone is welcomed
 * (COMPLETE), the members hang up, and when the last connection has gone the job rests (RESTING) with
 * nothing but its generation and who had which rank.  A job that rests and was never complete is forgotten.
 *
 * Failure modes.
 * - A member that hangs up while the job fills frees its seat; nobody else notices.
 * - When a member's join_timeout_ms has passed, the attempt has failed for everyone in the job, for the group
 *   cannot be without that member; all are told who is missing.
 * - A Join that contradicts the job or another member is refused; nobody else notices.
 * - The same member id on another connection is the same member, which has lost its connection: it keeps
 *   its seat, its old connection is closed, and if the job is complete it is welcomed again.
 * - A stranger that comes to a complete job is parked for a second: a member that leaves a group and joins
 *   the next one may overtake the news that others have hung up.  If the job is still complete after that,
 * the stranger is refused.
 * - Whatever else a connection sends is refused and closed, as if its member had hung up.
 * All memory that completing needs is there before the first member is let in, so the lack of it refuses one
 * member and never breaks a group. */
#include "group/rendezvous.h"

#include <assert.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "group/job.h"

#define NEVER INT64_MAX

struct rendezvous {
    struct rendezvous_output output;
    void *connections; /* tree of members */
    void *jobs;        /* tree of jobs */
    int job_count, active_count;
    struct job_list active;  /* filling and complete */
    struct job_list resting; /* the longest resting first */
    int64_t next_ms;         /* nothing is due before this */
};

/* ---- Trees --------------------------------------------------------------------------------------- */

static int compare_connections(const void *left, const void *right)
{
    const struct member *l = left, *r = right;
    return (l->connection > r->connection) - (l->connection < r->connection);
}

/* A job begins with its name, so that a name can be looked up without a job around it. */
static int compare_names(const void *left, const void *right)
{
    return strcmp(left, right);
}

/* tfind() returns a pointer to a node, which begins with the pointer to the key. */
static void *found(void *node)
{
    return node ? *(void **)node : NULL;
}

static void keep(void *key)
{
    (void)key;
}

static struct member *member_on(const struct rendezvous *r, uint64_t connection)
{
    struct member key = {.connection = connection};
    return found(tfind(&key, &r->connections, compare_connections));
}

static void forget_connection(struct rendezvous *r, struct member *member)
{
    tdelete(member, &r->connections, compare_connections);
    member->connected = false;
}

static void expect(struct rendezvous *r, int64_t when_ms)
{
    if (when_ms < r->next_ms)
        r->next_ms = when_ms;
}

/* ---- Answers ------------------------------------------------------------------------------------- */

static void refuse(struct rendezvous *r, uint64_t connection, struct tutti_error *error)
{
    Wire__Refused refused = WIRE__REFUSED__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    refused.status = error->code;
    refused.reason = error->message;
    message.body_case = WIRE__CONTROL__BODY_REFUSED;
    message.refused = &refused;
    r->output.send(r->output.context, connection, &message);
    r->output.close(r->output.context, connection);
}

static void fill_peer(Wire__Peer *peer, const struct member *member)
{
    wire__peer__init(peer);
    peer->rank = (uint32_t)member->rank;
    peer->member_id = member->join->member_id;
    peer->host = member->join->host;
    peer->host_name = member->join->host_name;
    peer->pid = member->join->pid;
    peer->n_addresses = member->join->n_addresses;
    peer->addresses = member->join->addresses;
}

static void welcome(struct rendezvous *r, const struct member *member)
{
    const struct job *job = member->job;
    int rank = member->rank, size = job->size;
    Wire__Welcome body = WIRE__WELCOME__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    Wire__Peer next, previous;
    body.instance = job->instance;
    body.generation = job->generation;
    body.rank = (uint32_t)rank;
    body.size = (uint32_t)size;
    body.local_rank = (uint32_t)member->local_rank;
    body.local_size = (uint32_t)member->local_size;
    body.host_count = (uint32_t)job->host_count;
    if (size > 1) {
        fill_peer(&next, job->by_rank[(rank + 1) % size]);
        fill_peer(&previous, job->by_rank[(rank + size - 1) % size]);
        body.next = &next;
        body.previous = &previous;
    }
    message.body_case = WIRE__CONTROL__BODY_WELCOME;
    message.welcome = &body;
    r->output.send(r->output.context, member->connection, &message);
}

/* `text` is "3 of 4 ranks have joined..." */
static void send_waiting(struct rendezvous *r, const struct member *member, char *text)
{
    Wire__Waiting waiting = WIRE__WAITING__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    waiting.text = text;
    message.body_case = WIRE__CONTROL__BODY_WAITING;
    message.waiting = &waiting;
    r->output.send(r->output.context, member->connection, &message);
}

/* ---- Jobs ---------------------------------------------------------------------------------------- */

static void forget_job(struct rendezvous *r, struct job *job)
{
    assert(job->state == JOB_RESTING);
    TAILQ_REMOVE(&r->resting, job, entry);
    tdelete(job, &r->jobs, compare_names);
    r->job_count--;
    job_free(job);
}

/* The job of that name; resting if it is new. */
static struct job *find_job(struct rendezvous *r, const char *name, struct tutti_error *error)
{
    struct job *job = found(tfind(name, &r->jobs, compare_names));
    if (job)
        return job;
    if (r->job_count == RENDEZVOUS_JOBS_MAX) {
        if (TAILQ_EMPTY(&r->resting)) {
            error_set(error, TUTTI_ERR_REFUSED,
                      "job '%s' cannot be opened: this rendezvous has %d jobs under way, its most; try again "
                      "later or start another rendezvous",
                      name, RENDEZVOUS_JOBS_MAX);
            return NULL;
        }
        forget_job(r, TAILQ_FIRST(&r->resting));
    }
    job = job_new(name);
    if (!job || !tsearch(job, &r->jobs, compare_names)) {
        if (job)
            job_free(job);
        error_set(error, TUTTI_ERR_MEMORY, "the rendezvous has no memory for job '%s'", name);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&r->resting, job, entry);
    r->job_count++;
    return job;
}

static void complete(struct rendezvous *r, struct job *job)
{
    job_assign(job);
    job->connected = job->size;
    job->generation++;
    job->instance = r->output.random(r->output.context);
    if (job->instance == 0)
        job->instance = 1;
    job->state = JOB_COMPLETE;
    for (int rank = 0; rank < job->size; rank++)
        welcome(r, job->by_rank[rank]);
}

/* The same member on a new connection. */
static void replace(struct rendezvous *r, struct job *job, struct member *old, struct member *member)
{
    if (old->connected) {
        r->output.close(r->output.context, old->connection);
        forget_connection(r, old);
    } else {
        job->connected++;
    }
    job_replace(job, old, member);
}

/* Into a job that fills. */
static int join_filling(struct rendezvous *r, struct job *job, struct member *member,
                        struct tutti_error *error)
{
    struct member *old = job_find(job, member);
    int status = job_check(job, member, old, error);
    if (status == TUTTI_OK && !old)
        status = job_add(job, member, error);
    if (status < 0)
        return status;
    if (old)
        replace(r, job, old, member);
    if (job->count == job->size) {
        complete(r, job);
    } else {
        expect(r, member->warn_ms);
        expect(r, member->refuse_ms);
    }
    return TUTTI_OK;
}

/* To a job that is complete: a member that has lost its connection, or a stranger. */
static void join_complete(struct rendezvous *r, struct job *job, struct member *member)
{
    struct member *old = job_find(job, member);
    bool same = old && job_check_agreement(job, member->join, NULL) == TUTTI_OK &&
                (member->wanted == TUTTI_RANK_ANY || member->wanted == old->rank);
    if (same) {
        replace(r, job, old, member);
        welcome(r, member);
        return;
    }
    member->job = job;
    member->parked = true;
    TAILQ_INSERT_TAIL(&job->parked, member, entry);
    expect(r, member->unpark_ms);
}

/* On an error the member is no part of the job. */
static int join_job(struct rendezvous *r, struct job *job, struct member *member, struct tutti_error *error)
{
    if (job->state == JOB_COMPLETE) {
        join_complete(r, job, member);
        return TUTTI_OK;
    }
    if (job->state == JOB_RESTING) {
        int status = job_open(job, member, error);
        if (status < 0)
            return status;
        TAILQ_REMOVE(&r->resting, job, entry);
        TAILQ_INSERT_TAIL(&r->active, job, entry);
        r->active_count++;
    }
    return join_filling(r, job, member, error);
}

/* Refuses a member that is in no job. */
static void turn_away(struct rendezvous *r, struct member *member, struct tutti_error *error)
{
    refuse(r, member->connection, error);
    forget_connection(r, member);
    member_free(member);
}

static void settle(struct rendezvous *r, struct job *job);

/* Nobody holds the job any more: the parked ones may begin the next group. */
static void rest(struct rendezvous *r, struct job *job)
{
    struct member_list parked;
    TAILQ_INIT(&parked);
    TAILQ_CONCAT(&parked, &job->parked, entry);
    job_close(job);
    TAILQ_REMOVE(&r->active, job, entry);
    TAILQ_INSERT_TAIL(&r->resting, job, entry);
    r->active_count--;
    struct member *member;
    while ((member = TAILQ_FIRST(&parked))) {
        struct tutti_error error;
        TAILQ_REMOVE(&parked, member, entry);
        member->parked = false;
        if (join_job(r, job, member, &error) < 0)
            turn_away(r, member, &error);
    }
    settle(r, job);
}

/* Lets the job rest when nobody holds it any more, and forgets it when there is nothing to remember. */
static void settle(struct rendezvous *r, struct job *job)
{
    if (job->state == JOB_FILLING && job->count == 0)
        rest(r, job);
    else if (job->state == JOB_COMPLETE && job->connected == 0)
        rest(r, job);
    else if (job->state == JOB_RESTING && job->generation == 0)
        forget_job(r, job);
}

/* The connection of the member has gone. */
static void leave(struct rendezvous *r, struct member *member)
{
    struct job *job = member->job;
    forget_connection(r, member);
    if (member->parked) {
        TAILQ_REMOVE(&job->parked, member, entry);
        member_free(member);
    } else if (job->state == JOB_FILLING) {
        job_remove(job, member);
    } else {
        job->connected--;
    }
    settle(r, job);
}

/* ---- Time ---------------------------------------------------------------------------------------- */

/* Ends the attempt for everyone. */
static void time_out(struct rendezvous *r, struct job *job, const struct member *late)
{
    char missing[256], present[400];
    struct tutti_error error;
    uint32_t timeout_ms = (uint32_t)(late->refuse_ms - late->joined_ms);
    error_set(&error, TUTTI_ERR_TIMEOUT,
              "job '%s' was not complete after %u ms: %d of %d ranks have joined (%s); missing: %s; start "
              "what is missing with this rendezvous and job name, or raise TUTTI_JOIN_TIMEOUT",
              job->name, (unsigned)timeout_ms, job->count, job->size,
              job_print_present(job, present, sizeof present),
              job_print_missing(job, missing, sizeof missing));
    struct member *member;
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        refuse(r, member->connection, &error);
        forget_connection(r, member);
    }
    rest(r, job);
}

static void tick_filling(struct rendezvous *r, struct job *job, int64_t now_ms)
{
    char text[512] = "", missing[256];
    struct member *member;
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        if (member->refuse_ms <= now_ms) {
            time_out(r, job, member);
            return;
        }
    }
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        if (member->warn_ms <= now_ms) {
            if (!text[0])
                snprintf(text, sizeof text, "%d of %d ranks have joined job '%s'; missing: %s", job->count,
                         job->size, job->name, job_print_missing(job, missing, sizeof missing));
            send_waiting(r, member, text);
            member->warn_ms = NEVER;
        }
        expect(r, member->warn_ms);
        expect(r, member->refuse_ms);
    }
}

static void tick_parked(struct rendezvous *r, struct job *job, int64_t now_ms)
{
    struct member *member, *next;
    for (member = TAILQ_FIRST(&job->parked); member; member = next) {
        next = TAILQ_NEXT(member, entry);
        if (member->unpark_ms > now_ms) {
            expect(r, member->unpark_ms);
            continue;
        }
        struct tutti_error error;
        error_set(&error, TUTTI_ERR_REFUSED,
                  "job '%s' is complete and running with %d ranks; join another group under another job "
                  "name (TUTTI_JOB), or wait until this one has ended",
                  job->name, job->size);
        TAILQ_REMOVE(&job->parked, member, entry);
        turn_away(r, member, &error);
    }
}

int64_t rendezvous_tick(struct rendezvous *r, int64_t now_ms)
{
    if (now_ms >= r->next_ms) {
        struct job *job, *next;
        r->next_ms = NEVER;
        for (job = TAILQ_FIRST(&r->active); job; job = next) {
            next = TAILQ_NEXT(job, entry);
            if (job->state == JOB_FILLING)
                tick_filling(r, job, now_ms);
            else
                tick_parked(r, job, now_ms);
        }
    }
    return r->next_ms == NEVER ? -1 : r->next_ms;
}

/* ---- Events -------------------------------------------------------------------------------------- */

struct rendezvous *rendezvous_new(const struct rendezvous_output *output)
{
    struct rendezvous *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->output = *output;
    r->next_ms = NEVER;
    TAILQ_INIT(&r->active);
    TAILQ_INIT(&r->resting);
    return r;
}

void rendezvous_free(struct rendezvous *r)
{
    struct job *job;
    struct member *member;
    if (!r)
        return;
    while ((job = TAILQ_FIRST(&r->active))) {
        while ((member = TAILQ_FIRST(&job->parked))) {
            TAILQ_REMOVE(&job->parked, member, entry);
            member_free(member);
        }
        job_close(job);
        TAILQ_REMOVE(&r->active, job, entry);
        TAILQ_INSERT_TAIL(&r->resting, job, entry);
    }
    while ((job = TAILQ_FIRST(&r->resting)))
        forget_job(r, job);
    tdestroy(r->connections, keep);
    tdestroy(r->jobs, keep);
    free(r);
}

static void join(struct rendezvous *r, uint64_t connection, const Wire__Join *message, int64_t now_ms)
{
    struct tutti_error error;
    if (join_check(message, &error) < 0) {
        refuse(r, connection, &error);
        return;
    }
    struct job *job = find_job(r, message->job, &error);
    if (!job) {
        refuse(r, connection, &error);
        return;
    }
    struct member *member = member_new(connection, message, now_ms);
    if (!member || !tsearch(member, &r->connections, compare_connections)) {
        if (member)
            member_free(member);
        error_set(&error, TUTTI_ERR_MEMORY, "the rendezvous has no memory for one more member");
        refuse(r, connection, &error);
    } else if (join_job(r, job, member, &error) < 0) {
        turn_away(r, member, &error);
    }
    settle(r, job);
}

void rendezvous_receive(struct rendezvous *r, uint64_t connection, const Wire__Control *message,
                        int64_t now_ms)
{
    struct member *member = member_on(r, connection);
    if (message->body_case == WIRE__CONTROL__BODY_JOIN && !member) {
        join(r, connection, message->join, now_ms);
        return;
    }
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_PROTOCOL,
              message->body_case == WIRE__CONTROL__BODY_JOIN
                  ? "a second Join came on this connection; a member joins once and then waits"
                  : "a message other than a Join came to the rendezvous; this member runs another build of "
                    "tutti or has a bug");
    refuse(r, connection, &error);
    if (member)
        leave(r, member);
}

void rendezvous_disconnected(struct rendezvous *r, uint64_t connection, int64_t now_ms)
{
    (void)now_ms;
    struct member *member = member_on(r, connection);
    if (member)
        leave(r, member);
}

int rendezvous_active_jobs(const struct rendezvous *r)
{
    return r->active_count;
}
