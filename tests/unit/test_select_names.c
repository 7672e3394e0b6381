#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "select_samples.h"

/* ---- Names ------------------------------------------------------------------------------------------- */

static void every_algorithm_can_be_asked_for_by_name(void **state)
{
    (void)state;
    struct select_group group = several_hosts(2, 4);
    for (size_t i = 0; i < algorithm_count; i++) {
        struct select_call call = call_of(algorithms[i].operation, 1 * MIB);
        call.name = algorithms[i].name;
        struct selection selection = choose(&group, &call);
        assert_ptr_equal(selection.algorithm, &algorithms[i]);
        assert_true(selection.predicted_us == select_predict_us(&group, &call, &algorithms[i]));
    }
}

static void assert_refused(const struct select_group *group, const struct select_call *call, const char *word,
                           const char *more)
{
    struct selection selection;
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(algorithm_select(group, call, &selection, &error), TUTTI_ERR_ARGUMENT);
    if (!strstr(error.message, word) || !strstr(error.message, more))
        fail_msg("\"%s\" does not say '%s' and '%s'", error.message, word, more);
}

static void a_name_that_there_is_not_is_refused_with_those_that_there_are(void **state)
{
    (void)state;
    struct select_group group = one_host(4);
    struct select_call call = call_of(TUTTI_ALL_REDUCE, 4);
    call.name = "rung";
    assert_refused(&group, &call, "'rung' of all_reduce", "ring");
    call.name = "";
    assert_refused(&group, &call, "'' of all_reduce", "ring");
}

static void a_name_that_may_not_be_used_here_is_refused_with_the_reason(void **state)
{
    (void)state;
    struct select_group group = one_host(4);
    struct select_call call = call_of(TUTTI_ALL_REDUCE, 4);
    call.name = "hierarchical";
    assert_refused(&group, &call, "'hierarchical' of all_reduce", "several hosts");
    group.deterministic = true;
    call.name = "ring";
    assert_refused(&group, &call, "'ring' of all_reduce", "TUTTI_DETERMINISTIC");
    group.deterministic = false;
    call = call_of(TUTTI_GATHER_V, 0);
    call.name = "ring";
    assert_refused(&group, &call, "'ring' of gather_v", "length");
}

/* ---- Overrides --------------------------------------------------------------------------------------- */

static struct algorithm_override parse(const char *text)
{
    struct algorithm_override override;
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (algorithm_override_parse(text, &override, &error) != TUTTI_OK)
        fail_msg("%s", error.message);
    return override;
}

static void an_override_decides_where_the_call_does_not(void **state)
{
    (void)state;
    struct select_group group = one_host(8);
    group.override = parse("broadcast:tree,all_gather:ring");
    struct select_call call = call_of(TUTTI_ALL_GATHER, 4);
    assert_string_equal(choose(&group, &call).algorithm->name, "ring");
    call.operation = TUTTI_ALL_GATHER_V;
    assert_string_equal(choose(&group, &call).algorithm->name, "ring");
    call = call_of(TUTTI_BROADCAST, 64 * MIB);
    assert_string_equal(choose(&group, &call).algorithm->name, "tree");
    call.name = "ring";
    assert_string_equal(choose(&group, &call).algorithm->name, "ring");
}

static void no_override_is_none(void **state)
{
    (void)state;
    const struct algorithm_override none = {{NULL}};
    struct algorithm_override empty = parse(""), missing = parse(NULL);
    assert_memory_equal(&empty, &none, sizeof none);
    assert_memory_equal(&missing, &none, sizeof none);
}

static void an_override_that_may_not_be_used_here_is_passed_over(void **state)
{
    (void)state;
    struct select_group group = one_host(8), plain = group;
    struct tutti_error error = TUTTI_ERROR_INIT;
    group.override = parse("all_reduce:hierarchical,gather:ring");
    struct select_call call = call_of(TUTTI_ALL_REDUCE, 4);
    assert_ptr_equal(choose(&group, &call).algorithm, choose(&plain, &call).algorithm);
    call = call_of(TUTTI_GATHER_V, 4);
    assert_ptr_equal(choose(&group, &call).algorithm, choose(&plain, &call).algorithm);
    assert_int_equal(select_check(&group, &error), TUTTI_OK);
}

static void overrides_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word, *more;
    } refused[] = {
        {"ring", "'ring'", "all_reduce:ring"},
        {"all_reduce", "'all_reduce'", "all_reduce:ring"},
        {"all_reduce:", "''", "ring"},
        {"all_reduce:rung", "'rung' of all_reduce", "ring"},
        {"all_reduc:ring", "'all_reduc'", "operation"},
        {":ring", "''", "operation"},
        {"send:ring", "'send'", "operation"},
        {"all_gather_v:ring", "all_gather:ring", "both"},
        {"all_reduce:ring,all_reduce:ring", "twice", "all_reduce"},
        {"all_reduce:ring,", "comma", "TUTTI_ALGORITHM"},
        {",all_reduce:ring", "''", "OPERATION:ALGORITHM"},
        {"all_reduce:ring, broadcast:ring", "' broadcast'", "operation"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "a",
         "too long", "TUTTI_ALGORITHM"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct algorithm_override override;
        struct tutti_error error = TUTTI_ERROR_INIT;
        assert_int_equal(algorithm_override_parse(refused[i].text, &override, &error), TUTTI_ERR_CONFIG);
        if (!strstr(error.message, refused[i].word) || !strstr(error.message, refused[i].more))
            fail_msg("\"%s\" does not say '%s' and '%s'", error.message, refused[i].word, refused[i].more);
    }
}

static void an_override_that_contradicts_the_deterministic_mode_is_refused_when_it_is_set(void **state)
{
    (void)state;
    struct select_group group = one_host(8);
    struct tutti_error error = TUTTI_ERROR_INIT;
    group.override = parse("broadcast:ring,all_reduce:ring");
    assert_int_equal(select_check(&group, &error), TUTTI_OK);
    group.deterministic = true;
    assert_int_equal(select_check(&group, &error), TUTTI_ERR_CONFIG);
    assert_non_null(strstr(error.message, "all_reduce:ring"));
    assert_non_null(strstr(error.message, "TUTTI_DETERMINISTIC"));
    group.override = parse("broadcast:ring");
    assert_int_equal(select_check(&group, &error), TUTTI_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_algorithm_can_be_asked_for_by_name),
        cmocka_unit_test(a_name_that_there_is_not_is_refused_with_those_that_there_are),
        cmocka_unit_test(a_name_that_may_not_be_used_here_is_refused_with_the_reason),
        cmocka_unit_test(an_override_decides_where_the_call_does_not),
        cmocka_unit_test(no_override_is_none),
        cmocka_unit_test(an_override_that_may_not_be_used_here_is_passed_over),
        cmocka_unit_test(overrides_that_make_no_sense_are_refused),
        cmocka_unit_test(an_override_that_contradicts_the_deterministic_mode_is_refused_when_it_is_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
