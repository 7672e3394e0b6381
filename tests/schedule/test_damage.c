/* Every algorithm of the table, damaged: nothing of a schedule can be left out, and no damage crashes the
 * checker. */
#include "textbook.h"

#include <stdlib.h>
#include "algorithm/algorithm.h"

#define SIZE_MAX_DAMAGED 5

static const int hosts_of_two[] = {0, 0, 1, 1, 1};

/* The algorithm's schedules: of two hosts where it makes a difference. */
static struct group algorithm_group(const struct algorithm *algorithm, int size, int root)
{
    struct group group = {.size = size};
    const struct host_map hosts = {size > 2 ? 2 : 1, hosts_of_two};
    for (int rank = 0; rank < size; rank++) {
        group.ranks[rank] =
            schedule_new(algorithm->operation, algorithm->name, algorithm->emit, rank, size, root, &hosts);
        assert_non_null(group.ranks[rank]);
    }
    return group;
}

static void no_step_of_any_algorithm_can_be_left_out(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        for (int size = 1; size <= SIZE_MAX_DAMAGED; size++) {
            for (int rank = 0; rank < size; rank++) {
                struct group probe = algorithm_group(&algorithms[a], size, size / 2);
                int steps = probe.ranks[rank]->count;
                group_free(&probe);
                for (int i = 0; i < steps; i++) {
                    struct group group = algorithm_group(&algorithms[a], size, size / 2);
                    remove_step(group.ranks[rank], i);
                    if (passes(&group, 2, 1))
                        fail_msg("%s, operation %d, %d ranks: step %d of rank %d is of no use",
                                 algorithms[a].name, algorithms[a].operation, size, i, rank);
                    group_free(&group);
                }
            }
        }
    }
}

static void no_finish_of_any_reduction_can_be_moved(void **state)
{
    (void)state;
    for (size_t a = 0; a < algorithm_count; a++) {
        if (algorithms[a].operation == TUTTI_BARRIER)
            continue; /* has no elements to finish */
        for (int size = 1; size <= SIZE_MAX_DAMAGED; size++) {
            struct group group = algorithm_group(&algorithms[a], size, 0);
            assert_passes(&group, 1, 1);
            for (int i = 0; i < group.size; i++) {
                for (int k = 0; k < group.ranks[i]->count; k++) {
                    step_at(&group, i, k)->finish ^= true;
                    assert_false(passes(&group, 1, 1));
                    step_at(&group, i, k)->finish ^= true;
                }
            }
            group_free(&group);
        }
    }
}

/* ---- At random --------------------------------------------------------------------------------- */

struct random {
    unsigned short state[3];
};

static int random_below(struct random *random, int end)
{
    return (int)(nrand48(random->state) % end);
}

static struct span random_span(struct random *random, int size)
{
    return (struct span){(uint8_t)random_below(random, 5), (uint16_t)random_below(random, 4),
                         random_below(random, size + 2) - 1};
}

static void damage(struct random *random, struct schedule *s, int size)
{
    struct step *step = &s->steps[random_below(random, s->count)];
    int small = random_below(random, size + 2) - 1;
    switch (random_below(random, 14)) {
    case 0:
        step->kind = (uint8_t)random_below(random, 8);
        break;
    case 1:
        step->from = small;
        break;
    case 2:
        step->to = small;
        break;
    case 3:
        step->chunk = small;
        break;
    case 4:
        step->chunks = small;
        break;
    case 5:
        step->source = random_span(random, size);
        break;
    case 6:
        step->target = random_span(random, size);
        break;
    case 7:
        if (s->operand_count > 0)
            s->operands[random_below(random, s->operand_count)] = random_span(random, size);
        break;
    case 8:
        step->operand = small;
        break;
    case 9:
        step->operands = small;
        break;
    case 10:
        step->after = small;
        break;
    case 11:
        step->after_slice ^= true;
        break;
    case 12:
        step->own_first ^= true;
        break;
    default:
        step->finish ^= true;
        break;
    }
}

static struct random random_new(void)
{
    const char *given = getenv("TUTTI_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : 20250131;
    print_message("TUTTI_TEST_SEED=%u\n", seed);
    return (struct random){{(unsigned short)seed, (unsigned short)(seed >> 16), 0x330e}};
}

static struct group damaged_group(struct random *random, int times)
{
    const struct algorithm *algorithm = &algorithms[random_below(random, (int)algorithm_count)];
    int size = 2 + random_below(random, SIZE_MAX_DAMAGED - 1);
    struct group group = algorithm_group(algorithm, size, 0);
    for (int i = 0; i < times; i++) {
        struct schedule *s = group.ranks[random_below(random, size)];
        if (s->count > 0)
            damage(random, s, size);
    }
    return group;
}

static void random_damage_never_crashes_the_checker(void **state)
{
    (void)state;
    struct random random = random_new();
    int refused = 0;
    for (int turn = 0; turn < 6000; turn++) {
        struct group group = damaged_group(&random, 2);
        refused += !passes(&group, 1 + turn % 2, turn % 3);
        group_free(&group);
    }
    /* Some damage does no harm, such as waiting for a send that does not matter; most does. */
    assert_in_range(refused, 3000, 6000);
}

/* As schedule/world.h argues. */
static void what_passes_without_buffers_passes_with_any_and_however_it_is_sliced(void **state)
{
    (void)state;
    struct random random = random_new();
    int passed = 0;
    for (int turn = 0; turn < 6000; turn++) {
        struct group group = damaged_group(&random, 1);
        bool expected = passes(&group, 1, 0);
        passed += expected;
        for (int slices = 1; slices <= 4; slices++) {
            assert_int_equal(passes(&group, slices, 0), expected);
            for (int queue = 1; queue <= 3 && expected; queue++)
                assert_passes(&group, slices, queue);
        }
        group_free(&group);
    }
    assert_in_range(passed, 100, 6000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_step_of_any_algorithm_can_be_left_out),
        cmocka_unit_test(no_finish_of_any_reduction_can_be_moved),
        cmocka_unit_test(random_damage_never_crashes_the_checker),
        cmocka_unit_test(what_passes_without_buffers_passes_with_any_and_however_it_is_sliced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
