#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "engine/listeners.h"

static const char *read_nothing(void *context, const char *name)
{
    (void)context;
    (void)name;
    return NULL;
}

/* Opens what a member with these settings listens on that meets the others at a Unix socket, and says how
 * many of each kind there are. */
static void count_listeners(const char *transports, const char *host, int *unix_count, int *tcp_count)
{
    struct settings settings;
    struct listeners listeners = {.count = 0};
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct tutti_config config = TUTTI_CONFIG_INIT;
    const struct endpoint meeting = {.kind = ENDPOINT_UNIX};
    config.transports = transports;
    config.host = host;
    config.interface = "lo";
    if (settings_resolve(&settings, &config, read_nothing, NULL, &error) != TUTTI_OK ||
        listeners_open(&listeners, &settings, &meeting, -1, &error) != TUTTI_OK)
        fail_msg("%s: %s", transports, error.message);
    *unix_count = *tcp_count = 0;
    for (int i = 0; i < listeners.count; i++) {
        bool is_unix = strncmp(listeners.address[i], "unix:@", 6) == 0;
        *unix_count += is_unix;
        *tcp_count += !is_unix;
    }
    listeners_close(&listeners);
    settings_clean_up(&settings);
}

static void shared_memory_needs_a_unix_socket_to_be_set_up_over(void **state)
{
    (void)state;
    static const char *const with_unix[] = {"shm", "shm,tcp", "uds", "shm,uds,tcp", "tcp,shm", "uds,shm"};
    int unix_count, tcp_count;
    for (size_t i = 0; i < sizeof with_unix / sizeof *with_unix; i++) {
        count_listeners(with_unix[i], NULL, &unix_count, &tcp_count);
        assert_int_equal(unix_count, 1);
    }
    count_listeners("tcp", NULL, &unix_count, &tcp_count);
    assert_int_equal(unix_count, 0);
}

static void a_job_of_one_host_opens_no_port_unless_tcp_comes_first(void **state)
{
    (void)state;
    static const char *const without[] = {"shm", "shm,uds,tcp", "uds,tcp", "shm,tcp"};
    static const char *const with[] = {"tcp", "tcp,shm", "tcp,uds"};
    int unix_count, tcp_count;
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        count_listeners(without[i], NULL, &unix_count, &tcp_count);
        assert_int_equal(tcp_count, 0);
    }
    for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
        count_listeners(with[i], NULL, &unix_count, &tcp_count);
        assert_true(tcp_count > 0);
    }
}

static void several_hosts_that_one_is_said_to_be_need_a_port(void **state)
{
    (void)state;
    int unix_count, tcp_count;
    count_listeners("shm,uds,tcp", "a", &unix_count, &tcp_count);
    assert_int_equal(unix_count, 1);
    assert_true(tcp_count > 0);
    count_listeners("shm", "a", &unix_count, &tcp_count);
    assert_int_equal(tcp_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_memory_needs_a_unix_socket_to_be_set_up_over),
        cmocka_unit_test(a_job_of_one_host_opens_no_port_unless_tcp_comes_first),
        cmocka_unit_test(several_hosts_that_one_is_said_to_be_need_a_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
