#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "group/endpoint.h"

static void assert_parses(const char *text, enum endpoint_kind kind, const char *name, int port)
{
    struct endpoint endpoint;
    struct tutti_error error = TUTTI_ERROR_INIT;
    char printed[300];
    if (endpoint_parse(text, &endpoint, &error) < 0)
        fail_msg("'%s': %s", text, error.message);
    assert_int_equal(endpoint.kind, kind);
    assert_string_equal(endpoint.name, name);
    assert_int_equal(endpoint.port, port);
    assert_string_equal(endpoint_print(&endpoint, printed, sizeof printed), text);
}

static void assert_refused(const char *text, const char *why)
{
    struct endpoint endpoint;
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(endpoint_parse(text, &endpoint, &error), TUTTI_ERR_CONFIG);
    assert_int_equal(error.code, TUTTI_ERR_CONFIG);
    if (!strstr(error.message, why))
        fail_msg("'%s': expected '%s' in '%s'", text, why, error.message);
}

static void every_form_survives_a_round_trip(void **state)
{
    (void)state;
    assert_parses("unix:/run/tutti.sock", ENDPOINT_UNIX, "/run/tutti.sock", 0);
    assert_parses("unix:relative:with:colons", ENDPOINT_UNIX, "relative:with:colons", 0);
    assert_parses("unix:@tutti-1000-job", ENDPOINT_UNIX, "@tutti-1000-job", 0);
    assert_parses("file:/shared/address", ENDPOINT_FILE, "/shared/address", 0);
    assert_parses("node-3.cluster_1.example:4711", ENDPOINT_TCP, "node-3.cluster_1.example", 4711);
    assert_parses("10.0.0.1:65535", ENDPOINT_TCP, "10.0.0.1", 65535);
    assert_parses("[::1]:4711", ENDPOINT_TCP, "::1", 4711);
    assert_parses("[::]:0", ENDPOINT_TCP, "::", 0);
    assert_parses("[fe80::1%eth0.100]:80", ENDPOINT_TCP, "fe80::1%eth0.100", 80);
    assert_parses("[::ffff:10.0.0.1]:80", ENDPOINT_TCP, "::ffff:10.0.0.1", 80);
}

static void what_is_no_address_is_refused_with_the_reason_and_the_right_forms(void **state)
{
    (void)state;
    assert_refused("", "it has no ':'");
    assert_refused("nonsense", "'nonsense' is no address: it has no ':'; write unix:PATH");
    assert_refused("unix:", "the path is empty");
    assert_refused("unix:@", "the path is empty");
    assert_refused("file:", "the path is empty");
    assert_refused("host:", "the port must be a number");
    assert_refused("host:http", "the port must be a number");
    assert_refused("host:80x", "the port must be a number");
    assert_refused("host:+80", "the port must be a number");
    assert_refused("host:-1", "the port must be a number");
    assert_refused("host:65536", "the port must be a number");
    assert_refused("host:000000000080", "the port must be a number");
    assert_refused(":4711", "before the ':' must be a host name");
    assert_refused("ho st:1", "before the ':' must be a host name");
    assert_refused("ho\nst:1", "before the ':' must be a host name");
    assert_refused("::1:4711", "an IPv6 address in brackets");
    assert_refused("tcp://host:4711", "an IPv6 address in brackets");
    assert_refused("[::1]", "after '[IPV6]' must come ':PORT'");
    assert_refused("[::1]4711:80", "after '[IPV6]' must come ':PORT'");
    assert_refused("[::1:4711", "after '[IPV6]' must come ':PORT'");
    assert_refused("[]:4711", "a numeric IPv6 address");
    assert_refused("[host]:4711", "a numeric IPv6 address");
    assert_refused("[10.0.0.1]:4711", "a numeric IPv6 address");
    assert_refused("[%eth0:1]:4711", "a numeric IPv6 address");
}

static void lengths_are_limited(void **state)
{
    (void)state;
    char text[1000], name[300];
    memset(name, 'x', sizeof name);

    name[ENDPOINT_UNIX_PATH_MAX] = '\0';
    snprintf(text, sizeof text, "unix:%s", name);
    assert_parses(text, ENDPOINT_UNIX, name, 0);
    name[ENDPOINT_UNIX_PATH_MAX] = 'x';
    name[ENDPOINT_UNIX_PATH_MAX + 1] = '\0';
    snprintf(text, sizeof text, "unix:%s", name);
    assert_refused(text, "has 108 bytes, and 107 are the most");

    name[ENDPOINT_UNIX_PATH_MAX + 1] = 'x';
    name[255] = '\0';
    snprintf(text, sizeof text, "file:%s", name);
    assert_parses(text, ENDPOINT_FILE, name, 0);
    snprintf(text, sizeof text, "%s:1", name);
    assert_parses(text, ENDPOINT_TCP, name, 1);
    name[255] = 'x';
    name[256] = '\0';
    snprintf(text, sizeof text, "file:%s", name);
    assert_refused(text, "has 256 bytes");
    snprintf(text, sizeof text, "%s:1", name);
    assert_refused(text, "too long");
}

static void printing_is_cut_to_the_room_there_is(void **state)
{
    (void)state;
    struct endpoint endpoint = {.kind = ENDPOINT_NONE};
    char text[8];
    assert_string_equal(endpoint_print(&endpoint, text, sizeof text), "none");
    assert_int_equal(endpoint_parse("[2001:db8::1]:4711", &endpoint, NULL), TUTTI_OK);
    assert_string_equal(endpoint_print(&endpoint, text, sizeof text), "[2001:d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_survives_a_round_trip),
        cmocka_unit_test(what_is_no_address_is_refused_with_the_reason_and_the_right_forms),
        cmocka_unit_test(lengths_are_limited),
        cmocka_unit_test(printing_is_cut_to_the_room_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
