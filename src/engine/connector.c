#include "engine/connector.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "engine/watch.h"
#include "transport/descriptor.h"
#include "transport/socket.h"

struct connector {
    uv_loop_t *loop;
    struct connector_targets targets;
    int index; /* of the target that is tried */
    int attempt_timeout_ms;
    connector_done done;
    void *context;
    int fd;
    struct watch *watch;
    struct alarm *alarm; /* begins, and ends an attempt */
    bool attempting;
    struct tutti_error why;
};

bool connector_add_unix(struct connector_targets *targets, const char *name)
{
    if (targets->count == CONNECTOR_TARGETS_MAX || strlen(name) > ENDPOINT_UNIX_PATH_MAX)
        return false;
    struct connector_target *target = &targets->list[targets->count++];
    memset(target, 0, sizeof *target);
    target->is_unix = true;
    memcpy(target->name, name, strlen(name));
    return true;
}

bool connector_add_address(struct connector_targets *targets, const struct sockaddr *address)
{
    if (targets->count == CONNECTOR_TARGETS_MAX)
        return false;
    struct connector_target *target = &targets->list[targets->count++];
    memset(target, 0, sizeof *target);
    target->length =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    memcpy(&target->address, address, target->length);
    return true;
}

bool connector_add_text(struct connector_targets *targets, const char *text)
{
    struct endpoint endpoint;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (endpoint_parse(text, &endpoint, NULL) < 0)
        return false;
    if (endpoint.kind == ENDPOINT_UNIX)
        return connector_add_unix(targets, endpoint.name);
    v4.sin_port = v6.sin6_port = htons(endpoint.port);
    if (inet_pton(AF_INET, endpoint.name, &v4.sin_addr) == 1)
        return connector_add_address(targets, (struct sockaddr *)&v4);
    if (inet_pton(AF_INET6, endpoint.name, &v6.sin6_addr) == 1)
        return connector_add_address(targets, (struct sockaddr *)&v6);
    return false;
}

void connector_add_list(struct connector_targets *targets, const char *transports, char *const *addresses,
                        size_t count, bool same_host)
{
    char copy[64];
    snprintf(copy, sizeof copy, "%s", transports);
    char *rest = copy;
    bool unix_added = false;
    for (char *name; (name = strsep(&rest, ",")) != NULL;) {
        /* Shared memory is set up over a Unix socket: one connection serves both. */
        bool wants_unix = strcmp(name, "tcp") != 0;
        if (wants_unix && (unix_added || !same_host))
            continue;
        unix_added = unix_added || wants_unix;
        for (size_t i = 0; i < count; i++) {
            bool is_unix = strncmp(addresses[i], "unix:", 5) == 0;
            if (is_unix == wants_unix)
                connector_add_text(targets, addresses[i]);
        }
    }
}

const char *connector_print(const struct connector_target *target, char *text, size_t size)
{
    if (target->is_unix)
        snprintf(text, size, "unix:%s", target->name);
    else
        socket_print((const struct sockaddr *)&target->address, text, size);
    return text;
}

static void connector_free(struct connector *connector)
{
    watch_free(connector->watch);
    alarm_free(connector->alarm);
    if (connector->fd >= 0)
        descriptor_close(connector->fd);
    free(connector);
}

void connector_cancel(struct connector *connector)
{
    if (connector)
        connector_free(connector);
}

static void try_target(struct connector *connector);

static void attempt_failed(struct connector *connector, int error_number)
{
    char text[128];
    watch_free(connector->watch);
    connector->watch = NULL;
    if (connector->fd >= 0)
        descriptor_close(connector->fd);
    connector->fd = -1;
    connector_print(&connector->targets.list[connector->index], text, sizeof text);
    if (error_number == EMFILE || error_number == ENFILE)
        error_set_errno(&connector->why, error_number, "%s", text);
    else
        error_set(&connector->why, TUTTI_ERR_UNREACHABLE, "%s: %s", text, strerror(error_number));
    connector->index++;
    try_target(connector);
}

static void finish(struct connector *connector, int fd)
{
    struct tutti_error why = connector->why;
    connector_done done = connector->done;
    void *context = connector->context;
    int index = connector->index;
    connector->fd = -1;
    connector_free(connector);
    done(context, fd, index, &why);
}

static void on_writable(void *context)
{
    struct connector *connector = context;
    int error_number = socket_connect_result(connector->fd);
    if (error_number == EINPROGRESS)
        return;
    if (error_number != 0)
        attempt_failed(connector, error_number);
    else
        finish(connector, connector->fd);
}

static void try_target(struct connector *connector)
{
    if (connector->index >= connector->targets.count) {
        finish(connector, -1);
        return;
    }
    const struct connector_target *target = &connector->targets.list[connector->index];
    int fd = target->is_unix ? socket_connect_unix(target->name)
                             : socket_connect_tcp((const struct sockaddr *)&target->address, target->length);
    if (fd < 0) {
        attempt_failed(connector, -fd);
        return;
    }
    connector->fd = fd;
    connector->watch = watch_new(connector->loop, fd, UV_WRITABLE, on_writable, connector);
    if (!connector->watch) {
        attempt_failed(connector, ENOMEM);
        return;
    }
    connector->attempting = true;
    alarm_set(connector->alarm, connector->attempt_timeout_ms);
}

static void on_alarm(void *context)
{
    struct connector *connector = context;
    if (connector->attempting)
        attempt_failed(connector, ETIMEDOUT);
    else
        try_target(connector); /* the beginning, so that `done` never runs inside connector_start() */
}

struct connector *connector_start(uv_loop_t *loop, const struct connector_targets *targets, int first,
                                  int attempt_timeout_ms, connector_done done, void *context)
{
    struct connector *connector = calloc(1, sizeof *connector);
    if (!connector)
        return NULL;
    connector->loop = loop;
    connector->targets = *targets;
    connector->index = first;
    connector->attempt_timeout_ms = attempt_timeout_ms;
    connector->done = done;
    connector->context = context;
    connector->fd = -1;
    error_set(&connector->why, TUTTI_ERR_UNREACHABLE, "no address to try");
    connector->alarm = alarm_new(loop, on_alarm, connector);
    if (!connector->alarm) {
        free(connector);
        return NULL;
    }
    alarm_set(connector->alarm, 0);
    return connector;
}
