#include "engine/serving.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/error.h"
#include "transport/descriptor.h"
#include "transport/interface.h"
#include "transport/socket.h"

static int serve_on(tutti_comm *comm, const int *fds, int count, struct tutti_error *error)
{
    comm->ring.service =
        rendezvous_service_new(worker_loop(comm->worker), fds, count, true, &comm->log, error);
    return comm->ring.service ? TUTTI_OK : error->code;
}

/* The addresses that the rendezvous name resolves to, as far as they are ours.  Somebody else's, or a port
 * that is taken: then another process serves. */
static int serve_tcp(tutti_comm *comm, const struct connector_targets *resolved, struct tutti_error *error)
{
    int fds[CONNECTOR_TARGETS_MAX], count = 0, status = TUTTI_OK;
    for (int i = 0; i < resolved->count; i++) {
        struct sockaddr_storage address = resolved->list[i].address;
        /* A host's own name often resolves to 127.0.1.1 there: others could not reach that. */
        if (address_is_loopback((struct sockaddr *)&address) &&
            !name_is_loopback(comm->launch.rendezvous.name)) {
            if (address.ss_family == AF_INET6)
                ((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_any;
            else
                ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_ANY);
        }
        int fd = socket_listen_tcp(&address, 0, 0, error);
        if (fd >= 0)
            fds[count++] = fd;
        else if (fd != TUTTI_ERR_REFUSED && fd != TUTTI_ERR_UNREACHABLE)
            status = fd;
    }
    return count > 0 ? serve_on(comm, fds, count, error) : status;
}

/* So that only our own file is removed in the end, and not one that a later group put in its place. */
static void remember_path(tutti_comm *comm, const char *path)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return;
    snprintf(comm->ring.meeting_path, sizeof comm->ring.meeting_path, "%s", path);
    comm->ring.meeting_device = status.st_dev;
    comm->ring.meeting_inode = status.st_ino;
}

void serving_remove_path(tutti_comm *comm)
{
    const struct comm_ring *ring = &comm->ring;
    struct stat status;
    if (ring->meeting_path[0] != '\0' && stat(ring->meeting_path, &status) == 0 &&
        status.st_dev == ring->meeting_device && status.st_ino == ring->meeting_inode)
        unlink(ring->meeting_path);
}

static int serve_unix(tutti_comm *comm, const char *name, struct tutti_error *error)
{
    int fd = socket_listen_unix(name, error);
    if (fd == TUTTI_ERR_REFUSED)
        return TUTTI_OK;
    if (fd >= 0 && name[0] != '@')
        remember_path(comm, name);
    return fd < 0 ? fd : serve_on(comm, &fd, 1, error);
}

/* Listens on a free port of an address by which other hosts reach this one, where it has such; `text` says
 * where.  The descriptor, or a negative status. */
static int listen_anywhere(tutti_comm *comm, char *text, size_t text_size, struct tutti_error *error)
{
    struct sockaddr_storage address;
    int found = interface_addresses(comm->settings.values.interface, &address, 1, error);
    if (found < 1 && comm->settings.values.interface)
        return found;
    if (found < 1) {
        struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        memcpy(&address, &loopback, sizeof loopback);
    }
    int port_min, port_max;
    listeners_port_range(&comm->settings, &port_min, &port_max);
    int fd = socket_listen_tcp(&address, port_min, port_max, error);
    if (fd >= 0)
        socket_print((struct sockaddr *)&address, text, text_size);
    return fd;
}

/* Tells the others through the file, which appears whole or not at all. */
static int serve_file(tutti_comm *comm, const char *path, struct tutti_error *error)
{
    char text[128], temporary[300];
    int fd = listen_anywhere(comm, text, sizeof text, error);
    if (fd < 0)
        return fd;
    snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid());
    FILE *file = fopen(temporary, "we");
    bool written = file && fprintf(file, "%s\n", text) > 0;
    if (file && fclose(file) != 0)
        written = false;
    if (!written || rename(temporary, path) < 0) {
        int error_number = errno;
        descriptor_close(fd);
        unlink(temporary);
        return error_set_errno(error, error_number,
                               "rank 0 cannot write its address to the rendezvous file %s", path);
    }
    remember_path(comm, path);
    return serve_on(comm, &fd, 1, error);
}

/* Has the caller tell the others.  From then on this is a rendezvous like any other at a known address, which
 * a survivor may take over. */
static int serve_announced(tutti_comm *comm, struct tutti_error *error)
{
    struct launch *launch = &comm->launch;
    char text[128];
    int fd = listen_anywhere(comm, text, sizeof text, error);
    if (fd < 0)
        return fd;
    int status = endpoint_parse(text, &launch->rendezvous, error);
    int result = status < 0 ? 0 : launch->announce(launch->announce_context, text);
    if (result < 0)
        status = error_set(error, TUTTI_ERR_UNREACHABLE,
                           "rank 0 could not announce its address %s to the other ranks: the function given "
                           "as announce returned %d",
                           text, result);
    if (status < 0) {
        descriptor_close(fd);
        return status;
    }
    return serve_on(comm, &fd, 1, error);
}

int serve_rendezvous(tutti_comm *comm, const struct connector_targets *resolved, struct tutti_error *error)
{
    const struct endpoint *rendezvous = &comm->launch.rendezvous;
    switch (rendezvous->kind) {
    case ENDPOINT_UNIX:
        return serve_unix(comm, rendezvous->name, error);
    case ENDPOINT_FILE:
        return serve_file(comm, rendezvous->name, error);
    case ENDPOINT_NONE:
        return serve_announced(comm, error);
    default:
        return serve_tcp(comm, resolved, error);
    }
}
