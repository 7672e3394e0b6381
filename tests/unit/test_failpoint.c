#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/failpoint.h"

static void assert_parsed(struct failpoints *failpoints, const char *text)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (failpoints_parse(failpoints, text, &error) != TUTTI_OK)
        fail_msg("\"%s\" is refused: %s", text, error.message);
}

/* ---- What is asked for -------------------------------------------------------------------------- */

static void a_point_fails_at_the_hit_that_is_given(void **state)
{
    (void)state;
    struct failpoints failpoints = {0};
    assert_parsed(&failpoints, "frame_sent=die@12,accept=no_descriptors,request_made=no_memory@4294967295");
    assert_int_equal(failpoints.points[FAILPOINT_frame_sent].countdown, 12);
    assert_int_equal(failpoints.points[FAILPOINT_frame_sent].action, FAIL_die);
    assert_int_equal(failpoints.points[FAILPOINT_accept].countdown, 1);
    assert_int_equal(failpoints.points[FAILPOINT_accept].action, FAIL_no_descriptors);
    assert_int_equal(failpoints.points[FAILPOINT_request_made].countdown, UINT32_MAX);
    assert_int_equal(failpoints.points[FAILPOINT_join_sent].countdown, 0);
}

static void every_name_and_action_can_be_given(void **state)
{
    (void)state;
#define NAME(name, text) #name,
    static const char *const points[] = {FAILPOINT_MAP(NAME)}, *const actions[] = {
                                                                   FAILPOINT_ACTION_MAP(NAME)};
#undef NAME
    assert_int_equal(sizeof points / sizeof *points, FAILPOINT_COUNT);
    for (size_t point = 0; point < sizeof points / sizeof *points; point++) {
        for (size_t action = 0; action < sizeof actions / sizeof *actions; action++) {
            struct failpoints failpoints = {0};
            char text[64];
            snprintf(text, sizeof text, "%s=%s@3", points[point], actions[action]);
            assert_parsed(&failpoints, text);
            assert_int_equal(failpoints.points[point].countdown, 3);
            assert_int_equal(failpoints.points[point].action, action + 1);
        }
    }
}

static void no_text_asks_for_nothing_and_replaces_what_was_asked_for(void **state)
{
    (void)state;
    int context;
    struct failpoints failpoints = {.context = &context};
    assert_parsed(&failpoints, "accept=stop");
    assert_parsed(&failpoints, "");
    for (int point = 0; point < FAILPOINT_COUNT; point++)
        assert_int_equal(failpoints.points[point].countdown, 0);
    assert_ptr_equal(failpoints.context, &context);
}

static void what_cannot_be_meant_is_refused_with_all_that_there_is(void **state)
{
    (void)state;
    const struct {
        const char *text, *expected;
    } cases[] = {
        {"frame_sent", "holds \"frame_sent\", which has no \"=\""},
        {"frame_snt=die", "holds \"frame_snt=die\", whose name is unknown"},
        {"frame=die", "whose name is unknown"},
        {"frame_sent2=die", "whose name is unknown"},
        {"=die", "whose name is unknown"},
        {"frame_sent=explode", "holds \"frame_sent=explode\", whose action is unknown"},
        {"frame_sent=", "whose action is unknown"},
        {"frame_sent=@2", "whose action is unknown"},
        {"frame_sent=die@", "whose hit is no number from 1 to 4294967295"},
        {"frame_sent=die@0", "whose hit is no number"},
        {"frame_sent=die@4294967296", "whose hit is no number"},
        {"frame_sent=die@1x", "whose hit is no number"},
        {"frame_sent=die@-1", "whose hit is no number"},
        {"frame_sent=die@1,frame_sent=stop",
         "holds \"frame_sent=stop\", but that name has been given before"},
        {"frame_sent=die,", "holds \"\", which has no \"=\""},
        {",frame_sent=die", "holds \"\", which has no \"=\""},
        {"frame_sent=die, accept=stop", "holds \" accept=stop\", whose name is unknown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct failpoints failpoints = {0};
        struct tutti_error error = TUTTI_ERROR_INIT;
        failpoints.points[FAILPOINT_accept].countdown = 7;
        assert_int_equal(failpoints_parse(&failpoints, cases[i].text, &error), TUTTI_ERR_CONFIG);
        if (!strstr(error.message, cases[i].expected))
            fail_msg("\"%s\": %s", cases[i].text, error.message);
        assert_non_null(strstr(error.message, "the names are join_sent, reform_sent, "));
        assert_non_null(strstr(error.message, ", goodbye_sent, request_made, accept, "));
        assert_non_null(strstr(error.message, "the actions are die, stop, corrupt_header, "));
        const char *end = strstr(error.message, ", no_memory, no_descriptors");
        assert_non_null(end);
        assert_int_equal(strlen(end), strlen(", no_memory, no_descriptors"));
        assert_int_equal(failpoints.points[FAILPOINT_frame_sent].countdown, 0);
        assert_int_equal(failpoints.points[FAILPOINT_accept].countdown, 7);
    }
}

/* ---- What happens ------------------------------------------------------------------------------- */

#ifdef TUTTI_FAILPOINTS

struct acts {
    enum failpoint_action last;
    int count;
};

static void on_act(void *context, enum failpoint_action action)
{
    struct acts *acts = context;
    acts->last = action;
    acts->count++;
}

static void it_happens_once_at_that_hit(void **state)
{
    (void)state;
    struct failpoints failpoints = {0};
    assert_parsed(&failpoints, "frame_sent=truncate@3,accept=no_descriptors");
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_frame_sent), FAIL_NOT);
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_accept), FAIL_no_descriptors);
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_frame_sent), FAIL_NOT);
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_join_sent), FAIL_NOT);
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_frame_sent), FAIL_truncate);
    for (int hit = 0; hit < 10; hit++) {
        assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_frame_sent), FAIL_NOT);
        assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_accept), FAIL_NOT);
    }
}

static void dying_and_stopping_are_done_for_whoever_hits_the_point(void **state)
{
    (void)state;
    struct acts acts = {FAIL_NOT, 0};
    struct failpoints failpoints = {.act = on_act, .context = &acts};
    assert_parsed(&failpoints, "ring_open=die,goodbye_sent=stop@2,accept=no_descriptors");
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_ring_open), FAIL_die);
    assert_int_equal(acts.last, FAIL_die);
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_goodbye_sent), FAIL_NOT);
    assert_int_equal(acts.count, 1);
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_goodbye_sent), FAIL_stop);
    assert_int_equal(acts.last, FAIL_stop);
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_accept), FAIL_no_descriptors);
    assert_int_equal(acts.count, 2);
}

static void nothing_happens_where_nothing_was_asked_for(void **state)
{
    (void)state;
    struct failpoints failpoints = {0};
    for (int point = 0; point < FAILPOINT_COUNT; point++) {
        assert_int_equal(failpoint_hit(&failpoints, (enum failpoint)point), FAIL_NOT);
        assert_int_equal(failpoint_hit(NULL, (enum failpoint)point), FAIL_NOT);
    }
}

#else

static void nothing_happens_where_failpoints_are_not_compiled_in(void **state)
{
    (void)state;
    struct failpoints failpoints = {0};
    assert_parsed(&failpoints, "accept=no_descriptors");
    assert_int_equal(failpoint_hit(&failpoints, FAILPOINT_accept), FAIL_NOT);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_point_fails_at_the_hit_that_is_given),
        cmocka_unit_test(every_name_and_action_can_be_given),
        cmocka_unit_test(no_text_asks_for_nothing_and_replaces_what_was_asked_for),
        cmocka_unit_test(what_cannot_be_meant_is_refused_with_all_that_there_is),
#ifdef TUTTI_FAILPOINTS
        cmocka_unit_test(it_happens_once_at_that_hit),
        cmocka_unit_test(dying_and_stopping_are_done_for_whoever_hits_the_point),
        cmocka_unit_test(nothing_happens_where_nothing_was_asked_for),
#else
        cmocka_unit_test(nothing_happens_where_failpoints_are_not_compiled_in),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
