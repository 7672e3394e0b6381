#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/fit.h"
#include "select_samples.h"

#define SAMPLES_MAX 1000

struct samples {
    struct fit_sample list[SAMPLES_MAX];
    size_t count;
};

/* Constants that are not those built in. */
static const struct tuning hidden = {.version = TUNING_VERSION,
                                     .shm = {0.5, 2.25, 0.3, 0.0001},
                                     .uds = {3.5, 1.25, 0.7, 0.0004},
                                     .tcp_local = {5, 6, 7, 0.0008},
                                     .shared = {0.25, 3, 0.00005},
                                     .reduce_us_per_byte = 0.00005,
                                     .copy_us_per_byte = 0.00003};

/* Every all_reduce and all_gather on 2, 4 and 8 ranks of 2 cores, as long as the hidden constants say. */
static void setup(struct samples *samples, enum local_transport local)
{
    static const size_t bytes[] = {4, 4 * KIB, 64 * KIB, 1 * MIB, 16 * MIB};
    samples->count = 0;
    for (size_t i = 0; i < algorithm_count; i++) {
        int operation = algorithms[i].operation;
        if (operation != TUTTI_ALL_REDUCE && operation != TUTTI_ALL_GATHER)
            continue;
        for (size_t k = 0; k < 15; k++) {
            struct fit_sample *sample = &samples->list[samples->count];
            int size = 2 << k % 3;
            sample->group = one_host(size);
            sample->group.local = local;
            sample->group.crowding = size / 2.0;
            sample->call = call_of(operation, bytes[k / 3]);
            sample->algorithm = &algorithms[i];
            struct select_group group = sample->group;
            group.tuning = hidden;
            sample->us = select_predict_us(&group, &sample->call, sample->algorithm);
            samples->count += select_is_eligible(&group, &sample->call, sample->algorithm);
            assert_true(samples->count < SAMPLES_MAX);
        }
    }
}

static struct tuning start(void)
{
    struct tuning tuning = tuning_default;
    tuning.reduce_us_per_byte = hidden.reduce_us_per_byte;
    tuning.copy_us_per_byte = hidden.copy_us_per_byte;
    return tuning;
}

static void assert_close(const struct tuning_link *fitted, const struct tuning_link *expected, double share)
{
    const double *a = &fitted->latency_us, *b = &expected->latency_us;
    for (int i = 0; i < 4; i++)
        if (fabs(a[i] - b[i]) > share * b[i])
            fail_msg("constant %d: %g, and should be %g", i, a[i], b[i]);
}

static void constants_are_found_again_in_the_times_that_they_predict(void **state)
{
    struct samples *samples = *state;
    struct tuning tuning = start();
    setup(samples, LOCAL_UDS);
    fit_times(samples->list, samples->count, &tuning);
    assert_close(&tuning.uds, &hidden.uds, 0.01);
    assert_memory_equal(&tuning.tcp_local, &tuning_default.tcp_local, sizeof tuning.tcp_local);
    assert_memory_equal(&tuning.tcp, &tuning_default.tcp, sizeof tuning.tcp);
    assert_true(fit_error(samples->list, samples->count, &tuning) < 1.01);

    tuning = start();
    setup(samples, LOCAL_TCP);
    fit_times(samples->list, samples->count, &tuning);
    assert_close(&tuning.tcp_local, &hidden.tcp_local, 0.01);
    assert_memory_equal(&tuning.uds, &tuning_default.uds, sizeof tuning.uds);

    tuning = start();
    setup(samples, LOCAL_SHM);
    fit_times(samples->list, samples->count, &tuning);
    assert_close(&tuning.shm, &hidden.shm, 0.01);
    assert_memory_equal(&tuning.uds, &tuning_default.uds, sizeof tuning.uds);
    assert_memory_equal(&tuning.shared, &tuning_default.shared, sizeof tuning.shared);
}

static void the_constants_of_direct_collectives_are_found_from_theirs_alone(void **state)
{
    struct samples *samples = *state;
    struct tuning tuning = start();
    static const int operations[] = {TUTTI_ALL_REDUCE, TUTTI_ALL_GATHER, TUTTI_REDUCE_SCATTER};
    static const size_t bytes[] = {4, 4 * KIB, 64 * KIB, 1 * MIB};
    samples->count = 0;
    for (size_t i = 0; i < 3 * 3 * 4; i++) {
        struct fit_sample *sample = &samples->list[samples->count++];
        sample->group = one_host(2 << i % 3);
        sample->group.crowding = sample->group.size / 2.0;
        sample->call = call_of(operations[i / 3 % 3], bytes[i / 9]);
        sample->algorithm = algorithm_shared(sample->call.operation);
        struct select_group group = sample->group;
        group.tuning = hidden;
        sample->us = select_predict_us(&group, &sample->call, sample->algorithm);
    }
    fit_times(samples->list, samples->count, &tuning);
    assert_true(fit_error(samples->list, samples->count, &tuning) < 1.01);
    assert_true(fabs(tuning.shared.latency_us / hidden.shared.latency_us - 1) < 0.01);
    assert_true(fabs(tuning.shared.shared_latency_us / hidden.shared.shared_latency_us - 1) < 0.01);
    assert_true(fabs(tuning.shared.us_per_byte / hidden.shared.us_per_byte - 1) < 0.01);
    assert_memory_equal(&tuning.shm, &tuning_default.shm, sizeof tuning.shm);
    assert_memory_equal(&tuning.uds, &tuning_default.uds, sizeof tuning.uds);
}

/* As a machine that does something else now and then. */
static void a_few_times_that_are_far_off_do_not_spoil_it(void **state)
{
    struct samples *samples = *state;
    struct tuning tuning = start();
    setup(samples, LOCAL_UDS);
    for (size_t i = 0; i < samples->count; i += 17)
        samples->list[i].us *= 10;
    fit_times(samples->list, samples->count, &tuning);
    assert_close(&tuning.uds, &hidden.uds, 0.25);
}

static void times_that_scatter_give_nearly_the_same(void **state)
{
    struct samples *samples = *state;
    struct tuning tuning = start();
    uint64_t seed = 1;
    setup(samples, LOCAL_UDS);
    for (size_t i = 0; i < samples->count; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        samples->list[i].us *= exp(((double)(seed >> 11) / 9007199254740992.0 - 0.5) * 0.4);
    }
    fit_times(samples->list, samples->count, &tuning);
    assert_close(&tuning.uds, &hidden.uds, 0.25);
    assert_true(fit_error(samples->list, samples->count, &tuning) < 1.2);
}

/* Shorter than copies and reductions alone are predicted to take. */
static void no_constant_becomes_negative(void **state)
{
    struct samples *samples = *state;
    struct tuning tuning = start();
    setup(samples, LOCAL_UDS);
    for (size_t i = 0; i < samples->count; i++)
        samples->list[i].us = 0.001;
    fit_times(samples->list, samples->count, &tuning);
    const double *constants = &tuning.uds.latency_us;
    for (int i = 0; i < 4; i++)
        assert_true(constants[i] >= 0 && constants[i] < 0.1);
}

static void what_the_samples_do_not_depend_on_stays_as_it_was(void **state)
{
    struct samples *samples = *state;
    struct tuning tuning = start();
    size_t kept = 0;
    setup(samples, LOCAL_UDS);
    for (size_t i = 0; i < samples->count; i++)
        if (samples->list[i].group.size == 2)
            samples->list[kept++] = samples->list[i];
    assert_true(kept > 10);
    fit_times(samples->list, kept, &tuning);
    assert_true(tuning.uds.shared_latency_us == tuning_default.uds.shared_latency_us);
    assert_true(fabs(tuning.uds.us_per_byte / hidden.uds.us_per_byte - 1) < 0.01);
    fit_times(samples->list, 0, &tuning);
    assert_true(fit_error(samples->list, 0, &tuning) == 1);
}

static int allocate(void **state)
{
    *state = calloc(1, sizeof(struct samples));
    return *state ? 0 : -1;
}

static int release(void **state)
{
    free(*state);
    return 0;
}

/* The least squares of one measured time that is far from what the model says may choose wrongly. */
static void choices_are_those_that_were_measured_to_be_the_fastest(void **state)
{
    struct samples *samples = *state;
    setup(samples, LOCAL_UDS);
    /* On 4 ranks the tree is faster than everything for small vectors, whatever it sends. */
    double best = INFINITY;
    for (size_t i = 0; i < samples->count; i++)
        if (samples->list[i].group.size == 4 && samples->list[i].call.bytes == 4)
            best = samples->list[i].us < best ? samples->list[i].us : best;
    for (size_t i = 0; i < samples->count; i++)
        if (samples->list[i].group.size == 4 && samples->list[i].call.bytes == 4 &&
            strcmp(samples->list[i].algorithm->name, "tree") == 0)
            samples->list[i].us = 0.8 * best;
    struct tuning tuning = start();
    fit_times(samples->list, samples->count, &tuning);
    double before = fit_regret(samples->list, samples->count, &tuning);
    fit_choice(samples->list, samples->count, &tuning);
    double after = fit_regret(samples->list, samples->count, &tuning);
    assert_true(after <= before && after < 1.02);
    assert_true(fit_error(samples->list, samples->count, &tuning) < 1.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_are_those_that_were_measured_to_be_the_fastest),
        cmocka_unit_test(constants_are_found_again_in_the_times_that_they_predict),
        cmocka_unit_test(the_constants_of_direct_collectives_are_found_from_theirs_alone),
        cmocka_unit_test(a_few_times_that_are_far_off_do_not_spoil_it),
        cmocka_unit_test(times_that_scatter_give_nearly_the_same),
        cmocka_unit_test(no_constant_becomes_negative),
        cmocka_unit_test(what_the_samples_do_not_depend_on_stays_as_it_was),
    };
    return cmocka_run_group_tests(tests, allocate, release);
}
