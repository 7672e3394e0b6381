/* The rendezvous while groups form, under random members: they join, join again, leave or hang up, talk
 * nonsense and contradict each other, in any order and at any time.  (What becomes of groups that fail is in
 * test_rendezvous_survival.c.)  TUTTI_TEST_SEED replays one seed. */
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
#include "group/rendezvous.h"

#define SEEDS       400
#define STEPS       400
#define JOBS        3
#define PERSONS     10 /* that may join a job */
#define HOSTS       3
#define GROUP_MAX   6
#define CONNECTIONS (STEPS + 1)
#define ANY         TUTTI_RANK_ANY

enum phase { UNUSED, WAITING, WELCOMED, GONE };

struct connection {
    enum phase phase;
    int job, person, wanted, size;
    int64_t deadline_ms;
    uint64_t instance; /* once welcomed */
};

/* The latest group of a job, as its members were told. */
struct group {
    uint64_t instance;
    uint32_t generation;
    int size, told;
    int since;             /* the first connection whose member was left to the next group */
    int person[GROUP_MAX]; /* by rank */
    int next[GROUP_MAX], previous[GROUP_MAX], local_rank[GROUP_MAX], local_size[GROUP_MAX];
    int host_count;
    bool checked;
};

struct world {
    struct rendezvous *rendezvous;
    uint64_t seed, random;
    int64_t now_ms;
    struct connection connection[CONNECTIONS];
    int used;
    struct group group[JOBS], before[JOBS];
    long welcomes, refusals, warnings, losses;
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

/* A person is always on the same host. */
static int host_of(int person)
{
    return person % HOSTS;
}

/* ---- What the rendezvous does -------------------------------------------------------------------- */

static int person_of(const Wire__Peer *peer)
{
    int person = peer->member_id.data[0];
    assert_in_range(person, 0, PERSONS - 1);
    assert_int_equal(peer->host[0], 'a' + host_of(person));
    assert_int_equal(peer->addresses[0][0], '0' + person);
    return person;
}

static void hear_welcome(struct world *w, struct connection *c, const Wire__Welcome *welcome)
{
    struct group *group = &w->group[c->job];
    int rank = (int)welcome->rank;
    assert_int_equal(welcome->size, c->size);
    assert_true(rank < c->size);
    assert_true(c->wanted == ANY || c->wanted == rank);
    assert_true(welcome->instance != 0);
    if (welcome->instance != group->instance) { /* a new group */
        assert_true(welcome->generation > group->generation);
        w->before[c->job] = *group;
        *group = (struct group){.instance = welcome->instance,
                                .generation = welcome->generation,
                                .size = c->size,
                                .host_count = (int)welcome->host_count};
        memset(group->person, -1, sizeof group->person);
    }
    assert_int_equal(welcome->generation, group->generation);
    assert_int_equal(welcome->host_count, group->host_count);
    if (group->person[rank] == -1) {
        group->person[rank] = c->person;
        group->told++;
    }
    /* No other member ever hears the same instance and rank; one that comes again hears the same again. */
    assert_int_equal(group->person[rank], c->person);
    group->next[rank] = group->previous[rank] = c->person;
    if (c->size > 1) {
        assert_int_equal(welcome->next->rank, (rank + 1) % c->size);
        assert_int_equal(welcome->previous->rank, (rank + c->size - 1) % c->size);
        group->next[rank] = person_of(welcome->next);
        group->previous[rank] = person_of(welcome->previous);
    }
    group->local_rank[rank] = (int)welcome->local_rank;
    group->local_size[rank] = (int)welcome->local_size;
    c->instance = welcome->instance;
    c->phase = WELCOMED;
    w->welcomes++;
}

static void on_send(void *context, uint64_t id, const Wire__Control *message)
{
    struct world *w = context;
    struct connection *c = &w->connection[id];
    assert_true(c->phase == WAITING || c->phase == WELCOMED);
    switch ((int)message->body_case) {
    case WIRE__CONTROL__BODY_WELCOME:
        assert_int_equal(c->phase, WAITING);
        hear_welcome(w, c, message->welcome);
        break;
    case WIRE__CONTROL__BODY_WAITING:
        assert_int_equal(c->phase, WAITING);
        w->warnings++;
        break;
    case WIRE__CONTROL__BODY_ABORT: /* somebody was lost before it was wired */
        assert_true(message->abort->status == TUTTI_ERR_PEER_LOST && c->phase == WELCOMED);
        assert_true(message->abort->instance == c->instance);
        w->losses++;
        break;
    case WIRE__CONTROL__BODY_REFUSED:
        assert_true(message->refused->status < 0);
        assert_true(strlen(message->refused->reason) > 20);
        w->refusals++;
        break;
    default:
        fail();
    }
}

static void on_close(void *context, uint64_t id)
{
    struct world *w = context;
    struct connection *c = &w->connection[id];
    assert_true(c->phase == WAITING || c->phase == WELCOMED);
    c->phase = GONE;
}

static uint64_t on_random(void *context)
{
    struct world *w = context;
    return w->welcomes > 0 ? roll(w) : 0; /* which must not be taken as it is */
}

/* ---- What must hold ------------------------------------------------------------------------------ */

static void check_group(struct group *group)
{
    int local[HOSTS] = {0}, hosts = 0;
    assert_int_equal(group->told, group->size); /* all within one event */
    for (int rank = 0; rank < group->size; rank++) {
        int person = group->person[rank];
        for (int other = 0; other < rank; other++)
            assert_int_not_equal(group->person[other], person);
        assert_int_equal(group->next[rank], group->person[(rank + 1) % group->size]);
        assert_int_equal(group->previous[rank], group->person[(rank + group->size - 1) % group->size]);
        hosts += local[host_of(person)] == 0;
        assert_int_equal(group->local_rank[rank], local[host_of(person)]++);
    }
    for (int rank = 0; rank < group->size; rank++)
        assert_int_equal(group->local_size[rank], local[host_of(group->person[rank])]);
    assert_int_equal(group->host_count, hosts);
    group->checked = true;
}

/* Whether the person has asked for this rank (or, with TUTTI_RANK_ANY, for any at all) since connection
 * `from`.  A wish is kept when the same member comes again without one. */
static bool has_asked(const struct world *w, int job, int from, int person, int rank)
{
    for (int i = from; i < w->used; i++) {
        const struct connection *c = &w->connection[i];
        if (c->job == job && c->person == person && c->wanted != ANY && (rank == ANY || c->wanted == rank))
            return true;
    }
    return false;
}

/* Who had a rank in the generation before has it again, unless somebody asked for it. */
static void check_memory(const struct world *w, int job)
{
    const struct group *now = &w->group[job], *before = &w->before[job];
    if (before->size != now->size)
        return;
    for (int rank = 0; rank < now->size; rank++) {
        for (int other = 0; other < now->size; other++) {
            int person = now->person[other];
            if (person == before->person[rank] && other != rank &&
                !has_asked(w, job, before->since, person, ANY))
                assert_true(has_asked(w, job, before->since, now->person[rank], rank));
        }
    }
}

static int first_waiting(const struct world *w, int job)
{
    int i = 1;
    while (i < w->used && (w->connection[i].job != job || w->connection[i].phase != WAITING))
        i++;
    return i;
}

static void check(struct world *w)
{
    bool active[JOBS] = {false};
    int64_t due_ms = INT64_MAX;
    for (int job = 0; job < JOBS; job++) {
        if (w->group[job].instance && !w->group[job].checked) {
            check_group(&w->group[job]);
            check_memory(w, job);
            w->group[job].since = first_waiting(w, job);
        }
    }
    for (int i = 1; i < w->used; i++) {
        const struct connection *c = &w->connection[i];
        active[c->job] |= c->phase == WAITING || c->phase == WELCOMED;
    }
    assert_int_equal(rendezvous_active_jobs(w->rendezvous), active[0] + active[1] + active[2]);
    int64_t next_ms = rendezvous_tick(w->rendezvous, w->now_ms);
    if (next_ms >= 0 && next_ms <= w->now_ms) /* strangers whose turn has come may be due at once */
        next_ms = rendezvous_tick(w->rendezvous, w->now_ms);
    assert_true(next_ms == -1 || next_ms > w->now_ms);
    for (int i = 1; i < w->used; i++) {
        if (w->connection[i].phase == WAITING && w->connection[i].deadline_ms < due_ms)
            due_ms = w->connection[i].deadline_ms;
    }
    /* Nobody who is still connected waits for longer than its deadline. */
    if (due_ms != INT64_MAX && due_ms > w->now_ms)
        assert_true(next_ms != -1 && next_ms <= due_ms);
    for (int i = 1; i < w->used; i++)
        assert_true(w->connection[i].phase != WAITING || w->connection[i].deadline_ms > w->now_ms);
}

/* ---- What members do ----------------------------------------------------------------------------- */

static void say_join(struct world *w, uint64_t id, struct connection *c, uint32_t timeout_ms)
{
    char job[] = "job-0", host[] = "a", address[] = "0", *addresses[] = {address};
    uint8_t member_id[16] = {(uint8_t)c->person};
    Wire__Join join = WIRE__JOIN__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    job[4] = (char)('0' + c->job);
    host[0] = (char)('a' + host_of(c->person));
    address[0] = (char)('0' + c->person);
    join.job = job;
    join.host = host;
    join.addresses = addresses;
    join.n_addresses = 1;
    join.member_id = (ProtobufCBinaryData){sizeof member_id, member_id};
    join.rank = c->wanted;
    join.size = (uint32_t)c->size;
    join.slice_bytes = pick(w, 50) ? 4096 : 8192;
    join.join_timeout_ms = timeout_ms;
    join.missing_after_ms = 1 + (uint32_t)pick(w, 500);
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = &join;
    rendezvous_receive(w->rendezvous, id, &message, w->now_ms);
}

static void join_anew(struct world *w)
{
    struct connection *c = &w->connection[w->used];
    uint32_t timeout_ms = 1 + (uint32_t)pick(w, 3000);
    c->job = pick(w, JOBS);
    c->person = pick(w, PERSONS);
    c->size = pick(w, 8) ? 2 + c->job * 3 / 2 : 1 + pick(w, GROUP_MAX);
    c->wanted = pick(w, 3) ? ANY : pick(w, 20) ? c->person % c->size : c->size;
    c->deadline_ms = w->now_ms + timeout_ms;
    c->phase = WAITING;
    say_join(w, (uint64_t)w->used++, c, timeout_ms);
}

static void talk_nonsense(struct world *w, int id)
{
    Wire__Control message = WIRE__CONTROL__INIT;
    Wire__RollCall roll_call = WIRE__ROLL_CALL__INIT;
    if (pick(w, 2)) {
        say_join(w, (uint64_t)id, &w->connection[id], 1000); /* for the second time */
    } else {
        message.body_case = pick(w, 2) ? WIRE__CONTROL__BODY_ROLL_CALL : WIRE__CONTROL__BODY__NOT_SET;
        message.roll_call = &roll_call;
        rendezvous_receive(w->rendezvous, (uint64_t)id, &message, w->now_ms);
    }
    assert_int_equal(w->connection[id].phase, GONE);
}

static void say_goodbye(struct world *w, int id)
{
    Wire__Control message = WIRE__CONTROL__INIT;
    Wire__Goodbye goodbye = WIRE__GOODBYE__INIT;
    message.body_case = WIRE__CONTROL__BODY_GOODBYE;
    message.goodbye = &goodbye;
    rendezvous_receive(w->rendezvous, (uint64_t)id, &message, w->now_ms);
    assert_int_equal(w->connection[id].phase, GONE);
}

static void hang_up(struct world *w, int id)
{
    w->connection[id].phase = GONE;
    rendezvous_disconnected(w->rendezvous, (uint64_t)id, w->now_ms);
}

static void step(struct world *w)
{
    int what = pick(w, 100), id = 1 + pick(w, w->used);
    enum phase phase = id < w->used ? w->connection[id].phase : UNUSED;
    if (what < 55) {
        join_anew(w);
    } else if (what < 75) {
        /* Those that were welcomed leave or hang up sooner or later. */
        for (int i = 1; i < w->used; i++) {
            if (w->connection[i].phase == WELCOMED && pick(w, 3)) {
                if (pick(w, 2))
                    say_goodbye(w, i);
                else
                    hang_up(w, i);
                check(w);
            }
        }
    } else if (what < 80) {
        if (phase == WAITING || phase == WELCOMED)
            hang_up(w, id);
    } else if (what < 83) {
        if (phase == WAITING || phase == WELCOMED)
            talk_nonsense(w, id);
    } else if (what < 84) {
        rendezvous_disconnected(w->rendezvous, 1000000, w->now_ms); /* never heard of */
    } else if (what < 92) {
        int64_t next_ms = rendezvous_tick(w->rendezvous, w->now_ms);
        if (next_ms >= 0)
            w->now_ms = next_ms;
        rendezvous_tick(w->rendezvous, w->now_ms);
    } else {
        w->now_ms += pick(w, 400);
        rendezvous_tick(w->rendezvous, w->now_ms);
    }
    check(w);
}

static void run_seed(struct world *w, uint64_t seed)
{
    const struct rendezvous_output output = {w, on_send, on_close, on_random};
    w->seed = w->random = seed;
    w->used = 1;
    w->rendezvous = rendezvous_new(&output, false);
    assert_non_null(w->rendezvous);
    for (int i = 0; i < STEPS; i++)
        step(w);
    /* Some runs end in the middle of everything: freeing must find it all. */
    if (pick(w, 2)) {
        for (int i = 1; i < w->used; i++) {
            if (w->connection[i].phase == WAITING || w->connection[i].phase == WELCOMED)
                hang_up(w, i);
        }
        assert_int_equal(rendezvous_active_jobs(w->rendezvous), 0);
        assert_int_equal(rendezvous_tick(w->rendezvous, INT64_MAX / 2), -1);
    }
    rendezvous_free(w->rendezvous);
}

static void whatever_members_do_groups_are_whole_and_everyone_is_answered(void **state)
{
    (void)state;
    const char *given = getenv("TUTTI_TEST_SEED");
    uint64_t first = given ? strtoull(given, NULL, 0) : 1;
    int seeds = given ? 1 : SEEDS;
    long welcomes = 0, refusals = 0, warnings = 0, losses = 0, generations = 0;
    for (int i = 0; i < seeds; i++) {
        uint64_t seed = first + (uint64_t)i;
        struct world *w = calloc(1, sizeof *w);
        assert_non_null(w);
        fprintf(stderr, "\rTUTTI_TEST_SEED=%" PRIu64 " ",
                seed); /* the last one seen is the one that failed */
        run_seed(w, seed);
        welcomes += w->welcomes;
        refusals += w->refusals;
        warnings += w->warnings;
        losses += w->losses;
        for (int job = 0; job < JOBS; job++)
            generations += w->group[job].generation;
        free(w);
    }
    fprintf(stderr, "\n");
    print_message("%d seeds from %" PRIu64
                  ": %ld welcomes, %ld groups, %ld refusals, %ld warnings, %ld losses\n",
                  seeds, first, welcomes, generations, refusals, warnings, losses);
    if (!given) /* that it tests anything at all */
        assert_true(generations > SEEDS && refusals > SEEDS && warnings > SEEDS && losses > SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_members_do_groups_are_whole_and_everyone_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
