#include "group/reforming.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "base/error.h"

/* ---- Who may come -------------------------------------------------------------------------------- */

int reforming_left_behind(const struct job *job, uint32_t generation, const Wire__Previous *previous,
                          struct tutti_error *error)
{
    return error_set(error, TUTTI_ERR_REFUSED,
                     "job '%s' is at generation %u now and went on without this member, which was rank %u of "
                     "generation %u; start it as a new member under another job name (TUTTI_JOB), or end it",
                     job->name, (unsigned)generation, (unsigned)previous->rank,
                     (unsigned)previous->generation);
}

static int other_group(const struct job *job, const Wire__Previous *previous, struct tutti_error *error)
{
    return error_set(
        error, TUTTI_ERR_REFUSED,
        "this member re-forms generation %u of job '%s' (size %u, instance %llx), but the group "
        "that others know here (%s) is generation %u (size %d, instance %llx); start it as a new "
        "member under another job name (TUTTI_JOB), or end it",
        (unsigned)previous->generation, job->name, (unsigned)previous->size,
        (unsigned long long)previous->instance, job->opener, (unsigned)job->generation, job->size,
        (unsigned long long)job->instance);
}

static int check_rank(const struct job *job, const struct member *member, const struct member *old,
                      struct tutti_error *error)
{
    char text[MEMBER_TEXT_BYTES];
    int rank = (int)member->join->previous->rank;
    const struct member *holder = job->by_rank[rank];
    if (old && old->rank != rank)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "this member says that it was rank %d of generation %u of job '%s', but its member "
                         "id is that of %s; give every process a TUTTI_MEMBER of its own, or none",
                         rank, (unsigned)job->generation, job->name, member_print(old, text));
    if (holder && holder != old)
        return error_set(
            error, TUTTI_ERR_REFUSED,
            "this member says that it was rank %d of generation %u of job '%s', but that was %s; "
            "start it as a new member under another job name (TUTTI_JOB), or end it",
            rank, (unsigned)job->generation, job->name, member_print(holder, text));
    return TUTTI_OK;
}

static int check_resting(const struct job *job, const Wire__Previous *previous, struct tutti_error *error)
{
    return job->generation > previous->generation
               ? reforming_left_behind(job, job->generation, previous, error)
               : TUTTI_OK;
}

/* Where there is a group: is it that of the member? */
static int check_group(const struct job *job, const struct member *member, const struct member *old,
                       struct tutti_error *error)
{
    const Wire__Previous *previous = member->join->previous;
    if (!old && !job->adopted)
        return reforming_left_behind(job, job->generation, previous, error);
    /* A member of this group may reach back over it, to the last one in which its ring was connected. */
    if (old && !job->adopted && previous->generation < job->generation)
        return TUTTI_OK;
    if (previous->generation != job->generation || previous->instance != job->instance ||
        (int)previous->size != job->size)
        return other_group(job, previous, error);
    return check_rank(job, member, old, error);
}

int reforming_check(const struct job *job, const struct member *member, const struct member *old,
                    struct tutti_error *error)
{
    const Wire__Previous *previous = member->join->previous;
    if (job->state == JOB_RESTING)
        return check_resting(job, previous, error);
    if (job->state == JOB_FILLING)
        return error_set(
            error, TUTTI_ERR_REFUSED,
            "job '%s' is being formed anew by other members, so that this one, which was rank %u of "
            "generation %u, cannot re-form it; start it as a new member under another job name "
            "(TUTTI_JOB), or end it",
            job->name, (unsigned)previous->rank, (unsigned)previous->generation);
    int status = check_group(job, member, old, error);
    return status < 0 ? status : job_check_settings(job, member->join, error);
}

bool reforming_repeats(const struct member *old, const struct member *member)
{
    const Wire__Join *a = old->join, *b = member->join;
    if (!a->previous != !b->previous || (a->previous && a->previous->generation != b->previous->generation) ||
        a->pid != b->pid || a->n_addresses != b->n_addresses)
        return false;
    for (size_t i = 0; i < a->n_addresses; i++) {
        if (strcmp(a->addresses[i], b->addresses[i]) != 0)
            return false;
    }
    return true;
}

/* ---- The cause ----------------------------------------------------------------------------------- */

/* The cause is of the latest group, its sentence is already there. */
static void keep_cause(struct job *job, uint32_t from)
{
    job->cause.from = from;
    job->cause.instance = job->instance;
    job->cause.generation = job->generation;
}

void reforming_set_cause(struct job *job, const Wire__Abort *abort)
{
    control_to_error(abort, &job->cause.error);
    if (job->cause.error.rank >= job->size)
        job->cause.error.rank = -1;
    keep_cause(job, abort->from);
}

static void blame(struct job *job, const struct member *member)
{
    job->cause.error.rank = member->rank;
    snprintf(job->cause.error.host, sizeof job->cause.error.host, "%s", member_host(member));
    keep_cause(job, (uint32_t)member->rank);
}

void reforming_set_cause_of_survivor(struct job *job, const struct member *member)
{
    char who[MEMBER_TEXT_BYTES];
    const Wire__Previous *previous = member->join->previous;
    if (previous->generation == job->generation && previous->cause) {
        reforming_set_cause(job, previous->cause);
        return;
    }
    error_set(&job->cause.error, TUTTI_ERR_ABORTED,
              previous->generation < job->generation
                  ? "%s could not connect its ring in generation %u and re-forms the group"
                  : "%s re-forms the group of generation %u and does not say why it has failed",
              member_print(member, who), (unsigned)job->generation);
    blame(job, member);
}

void reforming_set_cause_of_loss(struct job *job, const struct member *member)
{
    char who[MEMBER_TEXT_BYTES];
    error_set(&job->cause.error, TUTTI_ERR_PEER_LOST,
              "the rendezvous lost %s, which had not connected its ring yet: its process ended or was killed",
              member_print(member, who));
    blame(job, member);
}

/* ---- Who is waited for --------------------------------------------------------------------------- */

/* Until when the rank may still come, unless it is willing already. */
static int64_t patience_ends_ms(const struct job *job, const struct standing *standing)
{
    bool gone = standing->gone_ms != NEVER, accused = standing->accused_ms != NEVER;
    if (standing->left || (gone && accused))
        return INT64_MIN;
    if (gone)
        return standing->gone_ms + REFORMING_GRACE_MS;
    if (!accused)
        return standing->asked && job->state == JOB_REFORMING && job->silence_ms > 0
                   ? job->reforming_ms + job->silence_ms
                   : NEVER;
    int64_t since_ms = standing->accused_ms > job->reforming_ms ? standing->accused_ms : job->reforming_ms;
    return since_ms + REFORMING_GRACE_MS;
}

int64_t reforming_review(struct job *job, int rank, int64_t now_ms)
{
    if (!job_has_failed(job))
        return NEVER;
    struct standing *standing = &job->standings[rank];
    int64_t until_ms = patience_ends_ms(job, standing);
    bool awaited = !standing->willing && until_ms > now_ms;
    job->awaited += (int)awaited - (int)standing->awaited;
    standing->awaited = awaited;
    return awaited ? until_ms : NEVER;
}

int64_t reforming_review_all(struct job *job, int64_t now_ms)
{
    int64_t next_ms = NEVER;
    for (int rank = 0; rank < job->size; rank++) {
        int64_t until_ms = reforming_review(job, rank, now_ms);
        if (until_ms < next_ms)
            next_ms = until_ms;
    }
    return next_ms;
}

int64_t reforming_accuse(struct job *job, const Wire__Abort *abort, int by, int64_t now_ms)
{
    int rank = abort->rank;
    if (abort->status != TUTTI_ERR_PEER_LOST || rank < 0 || rank >= job->size || rank == by ||
        job->standings[rank].accused_ms != NEVER)
        return NEVER;
    job->standings[rank].accused_ms = now_ms;
    return reforming_review(job, rank, now_ms);
}

bool reforming_ask(struct job *job, const struct member *member)
{
    struct standing *standing = &job->standings[member->rank];
    standing->asked = member->connected && !standing->willing;
    return standing->asked;
}

int64_t reforming_hear(struct job *job, int rank, int64_t now_ms)
{
    job->standings[rank].asked = false;
    return reforming_review(job, rank, now_ms);
}

/* Who serves now could not, were the process still there that did. */
static void note_lost_server(struct job *job, const struct member *member, int64_t now_ms)
{
    const Wire__Previous *previous = member->join->previous;
    int server = previous->server;
    if (!member->join->serves || previous->generation != job->generation || server < 0 ||
        server >= job->size || server == member->rank || job->standings[server].willing)
        return;
    job->standings[server].left = true;
    reforming_review(job, server, now_ms);
}

int64_t reforming_come(struct job *job, const struct member *member, int64_t now_ms)
{
    struct standing *standing = &job->standings[member->rank];
    const Wire__Previous *previous = member->join->previous;
    job->willing += !standing->willing;
    standing->willing = true;
    standing->left = false;
    if (member->join->dead_after_ms > job->silence_ms)
        job->silence_ms = member->join->dead_after_ms;
    reforming_review(job, member->rank, now_ms);
    note_lost_server(job, member, now_ms);
    if (!previous->cause || previous->generation != job->generation)
        return NEVER;
    return reforming_accuse(job, previous->cause, member->rank, now_ms);
}

int64_t reforming_go(struct job *job, int rank, int64_t now_ms)
{
    struct standing *standing = &job->standings[rank];
    job->willing -= standing->willing;
    standing->willing = false;
    standing->gone_ms = now_ms;
    return reforming_review(job, rank, now_ms);
}

const char *reforming_print_awaited(struct job *job, char *text, size_t text_size)
{
    int count = 0;
    for (int rank = 0; rank < job->size; rank++) {
        if (job->standings[rank].awaited)
            job->scratch[count++] = rank;
    }
    return topology_print_ranks(job->scratch, count, text, text_size);
}

/* ---- The new group ------------------------------------------------------------------------------- */

/* The next member that is willing, from `rank` on in the order of the old ranks; NULL at the end. */
static struct member *next_willing(const struct job *job, int rank)
{
    while (rank < job->size && !job->standings[rank].willing)
        rank++;
    return rank < job->size ? job->by_rank[rank] : NULL;
}

/* What they completed in the group of `generation`; those that reach back further completed nothing of it. */
static void report_completed(struct job *job, uint32_t generation)
{
    struct job_report *report = &job->report;
    report->completed_everywhere = UINT64_MAX;
    report->completed_anywhere = 0;
    const struct member *member;
    for (member = next_willing(job, 0); member; member = next_willing(job, member->rank + 1)) {
        const Wire__Previous *previous = member->join->previous;
        uint64_t completed = previous->generation == generation ? previous->completed : 0;
        if (completed < report->completed_everywhere)
            report->completed_everywhere = completed;
        if (completed > report->completed_anywhere)
            report->completed_anywhere = completed;
    }
}

/* The ranks of the group before that are not here. */
static void report_lost(struct job *job)
{
    struct job_report *report = &job->report;
    int *here = job->scratch, *lost = job->scratch + report->previous_size, count = 0;
    memset(here, 0, (size_t)report->previous_size * sizeof *here);
    const struct member *member;
    for (member = next_willing(job, 0); member; member = next_willing(job, member->rank + 1))
        here[member->previous_rank] = 1;
    for (int rank = 0; rank < report->previous_size; rank++) {
        if (!here[rank])
            lost[count++] = rank;
    }
    report->lost[0] = '\0';
    if (count > 0)
        topology_print_ranks(lost, count, report->lost, sizeof report->lost);
}

/* Tells of the latest group in which any survivor's ring was connected.  That is the one of now or, where it
 * never came about on any of them, the one that its own report tells of: then that report stays, but for what
 * was completed by those who are here, and who that is. */
static void report_group(struct job *job)
{
    uint32_t newest = 0;
    struct member *member;
    for (member = next_willing(job, 0); member; member = next_willing(job, member->rank + 1)) {
        if (member->join->previous->generation > newest)
            newest = member->join->previous->generation;
    }
    bool never_came_about = newest < job->generation && newest == job->report.previous_generation;
    if (!never_came_about) {
        job->report.previous_generation = job->generation;
        job->report.previous_size = job->size;
        job->report.cause = job->cause;
        for (member = next_willing(job, 0); member; member = next_willing(job, member->rank + 1))
            member->previous_rank = member->rank;
    }
    report_completed(job, job->report.previous_generation);
    report_lost(job);
}

int reforming_check_outcome(struct job *job, bool timed_out, struct tutti_error *error)
{
    char awaited[256];
    if (timed_out && job->adopted && job->willing <= job->awaited)
        return error_set(
            error, TUTTI_ERR_TIMEOUT,
            "job '%s' cannot be re-formed: this rendezvous has not seen generation %u of it, and only "
            "%d of the %d members that may live have come; the others (%s) may have gone on without "
            "them",
            job->name, (unsigned)job->generation, job->willing, job->willing + job->awaited,
            reforming_print_awaited(job, awaited, sizeof awaited));
    int accused = 0;
    for (int rank = 0; rank < job->size; rank++)
        accused += job->standings[rank].willing && job->standings[rank].accused_ms != NEVER;
    if (accused == job->willing && job->willing < job->size)
        return error_set(
            error, TUTTI_ERR_REFUSED,
            "generation %u of job '%s' is over: the others gave up the members that want to re-form it, "
            "and are not here: %.600s",
            (unsigned)job->generation, job->name, job->cause.error.message);
    return TUTTI_OK;
}

void reforming_finish(struct job *job)
{
    int size = 0;
    assert(job->state == JOB_REFORMING && job->willing > 0);
    report_group(job);
    for (int rank = 0; rank < job->size; rank++) {
        struct member *member = job->by_rank[rank];
        if (!member)
            continue;
        if (job->standings[rank].willing)
            member->wanted = size++;
        else
            job_remove(job, member);
    }
    job->size = size;
    job->adopted = false;
    job->willing = job->awaited = 0;
    job->reforming_ms = INT64_MIN;
    job->silence_ms = 0;
    job_assign(job);
}
