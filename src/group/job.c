#include "group/job.h"

#include <assert.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "base/text.h"
#include "group/rendezvous.h"

#define JOIN_BYTES_MAX           16384 /* encoded; a Welcome carries two neighbours and must fit a frame */
#define PARKED_MS                1000
#define JOIN_TIMEOUT_MS_DEFAULT  60000 /* where a Join leaves it at 0 */
#define MISSING_AFTER_MS_DEFAULT 10000
#define TEXT_BYTES               160

static int compare_members(const void *left, const void *right)
{
    const struct member *l = left, *r = right;
    return memcmp(l->id, r->id, sizeof l->id);
}

static int compare_seats(const void *left, const void *right)
{
    const struct seat *l = left, *r = right;
    return memcmp(l->id, r->id, sizeof l->id);
}

/* ---- Members ------------------------------------------------------------------------------------- */

int join_check(const Wire__Join *join, struct tutti_error *error)
{
    size_t length = strlen(join->job), bytes = wire__join__get_packed_size(join);
    if (join->member_id.len != MEMBER_ID_BYTES)
        return error_set(error, TUTTI_ERR_PROTOCOL, "the member id of a Join has %zu bytes instead of %d",
                         join->member_id.len, MEMBER_ID_BYTES);
    if (length == 0 || length > SETTING_JOB_BYTES_MAX)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "the name of a job has 1 to %d bytes, this one %zu; set TUTTI_JOB to another",
                         SETTING_JOB_BYTES_MAX, length);
    if (text_has_control(join->job))
        return error_set(error, TUTTI_ERR_REFUSED,
                         "the name of the job has control characters in it; set TUTTI_JOB to another");
    if (join->size == 0 || join->size > RENDEZVOUS_SIZE_MAX)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member says size %u for job '%s', and a group has 1 to %d ranks; check "
                         "TUTTI_SIZE",
                         (unsigned)join->size, join->job, RENDEZVOUS_SIZE_MAX);
    if (join->rank < TUTTI_RANK_ANY || join->rank >= (int)join->size)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member wants rank %d of job '%s', whose size %u allows 0 to %u; check "
                         "TUTTI_RANK and TUTTI_SIZE",
                         (int)join->rank, join->job, (unsigned)join->size, (unsigned)join->size - 1);
    if (bytes > JOIN_BYTES_MAX)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member announces %zu bytes of names and addresses, and %d are the most; "
                         "narrow its addresses down with TUTTI_INTERFACE",
                         bytes, JOIN_BYTES_MAX);
    return TUTTI_OK;
}

static Wire__Join *join_copy(const Wire__Join *join)
{
    Wire__Join *copy = NULL;
    uint8_t *bytes = malloc(wire__join__get_packed_size(join));
    if (bytes)
        copy = wire__join__unpack(NULL, wire__join__pack(join, bytes), bytes);
    free(bytes);
    return copy;
}

struct member *member_new(uint64_t connection, const Wire__Join *join, int64_t now_ms)
{
    uint32_t warn = join->missing_after_ms, timeout = join->join_timeout_ms;
    struct member *member = calloc(1, sizeof *member);
    if (!member)
        return NULL;
    member->join = join_copy(join);
    if (!member->join) {
        free(member);
        return NULL;
    }
    member->connection = connection;
    member->connected = true;
    member->wanted = join->rank;
    memcpy(member->id, join->member_id.data, sizeof member->id);
    member->joined_ms = now_ms;
    member->warn_ms = now_ms + (warn ? warn : MISSING_AFTER_MS_DEFAULT);
    member->refuse_ms = now_ms + (timeout ? timeout : JOIN_TIMEOUT_MS_DEFAULT);
    member->unpark_ms = now_ms + PARKED_MS;
    if (member->unpark_ms > member->refuse_ms)
        member->unpark_ms = member->refuse_ms;
    return member;
}

void member_free(struct member *member)
{
    wire__join__free_unpacked(member->join, NULL);
    free(member);
}

static const char *host_text(const struct member *member)
{
    return member->join->host_name[0] ? member->join->host_name : member->join->host;
}

/* "rank 2 on host a (pid 7)" */
static const char *describe(const struct member *member, char text[TEXT_BYTES])
{
    char who[32] = "a member";
    if (member->wanted != TUTTI_RANK_ANY)
        snprintf(who, sizeof who, "rank %d", member->wanted);
    snprintf(text, TEXT_BYTES, "%s on host %.64s (pid %u)", who, host_text(member),
             (unsigned)member->join->pid);
    return text;
}

/* ---- Opening and closing ------------------------------------------------------------------------- */

struct job *job_new(const char *name)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    snprintf(job->name, sizeof job->name, "%s", name);
    TAILQ_INIT(&job->members);
    TAILQ_INIT(&job->parked);
    return job;
}

static void release_room(struct job *job)
{
    free(job->by_rank);
    free(job->places);
    free(job->scratch);
    free(job->next_seats);
    job->by_rank = NULL;
    job->places = NULL;
    job->scratch = NULL;
    job->next_seats = NULL;
}

void job_free(struct job *job)
{
    assert(TAILQ_EMPTY(&job->members) && TAILQ_EMPTY(&job->parked));
    release_room(job);
    free(job->seats);
    free(job);
}

static int make_room(struct job *job, int size)
{
    size_t n = (size_t)size;
    job->by_rank = calloc(n, sizeof(struct member *));
    job->places = calloc(n, sizeof *job->places);
    job->scratch = calloc(n, TOPOLOGY_SCRATCH * sizeof *job->scratch);
    job->next_seats = calloc(n, sizeof *job->next_seats);
    if (job->by_rank && job->places && job->scratch && job->next_seats)
        return TUTTI_OK;
    release_room(job);
    return TUTTI_ERR_MEMORY;
}

int job_open(struct job *job, const struct member *first, struct tutti_error *error)
{
    const Wire__Join *join = first->join;
    assert(job->state == JOB_RESTING);
    if (make_room(job, (int)join->size) < 0)
        return error_set(error, TUTTI_ERR_MEMORY, "the rendezvous has no memory for the %u ranks of job '%s'",
                         (unsigned)join->size, job->name);
    job->size = (int)join->size;
    job->slice_bytes = join->slice_bytes;
    job->checksum = join->checksum;
    describe(first, job->opener);
    job->state = JOB_FILLING;
    return TUTTI_OK;
}

static void keep(void *member)
{
    (void)member;
}

void job_close(struct job *job)
{
    struct member *member;
    tdestroy(job->by_id, keep);
    job->by_id = NULL;
    while ((member = TAILQ_FIRST(&job->members))) {
        TAILQ_REMOVE(&job->members, member, entry);
        member_free(member);
    }
    job->count = job->any_count = job->connected = 0;
    release_room(job);
    job->state = JOB_RESTING;
}

/* ---- Joining ------------------------------------------------------------------------------------- */

struct member *job_find(const struct job *job, const struct member *like)
{
    void *node = tfind(like, &job->by_id, compare_members);
    return node ? *(struct member **)node : NULL;
}

int job_check_agreement(const struct job *job, const Wire__Join *join, struct tutti_error *error)
{
    if ((int)join->size != job->size)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member says size %u, but job '%s' was opened with size %d by %s; start every "
                         "rank with the same size, or give this one another job name",
                         (unsigned)join->size, job->name, job->size, job->opener);
    if (join->slice_bytes != job->slice_bytes)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member says slice_bytes %llu, but job '%s' was opened with slice_bytes %llu "
                         "by %s; set TUTTI_SLICE_BYTES to the same value everywhere",
                         (unsigned long long)join->slice_bytes, job->name,
                         (unsigned long long)job->slice_bytes, job->opener);
    if ((bool)join->checksum != job->checksum)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member says checksum %d, but job '%s' was opened with checksum %d by %s; set "
                         "TUTTI_CHECKSUM to the same value everywhere",
                         join->checksum ? 1 : 0, job->name, job->checksum ? 1 : 0, job->opener);
    return TUTTI_OK;
}

int job_check(const struct job *job, const struct member *member, const struct member *old,
              struct tutti_error *error)
{
    char text[TEXT_BYTES];
    int rank = member->wanted, status = job_check_agreement(job, member->join, error);
    if (status < 0 || rank == TUTTI_RANK_ANY)
        return status;
    const struct member *holder = job->by_rank[rank];
    if (holder && holder != old)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "rank %d of job '%s' is already taken by %s; give every process a rank of its own, "
                         "or this group another job name",
                         rank, job->name, describe(holder, text));
    /* Otherwise ranks with one id by mistake would push each other out until the deadline. */
    if (old && old->wanted != TUTTI_RANK_ANY && old->wanted != rank)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member wants rank %d of job '%s' under the member id of %s; give every "
                         "process a TUTTI_MEMBER of its own, or none",
                         rank, job->name, describe(old, text));
    return TUTTI_OK;
}

int job_add(struct job *job, struct member *member, struct tutti_error *error)
{
    if (!tsearch(member, &job->by_id, compare_members))
        return error_set(error, TUTTI_ERR_MEMORY, "the rendezvous has no memory for one more member");
    member->job = job;
    TAILQ_INSERT_TAIL(&job->members, member, entry);
    job->count++;
    if (member->wanted == TUTTI_RANK_ANY)
        job->any_count++;
    else
        job->by_rank[member->wanted] = member;
    return TUTTI_OK;
}

void job_replace(struct job *job, struct member *old, struct member *member)
{
    struct member **node = tfind(old, &job->by_id, compare_members);
    *node = member;
    member->job = job;
    TAILQ_INSERT_BEFORE(old, member, entry);
    TAILQ_REMOVE(&job->members, old, entry);
    if (member->wanted == TUTTI_RANK_ANY)
        member->wanted = old->wanted;
    else if (old->wanted == TUTTI_RANK_ANY)
        job->any_count--;
    member->rank = old->rank;
    member->local_rank = old->local_rank;
    member->local_size = old->local_size;
    if (job->state == JOB_COMPLETE)
        job->by_rank[member->rank] = member;
    else if (member->wanted != TUTTI_RANK_ANY)
        job->by_rank[member->wanted] = member;
    member_free(old);
}

void job_remove(struct job *job, struct member *member)
{
    assert(job->state == JOB_FILLING);
    tdelete(member, &job->by_id, compare_members);
    TAILQ_REMOVE(&job->members, member, entry);
    job->count--;
    if (member->wanted == TUTTI_RANK_ANY)
        job->any_count--;
    else
        job->by_rank[member->wanted] = NULL;
    member_free(member);
}

/* ---- Ranks --------------------------------------------------------------------------------------- */

static int remembered_rank(const struct job *job, const struct member *member)
{
    struct seat key;
    if (job->seat_count != job->size)
        return TUTTI_RANK_ANY;
    memcpy(key.id, member->id, sizeof key.id);
    const struct seat *seat = bsearch(&key, job->seats, (size_t)job->seat_count, sizeof key, compare_seats);
    return seat ? seat->rank : TUTTI_RANK_ANY;
}

static void fill_places(struct job *job)
{
    struct place *place = job->places;
    const struct member *member;
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        *place++ = (struct place){
            .host = member->join->host, .wanted = member->wanted, .remembered = remembered_rank(job, member)};
    }
}

void job_assign(struct job *job)
{
    assert(job->count == job->size);
    fill_places(job);
    job->host_count = topology_assign(job->places, job->size, job->scratch);
    const struct place *place = job->places;
    struct seat *seat = job->next_seats;
    struct member *member;
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        member->rank = seat->rank = place->rank;
        member->local_rank = place->local_rank;
        member->local_size = place->local_size;
        memcpy(seat->id, member->id, sizeof seat->id);
        job->by_rank[member->rank] = member;
        place++;
        seat++;
    }
    free(job->seats);
    job->seats = job->next_seats;
    job->next_seats = NULL;
    qsort(job->seats, (size_t)job->size, sizeof *job->seats, compare_seats);
    job->seat_count = job->size;
}

/* ---- Texts --------------------------------------------------------------------------------------- */

const char *job_print_missing(const struct job *job, char *text, size_t text_size)
{
    int missing = 0;
    if (job->any_count > 0) {
        missing = job->size - job->count;
        snprintf(text, text_size, "%d member%s", missing, missing == 1 ? "" : "s");
        return text;
    }
    for (int rank = 0; rank < job->size; rank++) {
        if (!job->by_rank[rank])
            job->scratch[missing++] = rank;
    }
    return topology_print_ranks(job->scratch, missing, text, text_size);
}

const char *job_print_present(struct job *job, char *text, size_t text_size)
{
    const size_t longest = 100; /* of one host */
    fill_places(job);
    int hosts = topology_number_hosts(job->places, job->count, job->scratch);
    int *members = job->scratch, named = 0, i = 0;
    memset(members, 0, (size_t)hosts * sizeof *members);
    for (i = 0; i < job->count; i++)
        members[job->places[i].host_index]++;
    size_t used = 0;
    const struct member *member = TAILQ_FIRST(&job->members);
    for (i = 0; member; member = TAILQ_NEXT(member, entry), i++) {
        if (job->places[i].host_index != named)
            continue;
        const char *comma = named > 0 ? ", " : "";
        if (used + longest > text_size) {
            snprintf(text + used, text_size - used, "%s...", comma);
            break;
        }
        used += (size_t)snprintf(text + used, text_size - used, "%s%d on host %.64s", comma, members[named],
                                 host_text(member));
        named++;
    }
    return text;
}
