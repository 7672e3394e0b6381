#include "group/registry.h"

#include <assert.h>
#include <search.h>
#include <string.h>
#include "base/error.h"
#include "group/rendezvous.h"

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

static void keep_key(void *key)
{
    (void)key;
}

void registry_init(struct registry *registry)
{
    *registry = (struct registry){0};
    TAILQ_INIT(&registry->active);
    TAILQ_INIT(&registry->resting);
}

void registry_free(struct registry *registry)
{
    struct job *job;
    struct member *member;
    while ((job = TAILQ_FIRST(&registry->active))) {
        while ((member = TAILQ_FIRST(&job->parked))) {
            TAILQ_REMOVE(&job->parked, member, entry);
            member_free(member);
        }
        job_close(job);
        registry_deactivate(registry, job);
    }
    while ((job = TAILQ_FIRST(&registry->resting)))
        registry_forget_job(registry, job);
    tdestroy(registry->connections, keep_key);
    tdestroy(registry->jobs, keep_key);
}

/* ---- Connections --------------------------------------------------------------------------------- */

struct member *registry_member(const struct registry *registry, uint64_t connection)
{
    struct member key = {.connection = connection};
    return found(tfind(&key, &registry->connections, compare_connections));
}

struct member *registry_add_member(struct registry *registry, uint64_t connection, const Wire__Join *join,
                                   int64_t now_ms)
{
    struct member *member = member_new(connection, join, now_ms);
    if (member && !tsearch(member, &registry->connections, compare_connections)) {
        member_free(member);
        return NULL;
    }
    return member;
}

void registry_forget_connection(struct registry *registry, struct member *member)
{
    tdelete(member, &registry->connections, compare_connections);
    member->connected = false;
}

/* ---- Jobs ---------------------------------------------------------------------------------------- */

void registry_forget_job(struct registry *registry, struct job *job)
{
    assert(job->state == JOB_RESTING);
    TAILQ_REMOVE(&registry->resting, job, entry);
    tdelete(job, &registry->jobs, compare_names);
    registry->job_count--;
    job_free(job);
}

struct job *registry_job(struct registry *registry, const char *name, struct tutti_error *error)
{
    struct job *job = found(tfind(name, &registry->jobs, compare_names));
    if (job)
        return job;
    if (registry->job_count == RENDEZVOUS_JOBS_MAX) {
        if (TAILQ_EMPTY(&registry->resting)) {
            error_set(error, TUTTI_ERR_REFUSED,
                      "job '%s' cannot be opened: this rendezvous has %d jobs under way, its most; try again "
                      "later or start another rendezvous",
                      name, RENDEZVOUS_JOBS_MAX);
            return NULL;
        }
        registry_forget_job(registry, TAILQ_FIRST(&registry->resting));
    }
    job = job_new(name);
    if (!job || !tsearch(job, &registry->jobs, compare_names)) {
        if (job)
            job_free(job);
        error_set(error, TUTTI_ERR_MEMORY, "the rendezvous has no memory for job '%s'", name);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&registry->resting, job, entry);
    registry->job_count++;
    return job;
}

void registry_activate(struct registry *registry, struct job *job)
{
    TAILQ_REMOVE(&registry->resting, job, entry);
    TAILQ_INSERT_TAIL(&registry->active, job, entry);
    registry->active_count++;
}

void registry_deactivate(struct registry *registry, struct job *job)
{
    TAILQ_REMOVE(&registry->active, job, entry);
    TAILQ_INSERT_TAIL(&registry->resting, job, entry);
    registry->active_count--;
}
