#include "tools/listen.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "transport/interface.h"
#include "transport/socket.h"

static int no_more_room(struct tutti_error *error)
{
    return error_set(error, TUTTI_ERR_CONFIG, "more than %d addresses to listen on; give fewer",
                     LISTENERS_MAX);
}

static int add_unix(struct listen_set *set, const char *name, struct tutti_error *error)
{
    if (set->count == LISTENERS_MAX)
        return no_more_room(error);
    int fd = socket_listen_unix(name, error);
    if (fd < 0)
        return fd;
    set->fds[set->count] = fd;
    snprintf(set->addresses[set->count++], sizeof *set->addresses, "unix:%s", name);
    return TUTTI_OK;
}

int listen_set_add_anywhere(struct listen_set *set, struct tutti_error *error)
{
    char name[ENDPOINT_UNIX_PATH_MAX + 1];
    if (set->count == LISTENERS_MAX)
        return no_more_room(error);
    int fd = socket_listen_unix_anywhere(name, sizeof name, error);
    if (fd < 0)
        return fd;
    set->fds[set->count] = fd;
    snprintf(set->addresses[set->count++], sizeof *set->addresses, "unix:%s", name);
    return TUTTI_OK;
}

static int add_address(struct listen_set *set, const struct sockaddr *address, struct tutti_error *error)
{
    struct sockaddr_storage bound;
    if (set->count == LISTENERS_MAX)
        return no_more_room(error);
    memset(&bound, 0, sizeof bound);
    memcpy(&bound, address,
           address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    int fd = socket_listen_tcp(&bound, 0, 0, error);
    if (fd < 0)
        return fd;
    set->fds[set->count] = fd;
    socket_print((struct sockaddr *)&bound, set->addresses[set->count++], sizeof *set->addresses);
    return TUTTI_OK;
}

/* Every interface, IPv4 and IPv6 alike. */
static int add_wildcard(struct listen_set *set, uint16_t port, struct tutti_error *error)
{
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_ANY_INIT};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    int status = add_address(set, (struct sockaddr *)&v6, error);
    if (status == TUTTI_OK || status == TUTTI_ERR_REFUSED)
        return status;
    return add_address(set, (struct sockaddr *)&v4, error); /* a host without IPv6 */
}

static int add_resolved(struct listen_set *set, const struct endpoint *endpoint, const struct addrinfo *found,
                        struct tutti_error *error)
{
    int before = set->count;
    int status = error_set(error, TUTTI_ERR_UNREACHABLE, "the host name '%s' has no IPv4 or IPv6 address",
                           endpoint->name);
    for (; found; found = found->ai_next) {
        if (found->ai_family != AF_INET && found->ai_family != AF_INET6)
            continue;
        /* A host's own name often stands for 127.0.1.1 there, where other hosts could not reach it. */
        if (address_is_loopback(found->ai_addr) && !name_is_loopback(endpoint->name))
            return set->count > before ? TUTTI_OK : add_wildcard(set, endpoint->port, error);
        status = add_address(set, found->ai_addr, error);
        if (status < 0 && status != TUTTI_ERR_UNREACHABLE)
            return status;
    }
    return set->count > before ? TUTTI_OK : status;
}

static int add_tcp(struct listen_set *set, const struct endpoint *endpoint, struct tutti_error *error)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    snprintf(port, sizeof port, "%u", (unsigned)endpoint->port);
    int result = getaddrinfo(endpoint->name, port, &hints, &found);
    if (result != 0)
        return error_set(error, TUTTI_ERR_UNREACHABLE, "the host name '%s' cannot be resolved: %s",
                         endpoint->name, gai_strerror(result));
    int before = set->count;
    int status = add_resolved(set, endpoint, found, error);
    freeaddrinfo(found);
    while (status < 0 && set->count > before)
        close(set->fds[--set->count]);
    return status;
}

int listen_set_add(struct listen_set *set, const struct endpoint *endpoint, struct tutti_error *error)
{
    if (endpoint->kind == ENDPOINT_UNIX)
        return add_unix(set, endpoint->name, error);
    if (endpoint->kind == ENDPOINT_TCP)
        return add_tcp(set, endpoint, error);
    char text[300];
    return error_set(error, TUTTI_ERR_CONFIG, "cannot listen on %s: give unix:PATH or HOST:PORT",
                     endpoint_print(endpoint, text, sizeof text));
}

void listen_set_close(struct listen_set *set)
{
    while (set->count > 0)
        close(set->fds[--set->count]);
}

void listen_set_remove_files(const struct listen_set *set)
{
    static const char scheme[] = "unix:";
    for (int i = 0; i < set->count; i++) {
        const char *path = set->addresses[i] + sizeof scheme - 1;
        if (strncmp(set->addresses[i], scheme, sizeof scheme - 1) == 0 && *path != '@')
            (void)unlink(path); /* gone already is as good */
    }
}
