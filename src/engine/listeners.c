#include "engine/listeners.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "transport/descriptor.h"
#include "transport/interface.h"
#include "transport/socket.h"

static void add_listener(struct listeners *listeners, int fd, const char *address)
{
    listeners->fd[listeners->count] = fd;
    snprintf(listeners->address[listeners->count++], sizeof listeners->address[0], "%s", address);
}

/* The addresses to listen on: as TUTTI_INTERFACE says; else the one from which the rendezvous is reached;
 * else, when that is no address that other hosts could use, every one of this host. */
static int tcp_candidates(const struct settings *settings, const struct endpoint *meeting, int rendezvous_fd,
                          struct sockaddr_storage *addresses, int max, struct tutti_error *error)
{
    const struct tutti_config *values = &settings->values;
    if (values->interface)
        return interface_addresses(values->interface, addresses, max, error);
    socklen_t length = sizeof addresses[0];
    memset(addresses, 0, sizeof addresses[0]);
    bool by_tcp = meeting->kind == ENDPOINT_TCP &&
                  getsockname(rendezvous_fd, (struct sockaddr *)addresses, &length) == 0;
    if (by_tcp && (!address_is_loopback((struct sockaddr *)addresses) || name_is_loopback(meeting->name)))
        return 1;
    /* Reached by a Unix socket: one host, unless TUTTI_HOST makes several of it. */
    bool several_hosts = by_tcp || values->host != NULL;
    if (several_hosts && interface_addresses(NULL, addresses, max, error) > 0)
        return interface_addresses(NULL, addresses, max, error);
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memset(addresses, 0, sizeof addresses[0]);
    memcpy(addresses, &loopback, sizeof loopback);
    return 1;
}

void listeners_port_range(const struct settings *settings, int *port_min, int *port_max)
{
    *port_min = *port_max = 0;
    if (settings->values.port_range)
        sscanf(settings->values.port_range, "%d-%d", port_min, port_max); /* its form was checked */
}

/* Listens on every candidate that will have it; one is enough. */
static int listen_tcp(struct listeners *listeners, const struct settings *settings,
                      const struct endpoint *meeting, int rendezvous_fd, struct tutti_error *error)
{
    struct sockaddr_storage addresses[LISTENERS_MAX - 1];
    int port_min, port_max, listening = 0;
    listeners_port_range(settings, &port_min, &port_max);
    int count = tcp_candidates(settings, meeting, rendezvous_fd, addresses, LISTENERS_MAX - 1, error);
    for (int i = 0; i < count; i++) {
        char text[128];
        if (addresses[i].ss_family == AF_INET6)
            ((struct sockaddr_in6 *)&addresses[i])->sin6_port = 0;
        else
            ((struct sockaddr_in *)&addresses[i])->sin_port = 0;
        int fd = socket_listen_tcp(&addresses[i], port_min, port_max, error);
        if (fd < 0)
            continue;
        add_listener(listeners, fd, socket_print((struct sockaddr *)&addresses[i], text, sizeof text));
        listening++;
    }
    return listening > 0 ? TUTTI_OK : error->code;
}

int listeners_open(struct listeners *listeners, const struct settings *settings,
                   const struct endpoint *meeting, int rendezvous_fd, struct tutti_error *error)
{
    const char *transports = settings->values.transports;
    /* Shared memory is set up over Unix sockets, which also serve in its place. */
    bool uds = setting_list_holds(transports, "uds") || setting_list_holds(transports, "shm");
    bool tcp = setting_list_holds(transports, "tcp");
    if (uds) {
        char name[112], address[128];
        int fd = socket_listen_unix_anywhere(name, sizeof name, error);
        if (fd < 0)
            return fd;
        snprintf(address, sizeof address, "unix:%s", name);
        add_listener(listeners, fd, address);
    }
    /* A job of one host needs no port that others could find. */
    bool one_host = meeting->kind == ENDPOINT_UNIX && !settings->values.host;
    bool tcp_first = strncmp(transports, "tcp", 3) == 0;
    if (tcp && (tcp_first || !one_host))
        return listen_tcp(listeners, settings, meeting, rendezvous_fd, error);
    return TUTTI_OK;
}

void listeners_close(struct listeners *listeners)
{
    for (int i = 0; i < listeners->count; i++)
        descriptor_close(listeners->fd[i]);
    listeners->count = 0;
}
