/* For test_rendezvous_survival.c: its members, the groups that they were in, and what they check in each word
 * of the rendezvous. */
#ifndef TUTTI_TESTS_SURVIVAL_WORLD_H
#define TUTTI_TESTS_SURVIVAL_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "group/reforming.h"
#include "group/rendezvous.h"
#include "group/roll_call.h"

#define STEPS      600
#define PERSONS    8
#define GROUPS_MAX STEPS
#define CONNECTED  NEVER

enum phase {
    OUT,     /* has never joined, or has left */
    JOINING, /* a new member that waits */
    MEMBER,  /* of a living group, as far as it knows */
    FAILED,  /* knows that its group has failed */
    COMING,  /* has come to re-form it, and waits */
    ENDED    /* crashed or gave up; another process takes its place */
};

struct person {
    enum phase phase;
    int id, process;            /* the same id may be that of another process later */
    uint64_t ear, joining;      /* connections: of its group, of its latest Join; 0: none */
    bool deaf;                  /* its Welcome is lost, and the connection breaks */
    int64_t deadline_ms;        /* of its Join */
    int group, rank;            /* of which it is a member; -1: none */
    uint64_t latest, completed; /* operations */
    bool asked;                 /* has not answered the roll call */
    uint64_t answered;          /* what it answered last */
    uint64_t late;              /* the operation that it has asked about; 0: it does not wait for an answer */
    int64_t late_ms;
    int lost_rank;            /* the cause that it knows; -1: no rank */
    uint32_t said_generation; /* in its latest Join; 0: it was a new member */
    uint64_t said_completed;
};

struct slot {
    int person, id;
    int64_t gone_ms; /* CONNECTED: it is connected */
    bool left, told;
    int previous_rank;
};

struct group {
    uint64_t instance;
    uint32_t generation;
    int size, welcomed;
    struct slot slot[PERSONS];
    uint32_t previous_generation; /* of the report; 0: it is no re-formed group */
    int previous_size;
    uint64_t everywhere, anywhere, cause_instance;
    char lost[256], cause[256];
    bool checked;
};

struct world {
    struct rendezvous *rendezvous;
    uint64_t random, last_connection;
    int64_t now_ms;
    int size; /* that new members want */
    struct person person[PERSONS];
    struct group group[GROUPS_MAX];
    int groups, latest; /* the latest group of this rendezvous; -1: it has made none */
    bool rested;        /* since then; what it knew of the members it knows no more */
    int processes;
    long welcomes, reformed, adopted, refusals, aborts, missing, again;
};

static uint64_t roll(struct world *w)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int pick(struct world *w, int count)
{
    return (int)(roll(w) % (uint64_t)count);
}

static struct person *person_on(struct world *w, uint64_t connection)
{
    for (int i = 0; i < PERSONS; i++) {
        if (w->person[i].ear == connection || w->person[i].joining == connection)
            return &w->person[i];
    }
    fail_msg("nobody is on connection %d", (int)connection);
    return NULL;
}

static struct slot *slot_of(struct world *w, const struct person *p)
{
    return p->group < 0 ? NULL : &w->group[p->group].slot[p->rank];
}

static int find_group(const struct world *w, uint64_t instance)
{
    for (int i = w->groups - 1; i >= 0; i--) {
        if (w->group[i].instance == instance)
            return i;
    }
    return -1;
}

/* ---- What the rendezvous says -------------------------------------------------------------------- */

static void hear_report(struct world *w, struct group *group, const struct person *p,
                        const Wire__Reformed *report)
{
    const Wire__Abort *cause = report->cause;
    assert_non_null(cause);
    assert_true(cause->generation == report->previous_generation && cause->message[0] != '\0');
    assert_true(cause->rank >= -1 && cause->rank < (int)report->previous_size);
    if (group->welcomed == 0) {
        group->previous_generation = report->previous_generation;
        group->previous_size = (int)report->previous_size;
        group->everywhere = report->completed_everywhere;
        group->anywhere = report->completed_anywhere;
        group->cause_instance = cause->instance;
        snprintf(group->lost, sizeof group->lost, "%s", report->lost);
        snprintf(group->cause, sizeof group->cause, "%s", cause->message);
        w->reformed++;
    }
    /* One report for all. */
    assert_int_equal(group->previous_generation, report->previous_generation);
    assert_int_equal(group->previous_size, report->previous_size);
    assert_true(group->everywhere == report->completed_everywhere);
    assert_true(group->anywhere == report->completed_anywhere);
    assert_string_equal(group->lost, report->lost);
    assert_string_equal(group->cause, cause->message);
    /* Nobody gets in who was not in the group before, at that rank. */
    int before = find_group(w, cause->instance);
    assert_true(before >= 0 && report->previous_rank < report->previous_size);
    assert_int_equal(w->group[before].slot[report->previous_rank].id, p->id);
}

static struct group *new_group(struct world *w, const Wire__Welcome *welcome)
{
    assert_true(w->groups < GROUPS_MAX && welcome->instance != 0 && welcome->size <= PERSONS);
    if (w->latest >= 0)
        assert_true(welcome->generation > w->group[w->latest].generation);
    struct group *group = &w->group[w->groups];
    *group = (struct group){.instance = welcome->instance, .size = (int)welcome->size};
    group->generation = welcome->generation;
    for (int rank = 0; rank < PERSONS; rank++)
        group->slot[rank].person = -1;
    w->adopted += w->latest < 0 && welcome->reformed;
    w->latest = w->groups++;
    w->rested = false;
    return group;
}

static void hear_welcome(struct world *w, struct person *p, uint64_t connection, const Wire__Welcome *welcome)
{
    int known = find_group(w, welcome->instance), rank = (int)welcome->rank;
    assert_true(p->joining == connection && (p->phase == JOINING || p->phase == COMING));
    struct group *group = known < 0 ? new_group(w, welcome) : &w->group[known];
    assert_true(group->generation == welcome->generation && rank < group->size);
    struct slot *slot = &group->slot[rank];
    if (welcome->reformed)
        hear_report(w, group, p, welcome->reformed);
    else
        assert_int_equal(group->previous_generation, 0);
    if (slot->person < 0) {
        group->welcomed++;
        *slot = (struct slot){.person = (int)(p - w->person), .id = p->id};
        slot->previous_rank = welcome->reformed ? (int)welcome->reformed->previous_rank : -1;
    } else {
        w->again++;
    }
    assert_int_equal(slot->id, p->id); /* no two members ever hear the same instance and rank */
    slot->gone_ms = CONNECTED;
    w->welcomes++;
    p->group = (int)(group - w->group);
    p->rank = rank;
    p->deaf = pick(w, 15) == 0;
    if (p->deaf)
        return;
    p->phase = MEMBER;
    p->ear = connection;
    p->joining = 0;
    p->latest = p->completed = p->late = p->answered = 0;
    p->asked = false;
}

static void hear_abort(struct world *w, struct person *p, const Wire__Abort *abort)
{
    const struct group *group = &w->group[p->group];
    assert_true(abort->instance == group->instance && abort->generation == group->generation);
    assert_true(abort->message[0] != '\0');
    slot_of(w, p)->told = true;
    w->aborts++;
    if (p->phase == MEMBER) {
        p->phase = FAILED;
        p->lost_rank = abort->status == TUTTI_ERR_PEER_LOST ? abort->rank : -1;
        p->late = 0;
    }
}

static bool is_listed(const Wire__Missing *missing, int rank)
{
    for (size_t i = 0; i < missing->n_ranks; i++) {
        if (missing->ranks[i] == (uint32_t)rank)
            return true;
    }
    return false;
}

static void hear_missing(struct world *w, struct person *p, const Wire__Missing *missing)
{
    const struct group *group = &w->group[p->group];
    assert_true(p->late == missing->sequence && missing->generation == group->generation);
    assert_int_equal(missing->n_ranks == 0, missing->text[0] == '\0');
    for (int rank = 0; rank < group->size; rank++) {
        const struct slot *slot = &group->slot[rank];
        const struct person *other = &w->person[slot->person];
        bool connected = other->id == slot->id && other->group == p->group && other->ear != 0;
        if (is_listed(missing, rank))
            assert_true(!slot->left && (!connected || other->asked || other->answered < p->late));
        else
            assert_true(slot->left || !connected || other->latest >= p->late);
    }
    p->late = 0;
    w->missing++;
}

static void on_send(void *context, uint64_t connection, const Wire__Control *message)
{
    struct world *w = context;
    struct person *p = person_on(w, connection);
    switch ((int)message->body_case) {
    case WIRE__CONTROL__BODY_WELCOME:
        hear_welcome(w, p, connection, message->welcome);
        break;
    case WIRE__CONTROL__BODY_WAITING:
        assert_true(p->joining == connection && strlen(message->waiting->text) > 20);
        break;
    case WIRE__CONTROL__BODY_REFUSED:
        assert_true(message->refused->status < 0 && strlen(message->refused->reason) > 20);
        w->refusals++;
        break;
    case WIRE__CONTROL__BODY_ABORT:
        assert_true(p->ear == connection || p->deaf || p->phase == COMING || p->phase == JOINING);
        hear_abort(w, p, message->abort);
        break;
    case WIRE__CONTROL__BODY_ROLL_CALL:
        assert_int_equal(message->roll_call->generation, w->group[p->group].generation);
        p->asked = true;
        break;
    case WIRE__CONTROL__BODY_MISSING:
        hear_missing(w, p, message->missing);
        break;
    default:
        fail();
    }
}

/* A connection has gone, whoever closed it. */
static void lose_connection(struct world *w, struct person *p, uint64_t connection)
{
    for (int rank = 0; w->latest >= 0 && rank < w->group[w->latest].size; rank++) {
        if (w->group[w->latest].slot[rank].id == p->id)
            w->group[w->latest].slot[rank].gone_ms = w->now_ms;
    }
    if (p->ear == connection) {
        p->ear = 0;
        p->late = 0;
        p->asked = false;
    } else {
        p->joining = 0;
    }
}

static void on_close(void *context, uint64_t connection)
{
    struct world *w = context;
    struct person *p = person_on(w, connection);
    bool joining = p->joining == connection;
    if (p->ear == connection && p->joining != 0) { /* it comes on another one */
        p->ear = 0;
        return;
    }
    lose_connection(w, p, connection);
    if (joining)
        p->phase = p->phase == JOINING ? OUT : ENDED;
    else if (p->phase == MEMBER)
        p->phase = FAILED; /* given up by the others */
}

static uint64_t on_random(void *context)
{
    return roll(context);
}

#endif
