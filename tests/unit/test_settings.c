#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/settings.h"
#include "base/text.h"

/* ---- An environment of the test's own -------------------------------------------------------------- */

/* Names and values in turn, ended by NULL. */
static const char *read_list(void *context, const char *name)
{
    for (const char *const *entry = context; entry[0] != NULL; entry += 2) {
        if (strcmp(entry[0], name) == 0)
            return entry[1];
    }
    return NULL;
}

static const char *const nothing[] = {NULL};

static int resolve(struct settings *settings, const struct tutti_config *config,
                   const char *const *environment, struct tutti_error *error)
{
    return settings_resolve(settings, config, read_list, (void *)(uintptr_t)environment, error);
}

static int resolve_variable(struct settings *settings, const char *name, const char *value,
                            struct tutti_error *error)
{
    const char *environment[] = {name, value, NULL};
    return resolve(settings, NULL, environment, error);
}

/* The error must name all of `words`. */
static void assert_rejected(int status, const struct tutti_error *error, const char *const words[3])
{
    if (status != TUTTI_ERR_CONFIG)
        fail_msg("%s = '%s' gave %d", words[0], words[1], status);
    assert_int_equal(error->code, TUTTI_ERR_CONFIG);
    for (int i = 0; i < 3; i++) {
        if (strstr(error->message, words[i]) == NULL)
            fail_msg("\"%s\" does not say '%s'", error->message, words[i]);
    }
}

static void assert_variable_rejected(const char *name, const char *value, const char *allowed)
{
    struct settings settings;
    struct tutti_error error;
    char shown[256];
    int status = resolve_variable(&settings, name, value, &error);
    snprintf(shown, sizeof shown, "%s", value);
    text_to_one_line(shown); /* an error is one line, whatever the value is */
    assert_rejected(status, &error, (const char *const[3]){name, shown, allowed});
}

/* ---- Where a value comes from ---------------------------------------------------------------------- */

static void defaults_hold_when_nothing_is_given(void **state)
{
    (void)state;
    struct settings settings;
    assert_int_equal(resolve(&settings, NULL, nothing, NULL), TUTTI_OK);
    const struct tutti_config *values = &settings.values;
    assert_int_equal(values->struct_size, sizeof *values);
    assert_int_equal(values->size, 0);
    assert_int_equal(values->rank, 0);
    assert_null(values->rendezvous);
    assert_null(values->job);
    assert_null(values->member);
    assert_null(values->host);
    assert_string_equal(values->transports, "shm,uds,tcp");
    assert_null(values->interface);
    assert_null(values->port_range);
    assert_int_equal(values->join_timeout_ms, 60000);
    assert_int_equal(values->missing_after_ms, 10000);
    assert_int_equal(values->call_timeout_ms, 600000);
    assert_int_equal(values->straggler_after_ms, 30000);
    assert_int_equal(values->heartbeat_ms, 1000);
    assert_int_equal(values->dead_after_ms, 5000);
    assert_int_equal(values->slice_bytes, 256 * 1024);
    assert_int_equal(values->checksum, 0);
    assert_string_equal(values->wait, "adaptive");
    assert_string_equal(values->congestion, "cubic");
    assert_int_equal(values->socket_buffer_bytes, 4 * 1024 * 1024);
    assert_string_equal(values->log, "warning");
    assert_null(values->algorithm);
    assert_int_equal(values->deterministic, 0);
    assert_int_equal(values->channels, 4);
    assert_null(values->tuning);
    settings_clean_up(&settings);
}

static void what_chooses_algorithms_comes_from_variables_and_fields(void **state)
{
    (void)state;
    static const char *const environment[] = {"TUTTI_ALGORITHM",
                                              "all_reduce:ring,broadcast:tree",
                                              "TUTTI_DETERMINISTIC",
                                              "1",
                                              "TUTTI_CHANNELS",
                                              "2",
                                              "TUTTI_TUNING",
                                              "/etc/tutti/tuning",
                                              NULL};
    struct settings settings;
    assert_int_equal(resolve(&settings, NULL, environment, NULL), TUTTI_OK);
    assert_string_equal(settings.values.algorithm, "all_reduce:ring,broadcast:tree");
    assert_int_equal(settings.values.deterministic, 1);
    assert_int_equal(settings.values.channels, 2);
    assert_string_equal(settings.values.tuning, "/etc/tutti/tuning");
    settings_clean_up(&settings);

    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.algorithm = "all_reduce:tree";
    config.channels = 8;
    config.tuning = "none";
    assert_int_equal(resolve(&settings, &config, environment, NULL), TUTTI_OK);
    assert_string_equal(settings.values.algorithm, "all_reduce:tree");
    assert_int_equal(settings.values.deterministic, 1);
    assert_int_equal(settings.values.channels, 8);
    assert_string_equal(settings.values.tuning, "none");
    settings_clean_up(&settings);
}

static void the_environment_comes_before_the_default(void **state)
{
    (void)state;
    static const char *const environment[] = {"TUTTI_JOB",
                                              "train",
                                              "TUTTI_CALL_TIMEOUT",
                                              "10s",
                                              "TUTTI_CHECKSUM",
                                              "1",
                                              "TUTTI_TRANSPORTS",
                                              "tcp",
                                              "TUTTI_SLICE_BYTES",
                                              "1M",
                                              NULL};
    struct settings settings;
    assert_int_equal(resolve(&settings, NULL, environment, NULL), TUTTI_OK);
    assert_string_equal(settings.values.job, "train");
    assert_int_equal(settings.values.call_timeout_ms, 10000);
    assert_int_equal(settings.values.checksum, 1);
    assert_string_equal(settings.values.transports, "tcp");
    assert_int_equal(settings.values.slice_bytes, 1024 * 1024);
    settings_clean_up(&settings);
}

static void a_given_field_comes_before_the_environment(void **state)
{
    (void)state;
    static const char *const environment[] = {"TUTTI_JOB", "train", "TUTTI_CALL_TIMEOUT", "10s", NULL};
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.job = "other";
    config.call_timeout_ms = 7;
    struct settings settings;
    assert_int_equal(resolve(&settings, &config, environment, NULL), TUTTI_OK);
    assert_string_equal(settings.values.job, "other");
    assert_int_equal(settings.values.call_timeout_ms, 7);
    settings_clean_up(&settings);
}

static void a_field_shields_from_a_wrong_variable(void **state)
{
    (void)state;
    static const char *const environment[] = {"TUTTI_CALL_TIMEOUT", "soon", NULL};
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.call_timeout_ms = 7;
    struct settings settings;
    assert_int_equal(resolve(&settings, &config, environment, NULL), TUTTI_OK);
    settings_clean_up(&settings);
}

static void an_empty_variable_or_field_is_not_given(void **state)
{
    (void)state;
    static const char *const environment[] = {"TUTTI_CALL_TIMEOUT", "", "TUTTI_TRANSPORTS", "", NULL};
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.log = "";
    struct settings settings;
    assert_int_equal(resolve(&settings, &config, environment, NULL), TUTTI_OK);
    assert_int_equal(settings.values.call_timeout_ms, 600000);
    assert_string_equal(settings.values.transports, "shm,uds,tcp");
    assert_string_equal(settings.values.log, "warning");
    settings_clean_up(&settings);
}

static void strings_are_copied(void **state)
{
    (void)state;
    char job[] = "train";
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.job = job;
    struct settings settings;
    assert_int_equal(resolve(&settings, &config, nothing, NULL), TUTTI_OK);
    job[0] = 'b';
    assert_string_equal(settings.values.job, "train");
    settings_clean_up(&settings);
}

static void rank_size_and_rendezvous_are_left_to_the_launcher(void **state)
{
    (void)state;
    static const char *const environment[] = {"TUTTI_RANK",       "x",       "TUTTI_SIZE", "y",
                                              "TUTTI_RENDEZVOUS", "nowhere", NULL};
    struct tutti_config config = TUTTI_CONFIG_INIT;
    struct settings settings;
    assert_int_equal(resolve(&settings, &config, environment, NULL), TUTTI_OK);
    assert_null(settings.values.rendezvous);
    assert_int_equal(settings.values.size, 0);
    settings_clean_up(&settings);

    config.size = 4;
    config.rank = TUTTI_RANK_ANY;
    config.rendezvous = "unix:@here";
    assert_int_equal(resolve(&settings, &config, environment, NULL), TUTTI_OK);
    assert_string_equal(settings.values.rendezvous, "unix:@here");
    assert_int_equal(settings.values.size, 4);
    assert_int_equal(settings.values.rank, TUTTI_RANK_ANY);
    settings_clean_up(&settings);
}

/* ---- What a value may be ---------------------------------------------------------------------------- */

static void times_take_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int ms;
    } times[] = {{"500", 500},    {"500ms", 500}, {"10s", 10000}, {"2m", 120000},
                 {"1h", 3600000}, {"1", 1},       {"007ms", 7},   {"168h", 604800000}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct settings settings;
        assert_int_equal(resolve_variable(&settings, "TUTTI_CALL_TIMEOUT", times[i].text, NULL), TUTTI_OK);
        assert_int_equal(settings.values.call_timeout_ms, times[i].ms);
        settings_clean_up(&settings);
    }
}

static void times_that_are_none_are_rejected(void **state)
{
    (void)state;
    static const char *const texts[] = {"0",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "10x",
                                        "s",
                                        "1.5s",
                                        "10S",
                                        "10 s",
                                        "1s2m",
                                        "169h",
                                        "10K",
                                        "0x10",
                                        "1e3",
                                        "ten",
                                        "9223372036854775807",
                                        "9223372036854775807h",
                                        "99999999999999999999999999",
                                        "5124095576030432h"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_variable_rejected("TUTTI_CALL_TIMEOUT", texts[i],
                                 "a time (500ms, 10s, 2m, 1h) from 1ms to 168h");
}

static void sizes_take_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
    } sizes[] = {{"4096", 4096},  {"4K", 4096},        {"256K", 262144},
                 {"1M", 1048576}, {"512M", 536870912}, {"5001", 5001}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct settings settings;
        assert_int_equal(resolve_variable(&settings, "TUTTI_SLICE_BYTES", sizes[i].text, NULL), TUTTI_OK);
        assert_int_equal(settings.values.slice_bytes, sizes[i].bytes);
        settings_clean_up(&settings);
    }
}

static void sizes_that_are_none_are_rejected(void **state)
{
    (void)state;
    static const char *const texts[] = {"0",
                                        "4095",
                                        "3K",
                                        "1G",
                                        "513M",
                                        "-4096",
                                        "4k",
                                        "4KiB",
                                        "1s",
                                        "default",
                                        "-1",
                                        "17179869184G",
                                        "18446744073709551615"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_variable_rejected("TUTTI_SLICE_BYTES", texts[i], "from 4K to 512M");
}

static void a_socket_buffer_may_be_left_to_the_kernel(void **state)
{
    (void)state;
    static const char *const texts[] = {"-1", "default"};
    struct settings settings;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(resolve_variable(&settings, "TUTTI_SOCKET_BUFFER", texts[i], NULL), TUTTI_OK);
        assert_int_equal(settings.values.socket_buffer_bytes, -1);
        settings_clean_up(&settings);
    }
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.socket_buffer_bytes = -1;
    assert_int_equal(resolve(&settings, &config, nothing, NULL), TUTTI_OK);
    assert_int_equal(settings.values.socket_buffer_bytes, -1);
    settings_clean_up(&settings);

    assert_int_equal(resolve_variable(&settings, "TUTTI_SOCKET_BUFFER", "1G", NULL), TUTTI_OK);
    assert_int_equal(settings.values.socket_buffer_bytes, 1 << 30);
    settings_clean_up(&settings);
    assert_variable_rejected("TUTTI_SOCKET_BUFFER", "-2", "or default");
    assert_variable_rejected("TUTTI_SOCKET_BUFFER", "2G", "from 4K to 1G");
}

static void flags_are_0_or_1(void **state)
{
    (void)state;
    struct settings settings;
    assert_int_equal(resolve_variable(&settings, "TUTTI_CHECKSUM", "0", NULL), TUTTI_OK);
    assert_int_equal(settings.values.checksum, 0);
    settings_clean_up(&settings);
    assert_variable_rejected("TUTTI_CHECKSUM", "2", "0 or 1");
    assert_variable_rejected("TUTTI_CHECKSUM", "yes", "0 or 1");
    assert_variable_rejected("TUTTI_DETERMINISTIC", "true", "0 or 1");
}

static void channels_are_one_to_eight(void **state)
{
    (void)state;
    static const char *const bad[] = {"0", "9", "-1", "two", "1.5", "1s"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_variable_rejected("TUTTI_CHANNELS", bad[i], "from 1 to 8");
    struct settings settings;
    struct tutti_error error;
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.channels = 9;
    int status = resolve(&settings, &config, nothing, &error);
    assert_rejected(status, &error, (const char *const[3]){"channels", "9", "from 1 to 8"});
}

static void transports_are_a_list_without_repetition(void **state)
{
    (void)state;
    static const char *const good[] = {"shm", "uds", "tcp", "shm,uds,tcp", "uds,tcp", "tcp,uds", "tcp,shm"};
    static const char *const bad[] = {",",  "uds,", ",tcp",    "uds,uds",     "uds tcp", "shmem",
                                      "ud", "udss", "uds|tcp", "uds,tcp,uds", "UDS"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct settings settings;
        assert_int_equal(resolve_variable(&settings, "TUTTI_TRANSPORTS", good[i], NULL), TUTTI_OK);
        assert_string_equal(settings.values.transports, good[i]);
        settings_clean_up(&settings);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_variable_rejected("TUTTI_TRANSPORTS", bad[i], "shm, uds and tcp");
}

static void a_list_holds_whole_words(void **state)
{
    (void)state;
    assert_true(setting_list_holds("shm,uds,tcp", "shm"));
    assert_true(setting_list_holds("shm,uds,tcp", "uds"));
    assert_true(setting_list_holds("shm,uds,tcp", "tcp"));
    assert_true(setting_list_holds("tcp", "tcp"));
    assert_false(setting_list_holds("uds,tcp", "shm"));
    assert_false(setting_list_holds("shm,tcp", "sh"));
    assert_false(setting_list_holds("shm,tcp", "m,t"));
    assert_false(setting_list_holds("shm", "shm,uds"));
    assert_false(setting_list_holds("shm", ""));
}

static void port_ranges_are_two_ports_in_order(void **state)
{
    (void)state;
    static const char *const good[] = {"1-65535", "20000-20100", "80-80"};
    static const char *const bad[] = {"80",
                                      "-80",
                                      "80-",
                                      "0-80",
                                      "80-65536",
                                      "90-80",
                                      "80--90",
                                      "80-90-100",
                                      "80 - 90",
                                      "http-https",
                                      "99999999999999999999-1"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct settings settings;
        assert_int_equal(resolve_variable(&settings, "TUTTI_PORT_RANGE", good[i], NULL), TUTTI_OK);
        assert_string_equal(settings.values.port_range, good[i]);
        settings_clean_up(&settings);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_variable_rejected("TUTTI_PORT_RANGE", bad[i], "MIN-MAX, both from 1 to 65535");
}

static void choices_are_the_words_of_the_table(void **state)
{
    (void)state;
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        struct settings settings;
        assert_int_equal(resolve_variable(&settings, "TUTTI_LOG", levels[i], NULL), TUTTI_OK);
        assert_string_equal(settings.values.log, levels[i]);
        settings_clean_up(&settings);
    }
    assert_variable_rejected("TUTTI_LOG", "warn", "error, warning, info or debug");
    assert_variable_rejected("TUTTI_LOG", "error|warning", "error, warning, info or debug");
    assert_variable_rejected("TUTTI_WAIT", "sleep", "adaptive or spin");
}

static void texts_have_a_limit_and_no_control_characters(void **state)
{
    (void)state;
    char job[130];
    memset(job, 'j', sizeof job);
    job[127] = '\0';
    struct settings settings;
    assert_int_equal(resolve_variable(&settings, "TUTTI_JOB", job, NULL), TUTTI_OK);
    settings_clean_up(&settings);
    job[127] = 'j';
    job[128] = '\0';
    assert_variable_rejected("TUTTI_JOB", job, "at most 127 bytes");
    assert_variable_rejected("TUTTI_JOB", "two\nlines", "without control characters");
    assert_variable_rejected("TUTTI_HOST", "\x1B[2J", "without control characters");
    assert_variable_rejected("TUTTI_ALGORITHM", "all_reduce:ring\n", "without control characters");
    assert_int_equal(resolve_variable(&settings, "TUTTI_JOB", "Übung", NULL), TUTTI_OK);
    settings_clean_up(&settings);
}

static void a_field_out_of_range_is_rejected_by_its_name(void **state)
{
    (void)state;
    struct settings settings;
    struct tutti_error error;
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.call_timeout_ms = -5;
    int status = resolve(&settings, &config, nothing, &error);
    assert_rejected(status, &error, (const char *const[3]){"call_timeout_ms", "-5", "from 1 to 604800000"});

    config = (struct tutti_config)TUTTI_CONFIG_INIT;
    config.slice_bytes = SIZE_MAX;
    status = resolve(&settings, &config, nothing, &error);
    assert_rejected(status, &error, (const char *const[3]){"slice_bytes", "", "from 4096 to 536870912"});

    config = (struct tutti_config)TUTTI_CONFIG_INIT;
    config.checksum = 2;
    status = resolve(&settings, &config, nothing, &error);
    assert_rejected(status, &error, (const char *const[3]){"checksum", "2", "from 0 to 1"});

    config = (struct tutti_config)TUTTI_CONFIG_INIT;
    config.socket_buffer_bytes = -2;
    status = resolve(&settings, &config, nothing, &error);
    assert_rejected(status, &error,
                    (const char *const[3]){"socket_buffer_bytes", "-2", "or -1 for the kernel's"});

    config = (struct tutti_config)TUTTI_CONFIG_INIT;
    config.wait = "never";
    status = resolve(&settings, &config, nothing, &error);
    assert_rejected(status, &error, (const char *const[3]){"wait", "never", "adaptive or spin"});
}

static void dead_after_must_be_longer_than_the_heartbeat(void **state)
{
    (void)state;
    struct settings settings;
    struct tutti_error error;
    static const char *const equal[] = {"TUTTI_HEARTBEAT", "2s", "TUTTI_DEAD_AFTER", "2s", NULL};
    int status = resolve(&settings, NULL, equal, &error);
    assert_rejected(status, &error, (const char *const[3]){"TUTTI_HEARTBEAT", "2000", "TUTTI_DEAD_AFTER"});
    static const char *const longer[] = {"TUTTI_HEARTBEAT", "2s", "TUTTI_DEAD_AFTER", "2001ms", NULL};
    assert_int_equal(resolve(&settings, NULL, longer, &error), TUTTI_OK);
    settings_clean_up(&settings);
}

static void nothing_is_left_to_free_after_an_error(void **state)
{
    (void)state;
    static const char *const environment[] = {"TUTTI_JOB", "train", "TUTTI_LOG", "loud", NULL};
    struct settings settings;
    assert_int_equal(resolve(&settings, NULL, environment, NULL), TUTTI_ERR_CONFIG);
    assert_int_equal(settings.text_count, 0);
    assert_null(settings.values.job);
}

/* ---- Callers of another version ----------------------------------------------------------------------- */

static void fields_beyond_an_older_struct_are_not_given(void **state)
{
    (void)state;
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.job = "train";
    config.log = "debug";
    config.struct_size = offsetof(struct tutti_config, log);
    struct settings settings;
    assert_int_equal(resolve(&settings, &config, nothing, NULL), TUTTI_OK);
    assert_string_equal(settings.values.job, "train");
    assert_string_equal(settings.values.log, "warning");
    assert_int_equal(settings.values.struct_size, sizeof settings.values);
    settings_clean_up(&settings);
}

static void a_newer_struct_is_accepted_while_its_new_fields_are_zero(void **state)
{
    (void)state;
    struct {
        struct tutti_config config;
        int64_t newer[2];
    } newer = {.config = TUTTI_CONFIG_INIT};
    newer.config.struct_size = sizeof newer;
    struct settings settings;
    struct tutti_error error;
    assert_int_equal(resolve(&settings, &newer.config, nothing, &error), TUTTI_OK);
    settings_clean_up(&settings);

    newer.newer[1] = 1;
    int status = resolve(&settings, &newer.config, nothing, &error);
    assert_rejected(status, &error,
                    (const char *const[3]){"struct tutti_config", "does not know", "install"});
}

static void a_struct_that_was_not_initialised_is_rejected(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, SIZE_MAX, 0x5555555555555555};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct tutti_config config = TUTTI_CONFIG_INIT;
        config.struct_size = sizes[i];
        struct settings settings;
        struct tutti_error error;
        int status = resolve(&settings, &config, nothing, &error);
        assert_rejected(status, &error, (const char *const[3]){"struct_size", "", "TUTTI_CONFIG_INIT"});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_when_nothing_is_given),
        cmocka_unit_test(what_chooses_algorithms_comes_from_variables_and_fields),
        cmocka_unit_test(the_environment_comes_before_the_default),
        cmocka_unit_test(a_given_field_comes_before_the_environment),
        cmocka_unit_test(a_field_shields_from_a_wrong_variable),
        cmocka_unit_test(an_empty_variable_or_field_is_not_given),
        cmocka_unit_test(strings_are_copied),
        cmocka_unit_test(rank_size_and_rendezvous_are_left_to_the_launcher),
        cmocka_unit_test(times_take_units),
        cmocka_unit_test(times_that_are_none_are_rejected),
        cmocka_unit_test(sizes_take_units),
        cmocka_unit_test(sizes_that_are_none_are_rejected),
        cmocka_unit_test(a_socket_buffer_may_be_left_to_the_kernel),
        cmocka_unit_test(flags_are_0_or_1),
        cmocka_unit_test(channels_are_one_to_eight),
        cmocka_unit_test(transports_are_a_list_without_repetition),
        cmocka_unit_test(a_list_holds_whole_words),
        cmocka_unit_test(port_ranges_are_two_ports_in_order),
        cmocka_unit_test(choices_are_the_words_of_the_table),
        cmocka_unit_test(texts_have_a_limit_and_no_control_characters),
        cmocka_unit_test(a_field_out_of_range_is_rejected_by_its_name),
        cmocka_unit_test(dead_after_must_be_longer_than_the_heartbeat),
        cmocka_unit_test(nothing_is_left_to_free_after_an_error),
        cmocka_unit_test(fields_beyond_an_older_struct_are_not_given),
        cmocka_unit_test(a_newer_struct_is_accepted_while_its_new_fields_are_zero),
        cmocka_unit_test(a_struct_that_was_not_initialised_is_rejected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
