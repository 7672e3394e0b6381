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
#define JOIN_TIMEOUT_MS_DEFAULT  60000 /* where a Join leaves it at 0 */
#define MISSING_AFTER_MS_DEFAULT 10000
#define GENERATION_MAX           INT32_MAX /* that a member may say; leaves room for those after it */

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

/* What a new member asks for. */
static int check_wish(const Wire__Join *join, struct tutti_error *error)
{
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
    return TUTTI_OK;
}

/* What a survivor says of its old group; it asks for nothing, so rank and size in the Join itself do not
 * count. */
static int check_previous(const Wire__Join *join, struct tutti_error *error)
{
    const Wire__Previous *previous = join->previous;
    if (previous->size == 0 || previous->size > RENDEZVOUS_SIZE_MAX || previous->rank >= previous->size ||
        previous->instance == 0 || previous->generation == 0 || previous->generation > GENERATION_MAX)
        return error_set(error, TUTTI_ERR_PROTOCOL,
                         "this member re-forms a group of job '%s' that cannot have been: rank %u of %u in "
                         "generation %u; it runs another build of tutti or has a bug",
                         join->job, (unsigned)previous->rank, (unsigned)previous->size,
                         (unsigned)previous->generation);
    return TUTTI_OK;
}

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
    int status = join->previous ? check_previous(join, error) : check_wish(join, error);
    if (status < 0)
        return status;
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
    member->wanted = join->previous ? (int)join->previous->rank : join->rank;
    memcpy(member->id, join->member_id.data, sizeof member->id);
    member->joined_ms = now_ms;
    member->warn_ms = now_ms + (warn ? warn : MISSING_AFTER_MS_DEFAULT);
    member->refuse_ms = now_ms + (timeout ? timeout : JOIN_TIMEOUT_MS_DEFAULT);
    return member;
}

void member_free(struct member *member)
{
    wire__join__free_unpacked(member->join, NULL);
    free(member);
}

const char *member_host(const struct member *member)
{
    return member->join->host_name[0] ? member->join->host_name : member->join->host;
}

const char *member_print(const struct member *member, char text[MEMBER_TEXT_BYTES])
{
    snprintf(text, MEMBER_TEXT_BYTES, "rank %d (host %.64s, pid %u)", member->rank, member_host(member),
             (unsigned)member->join->pid);
    return text;
}

const char *member_print_wish(const struct member *member, char text[MEMBER_TEXT_BYTES])
{
    char who[32] = "a member";
    if (member->wanted != TUTTI_RANK_ANY)
        snprintf(who, sizeof who, "rank %d", member->wanted);
    snprintf(text, MEMBER_TEXT_BYTES, "%s on host %.64s (pid %u)", who, member_host(member),
             (unsigned)member->join->pid);
    return text;
}

/* ---- Opening and closing ------------------------------------------------------------------------- */

static void forget_failure(struct job *job)
{
    job->adopted = job->roll_call = false;
    job->willing = job->awaited = job->unanswered = 0;
    job->reforming_ms = INT64_MIN;
    job->lost_ms = job->roll_call_ms = NEVER;
}

struct job *job_new(const char *name)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    snprintf(job->name, sizeof job->name, "%s", name);
    TAILQ_INIT(&job->members);
    TAILQ_INIT(&job->parked);
    forget_failure(job);
    return job;
}

static void release_room(struct job *job)
{
    free(job->by_rank);
    free(job->standings);
    free(job->places);
    free(job->scratch);
    free(job->next_seats);
    job->by_rank = NULL;
    job->standings = NULL;
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

static void stand_as_new(struct job *job)
{
    for (int rank = 0; rank < job->size; rank++)
        job->standings[rank] = (struct standing){.gone_ms = NEVER, .accused_ms = NEVER};
}

static int make_room(struct job *job, int size, struct tutti_error *error)
{
    size_t n = (size_t)size;
    job->by_rank = calloc(n, sizeof(struct member *));
    job->standings = calloc(n, sizeof *job->standings);
    job->places = calloc(n, sizeof *job->places);
    job->scratch = calloc(n, TOPOLOGY_SCRATCH * sizeof *job->scratch);
    job->next_seats = calloc(n, sizeof *job->next_seats);
    if (job->by_rank && job->standings && job->places && job->scratch && job->next_seats) {
        job->size = size;
        stand_as_new(job);
        return TUTTI_OK;
    }
    release_room(job);
    return error_set(error, TUTTI_ERR_MEMORY, "the rendezvous has no memory for the %d ranks of job '%s'",
                     size, job->name);
}

static void take_settings(struct job *job, const struct member *first)
{
    job->slice_bytes = first->join->slice_bytes;
    job->checksum = first->join->checksum;
    snprintf(job->agreement, sizeof job->agreement, "%s", first->join->agreement);
    member_print_wish(first, job->opener);
}

int job_open(struct job *job, const struct member *first, struct tutti_error *error)
{
    assert(job->state == JOB_RESTING);
    int status = make_room(job, (int)first->join->size, error);
    if (status < 0)
        return status;
    take_settings(job, first);
    job->state = JOB_FILLING;
    return TUTTI_OK;
}

int job_adopt(struct job *job, const struct member *first, struct tutti_error *error)
{
    const Wire__Previous *previous = first->join->previous;
    assert(job->state == JOB_RESTING);
    int status = make_room(job, (int)previous->size, error);
    if (status < 0)
        return status;
    take_settings(job, first);
    job->instance = previous->instance;
    job->generation = previous->generation;
    job->adopted = true;
    job->state = JOB_REFORMING;
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
    job->report.previous_generation = 0;
    forget_failure(job);
    release_room(job);
    job->state = JOB_RESTING;
}

/* ---- Joining ------------------------------------------------------------------------------------- */

struct member *job_find(const struct job *job, const struct member *like)
{
    void *node = tfind(like, &job->by_id, compare_members);
    return node ? *(struct member **)node : NULL;
}

int job_check_settings(const struct job *job, const Wire__Join *join, struct tutti_error *error)
{
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
    if (strcmp(join->agreement, job->agreement) != 0)
        return error_set(
            error, TUTTI_ERR_REFUSED,
            "this member says %.300s, but job '%s' was opened with %.300s by %s; set them to the same "
            "values everywhere",
            join->agreement, job->name, job->agreement, job->opener);
    return TUTTI_OK;
}

int job_check_agreement(const struct job *job, const Wire__Join *join, struct tutti_error *error)
{
    if ((int)join->size != job->size)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member says size %u, but job '%s' was opened with size %d by %s; start every "
                         "rank with the same size, or give this one another job name",
                         (unsigned)join->size, job->name, job->size, job->opener);
    return job_check_settings(job, join, error);
}

int job_check(const struct job *job, const struct member *member, const struct member *old,
              struct tutti_error *error)
{
    char text[MEMBER_TEXT_BYTES];
    int rank = member->wanted, status = job_check_agreement(job, member->join, error);
    if (status < 0 || rank == TUTTI_RANK_ANY)
        return status;
    const struct member *holder = job->by_rank[rank];
    if (holder && holder != old)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "rank %d of job '%s' is already taken by %s; give every process a rank of its own, "
                         "or this group another job name",
                         rank, job->name, member_print_wish(holder, text));
    /* Otherwise ranks with one id by mistake would push each other out until the deadline. */
    if (old && old->wanted != TUTTI_RANK_ANY && old->wanted != rank)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member wants rank %d of job '%s' under the member id of %s; give every "
                         "process a TUTTI_MEMBER of its own, or none",
                         rank, job->name, member_print_wish(old, text));
    return TUTTI_OK;
}

int job_add(struct job *job, struct member *member, struct tutti_error *error)
{
    if (!tsearch(member, &job->by_id, compare_members))
        return error_set(error, TUTTI_ERR_MEMORY, "the rendezvous has no memory for one more member");
    member->job = job;
    TAILQ_INSERT_TAIL(&job->members, member, entry);
    job->count++;
    member->rank = member->wanted; /* in a job that fills, not the last word */
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
    member->previous_rank = old->previous_rank;
    if (job->state != JOB_FILLING)
        job->by_rank[member->rank] = member;
    else if (member->wanted != TUTTI_RANK_ANY)
        job->by_rank[member->wanted] = member;
    member_free(old);
}

void job_remove(struct job *job, struct member *member)
{
    int rank = job->state == JOB_FILLING ? member->wanted : member->rank;
    tdelete(member, &job->by_id, compare_members);
    TAILQ_REMOVE(&job->members, member, entry);
    job->count--;
    if (rank == TUTTI_RANK_ANY)
        job->any_count--;
    else
        job->by_rank[rank] = NULL;
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

/* A group that re-forms is not larger than the one before, so that the memory of that one will do. */
static struct seat *room_for_seats(struct job *job)
{
    if (!job->next_seats)
        return job->seats;
    free(job->seats);
    job->seats = job->next_seats;
    job->next_seats = NULL;
    return job->seats;
}

void job_assign(struct job *job)
{
    assert(job->count == job->size);
    fill_places(job);
    job->host_count = topology_assign(job->places, job->size, job->scratch);
    const struct place *place = job->places;
    struct seat *seat = room_for_seats(job);
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
    qsort(job->seats, (size_t)job->size, sizeof *job->seats, compare_seats);
    job->seat_count = job->size;
    stand_as_new(job);
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
                                 member_host(member));
        named++;
    }
    return text;
}
