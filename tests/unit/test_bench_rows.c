/* What `tutti bench` makes of results: JSON, bandwidths, ratios, placements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
/* The tools are no library. */
#include "tools/bench_data.c"
#include "tools/bench_json.c"
#include "tools/bench_placement.c"
#include "tools/bench_ratio.c"
#include "tools/bench_report.c"
#include "tools/bench_statistics.c"

#define TEXT_BYTES 4096

static struct bench_row row_of(const char *peer, size_t count, double us)
{
    return (struct bench_row){.peer = peer,
                              .transport = strcmp(peer, "tutti") == 0 ? "shm" : "mpi",
                              .which = {.operation = TUTTI_ALL_REDUCE,
                                        .type = TUTTI_FLOAT32,
                                        .reduction = TUTTI_SUM,
                                        .size = 4,
                                        .count = count,
                                        .in_place = true},
                              .p50_us = us,
                              .p99_us = 2 * us};
}

static void text_in_json_is_quoted_and_escaped(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    bench_json_text(out, "a \"b\" \\ c\n\x7F/\xC3\xA9");
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "\"a \\\"b\\\" \\\\ c\\u000a\\u007f/\xC3\xA9\"");
}

static void a_row_is_one_object_on_one_line(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    FILE *out = fmemopen(text, sizeof text, "w");
    struct bench_row row = row_of("tutti", 250, 2);
    row.symmetric = true;
    row.wrong = 3;
    row.cpu_s = 0.5;
    assert_non_null(out);
    bench_json_row(out, &row);
    row.skew_us = 200;
    row.p999_us = 8;
    bench_json_row(out, &row);
    assert_int_equal(fclose(out), 0);
#define COMMON                                                                                               \
    "{\"op\": \"all_reduce\", \"peer\": \"tutti\", \"transport\": \"shm\", \"ranks\": 4, \"bytes\": 1000, "  \
    "\"type\": \"float32\", \"in_place\": true, \"symmetric\": true, \"p50_us\": 2.0000, \"p99_us\": "       \
    "4.0000, \"algbw_GBps\": 0.500000, \"busbw_GBps\": 0.750000, \"wrong\": 3, \"cpu_s\": 0.500000"
    assert_string_equal(text, COMMON "}\n" COMMON ", \"skew_us\": 200, \"p999_us\": 8.0000}\n");
}

static void a_size_is_that_of_the_larger_buffer(void **state)
{
    (void)state;
    struct bench_case which = {.operation = TUTTI_ALL_GATHER, .type = TUTTI_FLOAT64, .size = 4};
    which.count = bench_count_for(&which, 1024);
    assert_int_equal(which.count, 32);
    assert_int_equal(bench_bytes(&which), 1024);
    assert_int_equal(bench_count_for(&which, 1), 1); /* at least */
    assert_int_equal(bench_count_for(&which, 1055), 32);
    which.operation = TUTTI_BROADCAST;
    assert_int_equal(bench_count_for(&which, 1024), 128);
    which.operation = TUTTI_BARRIER;
    assert_int_equal(bench_count_for(&which, 1024), 0);
}

static void the_best_rival_is_the_fastest_that_is_no_limit(void **state)
{
    (void)state;
    struct bench_ratio ratio = {.count = 0};
    double values[100];
    for (size_t count = 1; count <= 16; count *= 16) {
        struct bench_row rows[] = {row_of("tutti", count, 2), row_of("openmpi", count, 6),
                                   row_of("mpich", count, count == 1 ? 4 : 16), row_of("limit", count, 1)};
        for (size_t i = 0; i < 4; i++)
            assert_true(bench_ratio_add(&ratio, &rows[i], i == 0));
    }
    const struct bench_ratio_time *ours = &ratio.times[0];
    assert_string_equal(find(&ratio, ours, NULL)->peer, "mpich");
    struct ratios best = gather(&ratio, ours, NULL, values); /* 4/2 at 4 bytes, 6/2 at 64 */
    assert_int_equal(best.count, 2);
    assert_true(values[0] == 2 && values[1] == 3 && best.least == 2 && best.least_bytes == 4);
    assert_true(gather(&ratio, ours, "limit", values).least == 0.5);
    assert_int_equal(gather(&ratio, ours, "gloo", values).count, 0);
    struct bench_row other = row_of("tutti", 1, 2); /* out of place: nobody to compare with */
    other.which.in_place = false;
    assert_true(bench_ratio_add(&ratio, &other, true));
    assert_null(find(&ratio, &ratio.times[ratio.count - 1], NULL));
    bench_ratio_free(&ratio);
}

static void half_a_round_trip_tells_how_processors_lie(void **state)
{
    (void)state;
    assert_int_equal(bench_placement_of(27), BENCH_PLACED_SMT);
    assert_int_equal(bench_placement_of(72), BENCH_PLACED_NEAR);
    assert_int_equal(bench_placement_of(150), BENCH_PLACED_BETWEEN);
    assert_int_equal(bench_placement_of(295), BENCH_PLACED_FAR);
    for (int i = 0; i < BENCH_PLACEMENTS; i++)
        assert_true(strlen(bench_placement_name((enum bench_placement)i)) > 0);
}

static void a_probe_looks_again_and_again(void **state)
{
    (void)state;
    struct bench_probe *probe = bench_probe_new();
    for (int i = 0; i < 10; i++) {
        enum bench_placement placement = bench_probe_look(probe);
        assert_true(probe ? placement != BENCH_PLACED_UNKNOWN : placement == BENCH_PLACED_UNKNOWN);
    }
    bench_probe_free(probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_in_json_is_quoted_and_escaped),
        cmocka_unit_test(a_row_is_one_object_on_one_line),
        cmocka_unit_test(a_size_is_that_of_the_larger_buffer),
        cmocka_unit_test(the_best_rival_is_the_fastest_that_is_no_limit),
        cmocka_unit_test(half_a_round_trip_tells_how_processors_lie),
        cmocka_unit_test(a_probe_looks_again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
