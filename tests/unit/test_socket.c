/* Sockets against the real kernel: Unix and TCP, on loopback alone. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "transport/socket.h"

static void abstract_name(char name[64], const char *what)
{
    snprintf(name, 64, "@tutti-test-socket-%ld-%s", (long)getpid(), what);
}

/* A path in a fresh directory. */
static void temporary_path(char path[64])
{
    char directory[] = "/tmp/tutti-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    snprintf(path, 64, "%s/socket", directory);
}

static void remove_path(char *path)
{
    (void)unlink(path);
    *strrchr(path, '/') = '\0';
    assert_int_equal(rmdir(path), 0);
}

static struct sockaddr_storage loopback_v4(uint16_t port)
{
    struct sockaddr_storage address = {.ss_family = AF_INET};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v4->sin_port = htons(port);
    return address;
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
    return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

static int listen_v4(struct sockaddr_storage *address)
{
    struct tutti_error error;
    *address = loopback_v4(0);
    int fd = socket_listen_tcp(address, 0, 0, &error);
    assert_true(fd >= 0);
    return fd;
}

static void wait_for(int fd, short events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    assert_int_equal(poll(&poll_fd, 1, 10000), 1);
}

static int accept_one(int listener)
{
    wait_for(listener, POLLIN);
    int fd = socket_accept(listener);
    assert_true(fd >= 0);
    return fd;
}

static void assert_exchange(int from, int to)
{
    char byte = 'x', received = 0;
    assert_int_equal(write(from, &byte, 1), 1);
    wait_for(to, POLLIN);
    assert_int_equal(read(to, &received, 1), 1);
    assert_int_equal(received, byte);
}

static void assert_non_blocking_and_closed_on_exec(int fd)
{
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

/* ---- Unix -------------------------------------------------------------------------------------- */

static void a_unix_listener_accepts_a_connection_that_carries_bytes(void **state)
{
    (void)state;
    char name[64], text[64], expected[64];
    struct tutti_error error;
    abstract_name(name, "accept");
    int listener = socket_listen_unix(name, &error);
    assert_true(listener >= 0);
    assert_int_equal(socket_accept(listener), -EAGAIN);
    int client = socket_connect_unix(name);
    assert_true(client >= 0);
    assert_int_equal(socket_connect_result(client), 0);
    int server = accept_one(listener);
    assert_exchange(client, server);
    assert_exchange(server, client);
    assert_non_blocking_and_closed_on_exec(listener);
    assert_non_blocking_and_closed_on_exec(client);
    assert_non_blocking_and_closed_on_exec(server);
    snprintf(expected, sizeof expected, "process %ld", (long)getpid());
    assert_string_equal(socket_print_peer(server, text, sizeof text), expected);
    close(server);
    close(client);
    close(listener);
}

static void a_fresh_abstract_name_can_be_connected_to(void **state)
{
    (void)state;
    char name[ENDPOINT_UNIX_PATH_MAX + 1], other_name[sizeof name];
    struct tutti_error error;
    int listener = socket_listen_unix_anywhere(name, sizeof name, &error);
    int other = socket_listen_unix_anywhere(other_name, sizeof other_name, &error);
    assert_true(listener >= 0 && other >= 0);
    assert_int_equal(name[0], '@');
    assert_string_not_equal(name, other_name);
    int client = socket_connect_unix(name);
    assert_true(client >= 0);
    close(accept_one(listener));
    close(client);
    close(listener);
    close(other);
}

static void a_unix_name_in_use_is_refused(void **state)
{
    (void)state;
    char name[64];
    struct tutti_error error;
    abstract_name(name, "twice");
    int listener = socket_listen_unix(name, &error);
    assert_true(listener >= 0);
    assert_int_equal(socket_listen_unix(name, &error), TUTTI_ERR_REFUSED);
    assert_non_null(strstr(error.message, name));
    close(listener);
    listener = socket_listen_unix(name, &error);
    assert_true(listener >= 0);
    close(listener);
}

static void a_socket_file_that_nobody_listens_on_is_replaced(void **state)
{
    (void)state;
    char path[64];
    struct tutti_error error;
    temporary_path(path);
    int killed = socket_listen_unix(path, &error);
    assert_true(killed >= 0);
    close(killed); /* leaves the file behind, as a killed process does */
    assert_int_equal(socket_connect_unix(path), -ECONNREFUSED);
    int listener = socket_listen_unix(path, &error);
    assert_true(listener >= 0);
    int client = socket_connect_unix(path);
    assert_true(client >= 0);
    /* In use now, it stays. */
    assert_int_equal(socket_listen_unix(path, &error), TUTTI_ERR_REFUSED);
    close(accept_one(listener)); /* of the client */
    close(client);
    close(listener);
    remove_path(path);
}

static void a_file_that_is_no_socket_is_never_removed(void **state)
{
    (void)state;
    char path[64];
    struct tutti_error error;
    struct stat status;
    temporary_path(path);
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(socket_listen_unix(path, &error), TUTTI_ERR_REFUSED);
    assert_int_equal(stat(path, &status), 0);
    remove_path(path);
}

static void a_unix_name_that_is_too_long_or_empty_is_an_error(void **state)
{
    (void)state;
    char name[ENDPOINT_UNIX_PATH_MAX + 2];
    struct tutti_error error;
    memset(name, 'x', sizeof name - 1);
    name[0] = '@';
    name[sizeof name - 1] = '\0';
    assert_int_equal(socket_listen_unix(name, &error), TUTTI_ERR_SYSTEM);
    assert_int_equal(socket_connect_unix(name), -ENAMETOOLONG);
    assert_int_equal(socket_connect_unix(""), -ENAMETOOLONG);
    name[ENDPOINT_UNIX_PATH_MAX] = '\0';
    int listener = socket_listen_unix(name, &error);
    assert_true(listener >= 0);
    close(listener);
}

static void a_unix_connection_of_another_user_is_turned_away(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("SKIPPED: needs root, to become another user\n");
        skip();
    }
    char name[64];
    struct tutti_error error;
    abstract_name(name, "user");
    int listener = socket_listen_unix(name, &error);
    assert_true(listener >= 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        if (setresuid(65534, 65534, 65534) < 0)
            _exit(1);
        int fd = socket_connect_unix(name);
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        bool closed = fd >= 0 && poll(&ready, 1, 10000) == 1 && read(fd, &byte, 1) <= 0;
        _exit(closed ? 0 : 2);
    }
    wait_for(listener, POLLIN);
    assert_int_equal(socket_accept(listener), -EPERM);
    assert_int_equal(socket_accept(listener), -EAGAIN);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(listener);
}

/* ---- TCP --------------------------------------------------------------------------------------- */

static void a_tcp_listener_tells_the_port_that_it_got(void **state)
{
    (void)state;
    char text[64], expected[64];
    struct sockaddr_storage address;
    int listener = listen_v4(&address);
    assert_int_not_equal(port_of(&address), 0);
    int client = socket_connect_tcp((struct sockaddr *)&address, sizeof(struct sockaddr_in));
    assert_true(client >= 0);
    int server = accept_one(listener);
    wait_for(client, POLLOUT);
    assert_int_equal(socket_connect_result(client), 0);
    assert_exchange(client, server);
    assert_non_blocking_and_closed_on_exec(client);
    assert_non_blocking_and_closed_on_exec(server);
    snprintf(expected, sizeof expected, "127.0.0.1:%u", (unsigned)port_of(&address));
    assert_string_equal(socket_print_peer(client, text, sizeof text), expected);
    close(server);
    close(client);
    close(listener);
}

static void a_port_that_is_taken_is_refused(void **state)
{
    (void)state;
    char expected[64];
    struct sockaddr_storage address;
    struct tutti_error error;
    int listener = listen_v4(&address);
    struct sockaddr_storage same = address;
    assert_int_equal(socket_listen_tcp(&same, 0, 0, &error), TUTTI_ERR_REFUSED);
    snprintf(expected, sizeof expected, "127.0.0.1:%u", (unsigned)port_of(&address));
    assert_non_null(strstr(error.message, expected));
    close(listener);
}

static void a_port_range_passes_over_ports_that_are_taken(void **state)
{
    (void)state;
    struct sockaddr_storage taken, address = loopback_v4(0);
    struct tutti_error error;
    /* A port whose neighbour is free: the range of the two must give the neighbour, then be exhausted. */
    int listener, next, attempts = 0;
    uint16_t port;
    do {
        assert_true(++attempts < 100);
        listener = listen_v4(&taken);
        port = port_of(&taken);
        struct sockaddr_storage probe = loopback_v4((uint16_t)(port + 1));
        next = port < UINT16_MAX ? socket_listen_tcp(&probe, 0, 0, &error) : -1;
        close(next >= 0 ? next : listener);
    } while (next < 0);
    next = socket_listen_tcp(&address, port, port + 1, &error);
    assert_true(next >= 0);
    assert_int_equal(port_of(&address), port + 1);
    address = loopback_v4(0);
    assert_int_equal(socket_listen_tcp(&address, port, port + 1, &error), TUTTI_ERR_REFUSED);
    assert_non_null(strstr(error.message, "every port from"));
    close(next);
    close(listener);
}

static void an_address_of_another_host_is_unreachable(void **state)
{
    (void)state;
    struct sockaddr_storage address = loopback_v4(0);
    struct tutti_error error;
    ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(0xC0000201); /* 192.0.2.1: documentation */
    assert_int_equal(socket_listen_tcp(&address, 0, 0, &error), TUTTI_ERR_UNREACHABLE);
    assert_non_null(strstr(error.message, "192.0.2.1"));
}

static void connecting_to_a_port_without_listener_is_refused(void **state)
{
    (void)state;
    struct sockaddr_storage address;
    close(listen_v4(&address));
    int fd = socket_connect_tcp((struct sockaddr *)&address, sizeof(struct sockaddr_in));
    int result = -fd;
    if (fd >= 0) {
        wait_for(fd, POLLOUT);
        result = socket_connect_result(fd);
        close(fd);
    }
    assert_int_equal(result, ECONNREFUSED);
}

static void a_socket_that_is_connected_to_itself_counts_as_refused(void **state)
{
    (void)state;
    struct sockaddr_storage address = loopback_v4(0);
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(struct sockaddr_in)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(socket_connect_result(fd), ECONNREFUSED);
    close(fd);
}

static void the_ipv6_wildcard_takes_ipv4_too_and_prints_it_as_such(void **state)
{
    (void)state;
    char text[64];
    struct sockaddr_storage address = {.ss_family = AF_INET6};
    struct tutti_error error;
    int listener = socket_listen_tcp(&address, 0, 0, &error);
    if (listener < 0) {
        print_message("SKIPPED: this host has no IPv6\n");
        skip();
    }
    assert_memory_equal(socket_print((struct sockaddr *)&address, text, sizeof text), "[::]:", 5);
    struct sockaddr_storage v4 = loopback_v4(port_of(&address));
    int client = socket_connect_tcp((struct sockaddr *)&v4, sizeof(struct sockaddr_in));
    assert_true(client >= 0);
    int server = accept_one(listener);
    assert_memory_equal(socket_print_peer(server, text, sizeof text), "127.0.0.1:", 10);
    close(server);
    close(client);
    close(listener);
}

static void addresses_print_as_they_are_written(void **state)
{
    (void)state;
    char text[64];
    struct sockaddr_storage v4 = loopback_v4(4711);
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(4711), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    assert_string_equal(socket_print((struct sockaddr *)&v4, text, sizeof text), "127.0.0.1:4711");
    assert_string_equal(socket_print((struct sockaddr *)&v6, text, sizeof text), "[::1]:4711");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unix_listener_accepts_a_connection_that_carries_bytes),
        cmocka_unit_test(a_fresh_abstract_name_can_be_connected_to),
        cmocka_unit_test(a_unix_name_in_use_is_refused),
        cmocka_unit_test(a_socket_file_that_nobody_listens_on_is_replaced),
        cmocka_unit_test(a_file_that_is_no_socket_is_never_removed),
        cmocka_unit_test(a_unix_name_that_is_too_long_or_empty_is_an_error),
        cmocka_unit_test(a_unix_connection_of_another_user_is_turned_away),
        cmocka_unit_test(a_tcp_listener_tells_the_port_that_it_got),
        cmocka_unit_test(a_port_that_is_taken_is_refused),
        cmocka_unit_test(a_port_range_passes_over_ports_that_are_taken),
        cmocka_unit_test(an_address_of_another_host_is_unreachable),
        cmocka_unit_test(connecting_to_a_port_without_listener_is_refused),
        cmocka_unit_test(a_socket_that_is_connected_to_itself_counts_as_refused),
        cmocka_unit_test(the_ipv6_wildcard_takes_ipv4_too_and_prints_it_as_such),
        cmocka_unit_test(addresses_print_as_they_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
