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

#define malloc                          failing_malloc
#define calloc                          failing_calloc
#define tsearch                         failing_tsearch
#define rendezvous_new                  failing_rendezvous_new
#define rendezvous_free                 failing_rendezvous_free
#define rendezvous_receive              failing_rendezvous_receive
#define rendezvous_disconnected         failing_rendezvous_disconnected
#define rendezvous_tick                 failing_rendezvous_tick
#define rendezvous_active_jobs          failing_rendezvous_active_jobs
#define registry_init                   failing_registry_init
#define registry_free                   failing_registry_free
#define registry_member                 failing_registry_member
#define registry_add_member             failing_registry_add_member
#define registry_forget_connection      failing_registry_forget_connection
#define registry_job                    failing_registry_job
#define registry_forget_job             failing_registry_forget_job
#define registry_activate               failing_registry_activate
#define registry_deactivate             failing_registry_deactivate
#define joining_park                    failing_joining_park
#define joining_admit                   failing_joining_admit
#define joining_begin_group             failing_joining_begin_group
#define joining_fail_group              failing_joining_fail_group
#define join_check                      failing_join_check
#define member_new                      failing_member_new
#define member_free                     failing_member_free
#define member_host                     failing_member_host
#define member_print                    failing_member_print
#define member_print_wish               failing_member_print_wish
#define job_new                         failing_job_new
#define job_free                        failing_job_free
#define job_open                        failing_job_open
#define job_adopt                       failing_job_adopt
#define job_close                       failing_job_close
#define job_find                        failing_job_find
#define job_check_settings              failing_job_check_settings
#define job_check_agreement             failing_job_check_agreement
#define job_check                       failing_job_check
#define job_add                         failing_job_add
#define job_replace                     failing_job_replace
#define job_remove                      failing_job_remove
#define job_assign                      failing_job_assign
#define job_print_missing               failing_job_print_missing
#define job_print_present               failing_job_print_present
#define reforming_check                 failing_reforming_check
#define reforming_left_behind           failing_reforming_left_behind
#define reforming_repeats               failing_reforming_repeats
#define reforming_set_cause             failing_reforming_set_cause
#define reforming_set_cause_of_survivor failing_reforming_set_cause_of_survivor
#define reforming_set_cause_of_loss     failing_reforming_set_cause_of_loss
#define reforming_check_outcome         failing_reforming_check_outcome
#define reforming_ask                   failing_reforming_ask
#define reforming_hear                  failing_reforming_hear
#define reforming_review                failing_reforming_review
#define reforming_review_all            failing_reforming_review_all
#define reforming_accuse                failing_reforming_accuse
#define reforming_come                  failing_reforming_come
#define reforming_go                    failing_reforming_go
#define reforming_finish                failing_reforming_finish
#define reforming_print_awaited         failing_reforming_print_awaited
#define roll_call_ask                   failing_roll_call_ask
#define roll_call_answer                failing_roll_call_answer
#define roll_call_lose                  failing_roll_call_lose
#define roll_call_tick                  failing_roll_call_tick
#define roll_call_cancel                failing_roll_call_cancel
#define answer_refused                  failing_answer_refused
#define answer_welcome                  failing_answer_welcome
#define answer_waiting                  failing_answer_waiting
#define answer_abort                    failing_answer_abort
#define answer_roll_call                failing_answer_roll_call
#define answer_missing                  failing_answer_missing
#include "../../src/group/answer.c"
#include "../../src/group/job.c"
#include "../../src/group/joining.c"
#include "../../src/group/reforming.c"
#include "../../src/group/registry.c"
#include "../../src/group/rendezvous.c"
#include "../../src/group/roll_call.c"

#define MEMBERS 3

struct world {
    struct rendezvous *rendezvous;
    int refused[16], welcomed[16], closed[16], told[16]; /* by connection */
    uint64_t instance;
};

static void on_send(void *context, uint64_t connection, const Wire__Control *message)
{
    struct world *world = context;
    assert_in_range(connection, 1, 15);
    if (message->body_case == WIRE__CONTROL__BODY_WELCOME) {
        world->welcomed[connection]++;
        world->instance = message->welcome->instance;
        return;
    }
    if (message->body_case == WIRE__CONTROL__BODY_ABORT ||
        message->body_case == WIRE__CONTROL__BODY_ROLL_CALL ||
        message->body_case == WIRE__CONTROL__BODY_MISSING) {
        world->told[connection]++;
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

static void say(struct world *world, uint64_t connection, Wire__Control__BodyCase body_case, void *body)
{
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = body_case;
    message.join = body; /* whichever of the union it is */
    rendezvous_receive(world->rendezvous, connection, &message, 0);
}

/* `previous` may be NULL. */
static void say_join(struct world *world, uint64_t connection, uint8_t who, uint32_t size,
                     Wire__Previous *previous)
{
    uint8_t id[16] = {who};
    char job[] = "job", host[] = "h";
    Wire__Join join = WIRE__JOIN__INIT;
    join.job = job;
    join.host = host;
    join.member_id = (ProtobufCBinaryData){sizeof id, id};
    join.rank = TUTTI_RANK_ANY;
    join.size = size;
    join.previous = previous;
    say(world, connection, WIRE__CONTROL__BODY_JOIN, &join);
}

/* Joins; one that is refused for lack of memory was closed, left nothing behind, and comes again. */
static int join_stubbornly(struct world *world, uint64_t connection, uint8_t who, uint32_t size,
                           Wire__Previous *previous)
{
    int refusals = world->refused[connection], active = rendezvous_active_jobs(world->rendezvous);
    say_join(world, connection, who, size, previous);
    if (world->refused[connection] == refusals)
        return 0;
    assert_int_equal(world->closed[connection], world->refused[connection]);
    assert_int_equal(rendezvous_active_jobs(world->rendezvous), active);
    say_join(world, connection, who, size, previous);
    assert_int_equal(world->refused[connection], refusals + 1);
    return 1;
}

/* A generation of three, one that is parked meanwhile, and another generation of another size.  Returns
 * how many were refused. */
static int two_generations(struct world *world)
{
    int refusals = 0;
    for (uint8_t i = 1; i <= MEMBERS; i++)
        refusals += join_stubbornly(world, i, i, MEMBERS, NULL);
    for (uint8_t i = 1; i <= MEMBERS; i++)
        assert_int_equal(world->welcomed[i], 1);
    refusals += join_stubbornly(world, 8, 8, 2, NULL);
    int before = world->refused[8];
    for (uint8_t i = 1; i <= MEMBERS; i++)
        rendezvous_disconnected(world->rendezvous, i, 0);
    /* The parked one may have been refused only now, when its job was opened. */
    if (world->refused[8] > before) {
        refusals++;
        assert_int_equal(rendezvous_active_jobs(world->rendezvous), 0);
        say_join(world, 8, 8, 2, NULL);
    }
    refusals += join_stubbornly(world, 9, 9, 2, NULL);
    assert_int_equal(world->welcomed[8], 1);
    assert_int_equal(world->welcomed[9], 1);
    rendezvous_disconnected(world->rendezvous, 8, 0);
    rendezvous_disconnected(world->rendezvous, 9, 0);
    assert_int_equal(rendezvous_active_jobs(world->rendezvous), 0);
    return refusals;
}

/* What the member with that rank knows of generation `generation`: it has lost `lost`. */
static Wire__Previous previous_of(struct world *world, uint32_t generation, uint32_t rank, uint32_t size,
                                  Wire__Abort *cause, int lost)
{
    Wire__Previous previous = WIRE__PREVIOUS__INIT;
    wire__abort__init(cause);
    cause->status = TUTTI_ERR_PEER_LOST;
    cause->rank = lost;
    cause->instance = world->instance;
    cause->generation = generation;
    previous.instance = world->instance;
    previous.generation = generation;
    previous.rank = rank;
    previous.size = size;
    previous.cause = cause;
    return previous;
}

/* Three call the roll; one of them dies, and the others re-form the group; all connections are lost, and they
 * re-form it once more.  The connections of each member begin with its number.  Returns how many were
 * refused. */
static int a_group_that_shrinks(struct world *world)
{
    int refusals = 0;
    Wire__Abort cause;
    Wire__Late late = WIRE__LATE__INIT;
    for (uint8_t i = 1; i <= MEMBERS; i++)
        refusals += join_stubbornly(world, i, i, MEMBERS, NULL);
    late.generation = late.sequence = 1;
    say(world, 1, WIRE__CONTROL__BODY_LATE, &late);
    rendezvous_disconnected(world->rendezvous, 3, 0);
    rendezvous_tick(world->rendezvous, 200);
    assert_int_equal(world->told[1], 2);
    previous_of(world, 1, 0, 3, &cause, 2);
    say(world, 1, WIRE__CONTROL__BODY_ABORT, &cause);
    assert_int_equal(world->told[2], 2);
    for (uint8_t i = 1; i <= 2; i++) {
        Wire__Previous previous = previous_of(world, 1, i - 1u, 3, &cause, 2);
        refusals += join_stubbornly(world, i + 3, i, 3, &previous);
    }
    for (uint8_t i = 4; i <= 5; i++) {
        assert_int_equal(world->welcomed[i], 1);
        rendezvous_disconnected(world->rendezvous, i, 0);
    }
    assert_int_equal(rendezvous_active_jobs(world->rendezvous), 0);
    for (uint8_t i = 1; i <= 2; i++) {
        Wire__Previous previous = previous_of(world, 2, i - 1u, 2, &cause, -1);
        refusals += join_stubbornly(world, i + 5, i, 2, &previous);
    }
    for (uint8_t i = 6; i <= 7; i++) {
        assert_int_equal(world->welcomed[i], 1);
        rendezvous_disconnected(world->rendezvous, i, 0);
    }
    assert_int_equal(rendezvous_active_jobs(world->rendezvous), 0);
    return refusals;
}

/* Plays the history again and again; each time another allocation fails.  Returns how many did. */
static int fail_each_allocation(int (*play)(struct world *world))
{
    int failures = 0;
    bool failed = true;
    for (long at = 0; failed; at++) {
        struct world world = {0};
        const struct rendezvous_output output = {&world, on_send, on_close, on_random};
        allocations_left = -1;
        world.rendezvous = rendezvous_new(&output, false);
        assert_non_null(world.rendezvous);
        allocations_left = at;
        int refusals = play(&world);
        failed = allocations_left < 0;
        assert_int_equal(refusals, failed ? 1 : 0);
        failures += refusals;
        rendezvous_free(world.rendezvous);
    }
    print_message("%d allocations failed, one after the other\n", failures);
    return failures;
}

static void a_lack_of_memory_refuses_one_member_who_may_come_again(void **state)
{
    (void)state;
    assert_true(fail_each_allocation(two_generations) > 20);
}

static void a_lack_of_memory_refuses_one_survivor_who_may_come_again(void **state)
{
    (void)state;
    assert_true(fail_each_allocation(a_group_that_shrinks) > 30);
}

static void without_memory_there_is_no_rendezvous(void **state)
{
    (void)state;
    const struct rendezvous_output output = {NULL, on_send, on_close, on_random};
    allocations_left = 0;
    assert_null(rendezvous_new(&output, false));
    rendezvous_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lack_of_memory_refuses_one_member_who_may_come_again),
        cmocka_unit_test(a_lack_of_memory_refuses_one_survivor_who_may_come_again),
        cmocka_unit_test(without_memory_there_is_no_rendezvous),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
