/* The rendezvous when memory runs out: each of its allocations fails once.  It is compiled into this program
 * a second time, under other names, with allocation functions that count down to a failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static long allocations_left; /* until one fails; negative: none does */

static bool allocation_fails(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

static void *failing_malloc(size_t size)
{
    return allocation_fails() ? NULL : malloc(size);
}

static void *failing_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : calloc(count, size);
}

static void *failing_tsearch(const void *key, void **root, int (*compare)(const void *, const void *))
{
    return allocation_fails() ? NULL : tsearch(key, root, compare);
}

#define malloc                  failing_malloc
#define calloc                  failing_calloc
#define tsearch                 failing_tsearch
#define rendezvous_new          failing_rendezvous_new
#define rendezvous_free         failing_rendezvous_free
#define rendezvous_receive      failing_rendezvous_receive
#define rendezvous_disconnected failing_rendezvous_disconnected
#define rendezvous_tick         failing_rendezvous_tick
#define rendezvous_active_jobs  failing_rendezvous_active_jobs
#define join_check              failing_join_check
#define member_new              failing_member_new
#define member_free             failing_member_free
#define job_new                 failing_job_new
#define job_free                failing_job_free
#define job_open                failing_job_open
#define job_close               failing_job_close
#define job_find                failing_job_find
#define job_check_agreement     failing_job_check_agreement
#define job_check               failing_job_check
#define job_add                 failing_job_add
#define job_replace             failing_job_replace
#define job_remove              failing_job_remove
#define job_assign              failing_job_assign
#define job_print_missing       failing_job_print_missing
#define job_print_present       failing_job_print_present
#define keep                    job_keep
#include "../../src/group/job.c"
#undef keep
#include "../../src/group/rendezvous.c"

#define MEMBERS 3

struct world {
    struct rendezvous *rendezvous;
    int refused[16], welcomed[16], closed[16]; /* by connection */
};

static void on_send(void *context, uint64_t connection, const Wire__Control *message)
{
    struct world *world = context;
    assert_in_range(connection, 1, 15);
    if (message->body_case == WIRE__CONTROL__BODY_WELCOME) {
        world->welcomed[connection]++;
        return;
    }
    assert_int_equal(message->body_case, WIRE__CONTROL__BODY_REFUSED);
    assert_int_equal(message->refused->status, TUTTI_ERR_MEMORY);
    assert_non_null(strstr(message->refused->reason, "no memory"));
    world->refused[connection]++;
}

static void on_close(void *context, uint64_t connection)
{
    struct world *world = context;
    world->closed[connection]++;
}

static uint64_t on_random(void *context)
{
    (void)context;
    return 1;
}

static void say_join(struct world *world, uint64_t connection, uint8_t who, uint32_t size)
{
    uint8_t id[16] = {who};
    char job[] = "job", host[] = "h";
    Wire__Join join = WIRE__JOIN__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    join.job = job;
    join.host = host;
    join.member_id = (ProtobufCBinaryData){sizeof id, id};
    join.rank = TUTTI_RANK_ANY;
    join.size = size;
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = &join;
    rendezvous_receive(world->rendezvous, connection, &message, 0);
}

/* Joins; one that is refused for lack of memory was closed, left nothing behind, and comes again. */
static int join_stubbornly(struct world *world, uint64_t connection, uint8_t who, uint32_t size)
{
    int refusals = world->refused[connection], active = rendezvous_active_jobs(world->rendezvous);
    say_join(world, connection, who, size);
    if (world->refused[connection] == refusals)
        return 0;
    assert_int_equal(world->closed[connection], world->refused[connection]);
    assert_int_equal(rendezvous_active_jobs(world->rendezvous), active);
    say_join(world, connection, who, size);
    assert_int_equal(world->refused[connection], refusals + 1);
    return 1;
}

/* A generation of three, one that is parked meanwhile, and another generation of another size.  Returns
 * how many were refused. */
static int two_generations(struct world *world)
{
    int refusals = 0;
    for (uint8_t i = 1; i <= MEMBERS; i++)
        refusals += join_stubbornly(world, i, i, MEMBERS);
    for (uint8_t i = 1; i <= MEMBERS; i++)
        assert_int_equal(world->welcomed[i], 1);
    refusals += join_stubbornly(world, 8, 8, 2);
    int before = world->refused[8];
    for (uint8_t i = 1; i <= MEMBERS; i++)
        rendezvous_disconnected(world->rendezvous, i, 0);
    /* The parked one may have been refused only now, when its job was opened. */
    if (world->refused[8] > before) {
        refusals++;
        assert_int_equal(rendezvous_active_jobs(world->rendezvous), 0);
        say_join(world, 8, 8, 2);
    }
    refusals += join_stubbornly(world, 9, 9, 2);
    assert_int_equal(world->welcomed[8], 1);
    assert_int_equal(world->welcomed[9], 1);
    rendezvous_disconnected(world->rendezvous, 8, 0);
    rendezvous_disconnected(world->rendezvous, 9, 0);
    assert_int_equal(rendezvous_active_jobs(world->rendezvous), 0);
    return refusals;
}

static void a_lack_of_memory_refuses_one_member_who_may_come_again(void **state)
{
    (void)state;
    int failures = 0;
    bool failed = true;
    for (long at = 0; failed; at++) {
        struct world world = {0};
        const struct rendezvous_output output = {&world, on_send, on_close, on_random};
        allocations_left = -1;
        world.rendezvous = rendezvous_new(&output);
        assert_non_null(world.rendezvous);
        allocations_left = at;
        int refusals = two_generations(&world);
        failed = allocations_left < 0;
        assert_int_equal(refusals, failed ? 1 : 0);
        failures += refusals;
        rendezvous_free(world.rendezvous);
    }
    print_message("%d allocations failed, one after the other\n", failures);
    assert_true(failures > 20);
}

static void without_memory_there_is_no_rendezvous(void **state)
{
    (void)state;
    const struct rendezvous_output output = {NULL, on_send, on_close, on_random};
    allocations_left = 0;
    assert_null(rendezvous_new(&output));
    rendezvous_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lack_of_memory_refuses_one_member_who_may_come_again),
        cmocka_unit_test(without_memory_there_is_no_rendezvous),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
