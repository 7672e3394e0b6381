/* The rendezvous.
 *
 * Happy path.  The first Join of a job opens it (RESTING -> FILLING) and fixes what all must agree on.  Each
 * further Join takes a seat.  The last one completes it: ranks are assigned, everyone is welcomed
 * (COMPLETE).  The members stay connected as long as their group lives and say goodbye in the end.  When the
 * last connection has gone the job rests (RESTING) with nothing but its generation and who had which rank.  A
 * job that rests and was never complete is forgotten.
 *
 * The group fails.  The first Abort of a member is the cause, and all others are told (COMPLETE -> FAILED).
 * Survivors come again, each on a new connection, with a Join that says what they know of their group
 * (-> REFORMING).  When all have come who may (reforming.h), or when the first of them can wait no longer,
 * those who are here are welcomed as the group of the next generation (-> COMPLETE), and whoever else is
 * still connected is sent away.  When nobody comes and nobody can come any more, the job rests.
 *
 * Failure modes while a job fills.
 * - A member that hangs up frees its seat; nobody else notices.
 * - When a member's join_timeout_ms has passed, the attempt has failed for everyone in the job, for the group
 *   cannot be without that member; all are told who is missing.
 * - A Join that contradicts the job or another member is refused; nobody else notices.
 * Of a group.
 * - A member that hangs up without a goodbye is gone.  Its ring neighbours notice that by themselves, but
 *   only once it is wired: one that goes before and does not come back at once is the cause of a failure.
 * - The same member id on another connection is the same member, which has lost its connection: it keeps
 *   its place, its old connection is closed, and it is welcomed again.
 * - A stranger that comes to a complete job is parked for a second: a member that leaves a group and joins
 *   the next one may overtake the news that others have left.  If the job is still complete after that,
 *   the stranger is refused.  Where the group has failed, strangers wait for what becomes of it.
 * Of a job that re-forms.
 * - A survivor that hangs up is gone again.
 * - A member that the group has gone on without is refused, whatever it says.
 * - The rendezvous does not know the group, for it was started anew or all connections were lost: the job is
 *   what the first survivor says that it was, and the others must say the same.
 * Always.
 * - Whatever else a connection sends is refused and closed, as if its member had hung up.
 *
 * All memory that completing and re-forming need is there before the first member is let in, so the lack of
 * it refuses one member and never breaks a group. */
#include "group/rendezvous.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/error.h"
#include "group/answer.h"
#include "group/joining.h"
#include "group/reforming.h"
#include "group/roll_call.h"

/* ---- Leaving ------------------------------------------------------------------------------------- */

/* Closes the connection of a member that stays in the job for a while. */
static void send_away(struct rendezvous *r, struct member *member, struct tutti_error *error)
{
    answer_refused(&r->output, member->connection, error);
    registry_forget_connection(&r->registry, member);
}

/* Refuses a member that is in no job. */
static void turn_away(struct rendezvous *r, struct member *member, struct tutti_error *error)
{
    send_away(r, member, error);
    member_free(member);
}

static void rest(struct rendezvous *r, struct job *job, int64_t now_ms);

/* Ends the job for all that are in it. */
static void dissolve(struct rendezvous *r, struct job *job, struct tutti_error *error, int64_t now_ms)
{
    struct member *member;
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        if (member->connected)
            send_away(r, member, error);
    }
    rest(r, job, now_ms);
}

/* The willing ones are the new group. */
static void re_form(struct rendezvous *r, struct job *job, bool timed_out, int64_t now_ms)
{
    struct tutti_error error;
    struct member *member;
    if (reforming_check_outcome(job, timed_out, &error) < 0) {
        dissolve(r, job, &error, now_ms);
        return;
    }
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        if (member->connected && !job->standings[member->rank].willing) {
            const Wire__Previous previous = {.rank = (uint32_t)member->rank, .generation = job->generation};
            reforming_left_behind(job, job->generation + 1, &previous, &error);
            send_away(r, member, &error);
        }
    }
    reforming_finish(job);
    joining_begin_group(r, job);
    for (member = TAILQ_FIRST(&job->parked); member; member = TAILQ_NEXT(member, entry))
        joining_park(r, member, now_ms);
}

static void settle(struct rendezvous *r, struct job *job, int64_t now_ms);

/* Nobody holds the job any more: the parked ones may begin the next group.  Who is still connected is
 * believed lost by the others. */
static void rest(struct rendezvous *r, struct job *job, int64_t now_ms)
{
    struct member_list parked;
    struct member *member;
    struct tutti_error error;
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        if (member->connected) {
            error_set(&error, TUTTI_ERR_REFUSED,
                      "generation %u of job '%s' is over: it has failed and all others have gone; they gave "
                      "this member up: %.600s",
                      (unsigned)job->generation, job->name, job->cause.error.message);
            send_away(r, member, &error);
        }
    }
    TAILQ_INIT(&parked);
    TAILQ_CONCAT(&parked, &job->parked, entry);
    job_close(job);
    registry_deactivate(&r->registry, job);
    while ((member = TAILQ_FIRST(&parked))) {
        TAILQ_REMOVE(&parked, member, entry);
        member->parked = false;
        if (joining_admit(r, job, member, now_ms, &error) < 0)
            turn_away(r, member, &error);
    }
    settle(r, job, now_ms);
}

/* Whatever has happened to the job: does what follows from who is in it now. */
static void settle(struct rendezvous *r, struct job *job, int64_t now_ms)
{
    switch (job->state) {
    case JOB_RESTING:
        if (job->generation == 0)
            registry_forget_job(&r->registry, job);
        break;
    case JOB_FILLING:
        if (job->count == 0)
            rest(r, job, now_ms);
        break;
    case JOB_COMPLETE:
        if (job->connected == 0)
            rest(r, job, now_ms);
        break;
    case JOB_FAILED:
        if (job->connected == 0 || job->awaited == 0)
            rest(r, job, now_ms);
        break;
    case JOB_REFORMING:
        if (job->willing == 0) {
            job->state = JOB_FAILED;
            job->reforming_ms = INT64_MIN;
            rendezvous_expect(r, reforming_review_all(job, now_ms));
            settle(r, job, now_ms);
        } else if (job->awaited == 0) {
            re_form(r, job, false, now_ms);
        }
        break;
    }
}

/* The rank has gone from a complete group.  If it was not wired, nobody else notices. */
static void watch_unwired(struct rendezvous *r, struct job *job, int rank)
{
    const struct standing *standing = &job->standings[rank];
    if (standing->wired || standing->left)
        return;
    int64_t lost_ms = standing->gone_ms + REFORMING_GRACE_MS;
    if (lost_ms < job->lost_ms)
        job->lost_ms = lost_ms;
    rendezvous_expect(r, lost_ms);
}

/* The connection of the member has gone. */
static void leave(struct rendezvous *r, struct member *member, int64_t now_ms)
{
    struct job *job = member->job;
    registry_forget_connection(&r->registry, member);
    if (member->parked) {
        TAILQ_REMOVE(&job->parked, member, entry);
        member_free(member);
    } else if (job->state == JOB_FILLING) {
        job_remove(job, member);
    } else {
        job->connected--;
        roll_call_lose(&r->output, job, member);
        rendezvous_expect(r, reforming_go(job, member->rank, now_ms));
        if (job->state == JOB_COMPLETE)
            watch_unwired(r, job, member->rank);
    }
    settle(r, job, now_ms);
}

/* ---- Time ---------------------------------------------------------------------------------------- */

/* Ends the attempt for everyone. */
static void time_out(struct rendezvous *r, struct job *job, const struct member *late, int64_t now_ms)
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
    dissolve(r, job, &error, now_ms);
}

static void tick_filling(struct rendezvous *r, struct job *job, int64_t now_ms)
{
    char text[512] = "", missing[256];
    struct member *member;
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        if (member->refuse_ms <= now_ms) {
            time_out(r, job, member, now_ms);
            return;
        }
    }
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        if (member->warn_ms <= now_ms) {
            if (!text[0])
                snprintf(text, sizeof text, "%d of %d ranks have joined job '%s'; missing: %s", job->count,
                         job->size, job->name, job_print_missing(job, missing, sizeof missing));
            answer_waiting(&r->output, member, text);
            member->warn_ms = NEVER;
        }
        rendezvous_expect(r, member->warn_ms);
        rendezvous_expect(r, member->refuse_ms);
    }
}

static void tick_complete(struct rendezvous *r, struct job *job, int64_t now_ms)
{
    rendezvous_expect(r, roll_call_tick(&r->output, job, now_ms));
    if (job->lost_ms > now_ms) {
        rendezvous_expect(r, job->lost_ms);
        return;
    }
    job->lost_ms = NEVER;
    for (int rank = 0; rank < job->size; rank++) {
        struct standing *standing = &job->standings[rank];
        if (standing->gone_ms == NEVER || standing->wired || standing->left)
            continue;
        if (standing->gone_ms + REFORMING_GRACE_MS <= now_ms) {
            standing->accused_ms = now_ms;
            reforming_set_cause_of_loss(job, job->by_rank[rank]);
            joining_fail_group(r, job, NULL, now_ms);
            return;
        }
        watch_unwired(r, job, rank);
    }
}

/* Somebody is awaited still. */
static void tick_reforming(struct rendezvous *r, struct job *job, int64_t now_ms)
{
    char text[512] = "", awaited[256];
    struct member *member;
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        if (job->standings[member->rank].willing && member->refuse_ms <= now_ms) {
            re_form(r, job, true, now_ms);
            return;
        }
    }
    for (member = TAILQ_FIRST(&job->members); member; member = TAILQ_NEXT(member, entry)) {
        if (!job->standings[member->rank].willing)
            continue;
        if (member->warn_ms <= now_ms) {
            if (!text[0])
                snprintf(text, sizeof text, "%d of %d survivors have come to re-form job '%s'; not yet: %s",
                         job->willing, job->willing + job->awaited, job->name,
                         reforming_print_awaited(job, awaited, sizeof awaited));
            answer_waiting(&r->output, member, text);
            member->warn_ms = NEVER;
        }
        rendezvous_expect(r, member->warn_ms);
        rendezvous_expect(r, member->refuse_ms);
    }
}

/* What is to become of a group that has failed shows in time, so that strangers wait for it. */
static void tick_parked(struct rendezvous *r, struct job *job, int64_t now_ms)
{
    struct member *member, *next;
    for (member = TAILQ_FIRST(&job->parked); member; member = next) {
        int64_t due_ms = job_has_failed(job) ? member->refuse_ms : member->unpark_ms;
        next = TAILQ_NEXT(member, entry);
        if (due_ms > now_ms) {
            rendezvous_expect(r, due_ms);
            continue;
        }
        struct tutti_error error;
        if (job_has_failed(job))
            error_set(
                &error, TUTTI_ERR_REFUSED,
                "job '%s' has failed, and its survivors are re-forming it or have not left; join another "
                "group under another job name (TUTTI_JOB), or end what is left of this one",
                job->name);
        else
            error_set(&error, TUTTI_ERR_REFUSED,
                      "job '%s' is complete and running with %d ranks; join another group under another job "
                      "name (TUTTI_JOB), or wait until this one has ended",
                      job->name, job->size);
        TAILQ_REMOVE(&job->parked, member, entry);
        turn_away(r, member, &error);
    }
}

static void tick_job(struct rendezvous *r, struct job *job, int64_t now_ms)
{
    if (job->state == JOB_FILLING) {
        tick_filling(r, job, now_ms);
        return;
    }
    if (job->state == JOB_COMPLETE)
        tick_complete(r, job, now_ms);
    else
        rendezvous_expect(r, reforming_review_all(job, now_ms));
    if (job->state == JOB_REFORMING && job->awaited > 0)
        tick_reforming(r, job, now_ms);
    tick_parked(r, job, now_ms);
    settle(r, job, now_ms);
}

int64_t rendezvous_tick(struct rendezvous *r, int64_t now_ms)
{
    if (now_ms >= r->next_ms) {
        struct job *job, *next;
        r->next_ms = NEVER;
        for (job = TAILQ_FIRST(&r->registry.active); job; job = next) {
            next = TAILQ_NEXT(job, entry);
            tick_job(r, job, now_ms);
        }
    }
    return r->next_ms == NEVER ? -1 : r->next_ms;
}

/* ---- Events -------------------------------------------------------------------------------------- */

struct rendezvous *rendezvous_new(const struct rendezvous_output *output, bool embedded)
{
    struct rendezvous *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->output = *output;
    r->embedded = embedded;
    r->next_ms = NEVER;
    registry_init(&r->registry);
    return r;
}

void rendezvous_free(struct rendezvous *r)
{
    if (!r)
        return;
    registry_free(&r->registry);
    free(r);
}

/* What is known of the job is what members of an older group have said. */
static void give_way_to_newer_group(struct rendezvous *r, struct job *job, const Wire__Previous *previous,
                                    int64_t now_ms)
{
    struct tutti_error error;
    if (!job->adopted || !previous || previous->generation <= job->generation)
        return;
    const Wire__Previous older = {.rank = previous->rank, .generation = job->generation};
    reforming_left_behind(job, previous->generation, &older, &error);
    dissolve(r, job, &error, now_ms);
}

static void join(struct rendezvous *r, uint64_t connection, const Wire__Join *message, int64_t now_ms)
{
    struct tutti_error error;
    if (join_check(message, &error) < 0) {
        answer_refused(&r->output, connection, &error);
        return;
    }
    struct job *job = registry_job(&r->registry, message->job, &error);
    if (!job) {
        answer_refused(&r->output, connection, &error);
        return;
    }
    give_way_to_newer_group(r, job, message->previous, now_ms);
    struct member *member = registry_add_member(&r->registry, connection, message, now_ms);
    if (!member) {
        error_set(&error, TUTTI_ERR_MEMORY, "the rendezvous has no memory for one more member");
        answer_refused(&r->output, connection, &error);
    } else if (joining_admit(r, job, member, now_ms, &error) < 0) {
        turn_away(r, member, &error);
    }
    settle(r, job, now_ms);
}

static void hear_abort(struct rendezvous *r, struct member *member, const Wire__Abort *abort, int64_t now_ms)
{
    struct job *job = member->job;
    if (abort->instance != job->instance || abort->generation != job->generation)
        return;
    rendezvous_expect(r, reforming_accuse(job, abort, member->rank, now_ms));
    if (job->state == JOB_COMPLETE) {
        reforming_set_cause(job, abort);
        joining_fail_group(r, job, member, now_ms);
    }
    settle(r, job, now_ms);
}

/* What the member of a group says of it.  False when it says what no member says. */
static bool hear(struct rendezvous *r, struct member *member, const Wire__Control *message, int64_t now_ms)
{
    struct job *job = member->job;
    struct standing *standing = &job->standings[member->rank];
    switch ((int)message->body_case) {
    case WIRE__CONTROL__BODY_ABORT:
        hear_abort(r, member, message->abort, now_ms);
        return true;
    case WIRE__CONTROL__BODY_GOODBYE:
        standing->left = true;
        r->output.close(r->output.context, member->connection);
        leave(r, member, now_ms);
        return true;
    case WIRE__CONTROL__BODY_WIRED:
        standing->wired |= message->wired->generation == job->generation;
        return true;
    case WIRE__CONTROL__BODY_LATE:
        if (job->state == JOB_COMPLETE && message->late->generation == job->generation &&
            message->late->sequence > 0)
            rendezvous_expect(r, roll_call_ask(&r->output, job, member, message->late->sequence, now_ms));
        return true;
    case WIRE__CONTROL__BODY_PRESENT:
        if (message->present->generation == job->generation) {
            roll_call_answer(&r->output, job, member, message->present);
            rendezvous_expect(r, reforming_hear(job, member->rank, now_ms));
        }
        return true;
    default:
        return false;
    }
}

static bool is_in_group(const struct member *member)
{
    return !member->parked && member->job->state != JOB_FILLING &&
           !member->job->standings[member->rank].willing;
}

void rendezvous_receive(struct rendezvous *r, uint64_t connection, const Wire__Control *message,
                        int64_t now_ms)
{
    struct member *member = registry_member(&r->registry, connection);
    if (message->body_case == WIRE__CONTROL__BODY_JOIN && !member) {
        join(r, connection, message->join, now_ms);
        return;
    }
    if (member && is_in_group(member) && hear(r, member, message, now_ms))
        return;
    struct tutti_error error;
    error_set(
        &error, TUTTI_ERR_PROTOCOL,
        message->body_case == WIRE__CONTROL__BODY_JOIN
            ? "a second Join came on this connection; a member joins once and then waits"
            : "a message came to the rendezvous that is not for it, or not at this time; this member runs "
              "another build of tutti or has a bug");
    answer_refused(&r->output, connection, &error);
    if (member)
        leave(r, member, now_ms);
}

void rendezvous_disconnected(struct rendezvous *r, uint64_t connection, int64_t now_ms)
{
    struct member *member = registry_member(&r->registry, connection);
    if (member)
        leave(r, member, now_ms);
}

int rendezvous_active_jobs(const struct rendezvous *r)
{
    return r->registry.active_count;
}
