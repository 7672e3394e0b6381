#include "transport/socket.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/error.h"
#include "transport/descriptor.h"

/* Connections that wait to be accepted; the kernel lowers it to net.core.somaxconn. */
#define BACKLOG 4096

/* Two tries: a stale path is removed after the first. */
#define UNIX_BIND_TRIES 2

/* What the kernel refuses is left as it is: these options make things better, not possible. */
static void set_option(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

/* Control messages are small and waited for, and a dead host must show at some time. */
static void set_tcp_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

/* ---- Unix -------------------------------------------------------------------------------------- */

/* "@name" is the abstract namespace, which only Linux has: a leading zero byte, and no terminating one. */
static int unix_address(const char *name, struct sockaddr_un *address, socklen_t *length)
{
    size_t size = strlen(name);
    if (size == 0 || size > ENDPOINT_UNIX_PATH_MAX)
        return ENAMETOOLONG;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, name, size);
    if (name[0] == '@')
        address->sun_path[0] = '\0';
    *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (name[0] != '@'));
    return 0;
}

/* True when `path` is a socket file that nobody listens on: left behind by a process that was killed. */
static bool is_stale(const char *path)
{
    struct stat status;
    if (path[0] == '@' || lstat(path, &status) < 0 || !S_ISSOCK(status.st_mode))
        return false;
    int fd = socket_connect_unix(path);
    if (fd >= 0)
        descriptor_close(fd);
    return fd == -ECONNREFUSED;
}

static int bind_unix(int fd, const char *name)
{
    struct sockaddr_un address;
    socklen_t length;
    int error_number = unix_address(name, &address, &length);
    if (error_number != 0)
        return error_number;
    for (int i = 0; i < UNIX_BIND_TRIES; i++) {
        if (bind(fd, (struct sockaddr *)&address, length) == 0)
            return 0;
        error_number = errno;
        if (error_number != EADDRINUSE || !is_stale(name) || unlink(name) < 0)
            break;
    }
    return error_number;
}

int socket_listen_unix(const char *name, struct tutti_error *error)
{
    int fd = descriptor_socket(AF_UNIX);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot open a Unix socket");
    int error_number = bind_unix(fd, name);
    if (error_number == 0 && listen(fd, BACKLOG) < 0)
        error_number = errno;
    if (error_number == 0)
        return fd;
    descriptor_close(fd);
    if (error_number == EADDRINUSE)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "cannot listen on unix:%s: it is in use already; choose another name, or end the "
                         "process that listens there",
                         name);
    return error_set_errno(error, error_number, "cannot listen on unix:%s", name);
}

int socket_listen_unix_anywhere(char *name, size_t name_size, struct tutti_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int fd = descriptor_socket(AF_UNIX);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot open a Unix socket");
    /* Linux only: without a name, the kernel picks a free abstract one. */
    if (bind(fd, (struct sockaddr *)&address, sizeof address.sun_family) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
        int error_number = errno;
        descriptor_close(fd);
        return error_set_errno(error, error_number, "cannot listen on an abstract Unix socket");
    }
    int size = (int)(length - offsetof(struct sockaddr_un, sun_path)) - 1;
    assert(size > 0 && (size_t)size + 2 <= name_size);
    snprintf(name, name_size, "@%.*s", size, address.sun_path + 1);
    return fd;
}

int socket_connect_unix(const char *name)
{
    struct sockaddr_un address;
    socklen_t length;
    int error_number = unix_address(name, &address, &length);
    if (error_number != 0)
        return -error_number;
    int fd = descriptor_socket(AF_UNIX);
    if (fd < 0)
        return -errno;
    /* Never under way: a full backlog is EAGAIN, and a new attempt is needed. */
    while (connect(fd, (struct sockaddr *)&address, length) < 0) {
        if (errno == EINTR)
            continue;
        error_number = errno;
        descriptor_close(fd);
        return -error_number;
    }
    return fd;
}

/* ---- TCP --------------------------------------------------------------------------------------- */

static in_port_t *port_of(struct sockaddr *address)
{
    return address->sa_family == AF_INET6 ? &((struct sockaddr_in6 *)address)->sin6_port
                                          : &((struct sockaddr_in *)address)->sin_port;
}

static socklen_t length_of(const struct sockaddr *address)
{
    return address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* The descriptor or minus an errno. */
static int listen_on(const struct sockaddr *address)
{
    int fd = descriptor_socket(address->sa_family);
    if (fd < 0)
        return -errno;
    /* A port whose last connections are in TIME_WAIT may be bound again.  Two sockets that both ask for this
     * can bind one port: listen() then tells the second that it is taken. */
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (address->sa_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (bind(fd, address, length_of(address)) < 0 || listen(fd, BACKLOG) < 0) {
        int error_number = errno;
        descriptor_close(fd);
        return -error_number;
    }
    return fd;
}

static int listen_failed(int error_number, const struct sockaddr *address, int first, int last,
                         struct tutti_error *error)
{
    char text[128];
    socket_print(address, text, sizeof text);
    if (error_number == EADDRINUSE && first != last)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "cannot listen on %s: every port from %d to %d is taken; give a wider range", text,
                         first, last);
    if (error_number == EADDRINUSE)
        return error_set(error, TUTTI_ERR_REFUSED,
                         "cannot listen on %s: the port is taken; choose another one, or end the process "
                         "that listens there",
                         text);
    if (error_number == EADDRNOTAVAIL || error_number == EAFNOSUPPORT)
        return error_set(error, TUTTI_ERR_UNREACHABLE,
                         "cannot listen on %s: that is not an address of this host", text);
    return error_set_errno(error, error_number, "cannot listen on %s", text);
}

int socket_listen_tcp(struct sockaddr_storage *address, int port_min, int port_max, struct tutti_error *error)
{
    struct sockaddr *generic = (struct sockaddr *)address;
    assert(generic->sa_family == AF_INET || generic->sa_family == AF_INET6);
    assert(port_min >= 0 && port_min <= port_max && port_max <= UINT16_MAX);
    int asked = ntohs(*port_of(generic));
    int first = asked != 0 ? asked : port_min, last = asked != 0 ? asked : port_max;
    int fd = -EADDRINUSE;
    for (int port = first; port <= last && fd == -EADDRINUSE; port++) {
        *port_of(generic) = htons((uint16_t)port);
        fd = listen_on(generic);
    }
    if (fd < 0) {
        *port_of(generic) = htons((uint16_t)asked);
        return listen_failed(-fd, generic, first, last, error);
    }
    socklen_t length = sizeof *address;
    if (getsockname(fd, generic, &length) < 0) {
        int error_number = errno;
        descriptor_close(fd);
        return error_set_errno(error, error_number, "cannot tell the address of a listening socket");
    }
    return fd;
}

int socket_connect_tcp(const struct sockaddr *address, socklen_t length)
{
    int fd = descriptor_socket(address->sa_family);
    if (fd < 0)
        return -errno;
    set_tcp_options(fd);
    /* An interrupted connect() goes on by itself. */
    if (connect(fd, address, length) < 0 && errno != EINPROGRESS && errno != EINTR) {
        int error_number = errno;
        descriptor_close(fd);
        return -error_number;
    }
    return fd;
}

/* ---- Both -------------------------------------------------------------------------------------- */

/* A port of the ephemeral range on which nobody listens can, on the own host, be connected with itself. */
static bool is_connected_to_itself(const struct sockaddr_storage *peer, int fd)
{
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    memset(&own, 0, sizeof own);
    if (peer->ss_family == AF_UNIX || getsockname(fd, (struct sockaddr *)&own, &length) < 0)
        return false;
    return memcmp(&own, peer, sizeof own) == 0;
}

/* The process at the other end of a Unix connection, as it was when it connected or listened.  Linux only:
 * elsewhere this is getpeereid() or LOCAL_PEERCRED. */
static bool unix_peer(int fd, struct ucred *peer)
{
    socklen_t length = sizeof *peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &length) == 0;
}

/* Names in the abstract namespace have no permissions: both sides look who is at the other end. */
static bool unix_peer_is_trusted(int fd)
{
    struct ucred peer;
    return unix_peer(fd, &peer) && (peer.uid == geteuid() || peer.uid == 0);
}

int socket_connect_result(int fd)
{
    int error_number = 0;
    socklen_t length = sizeof error_number;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error_number, &length) < 0)
        return errno;
    if (error_number != 0)
        return error_number;
    struct sockaddr_storage peer;
    length = sizeof peer;
    memset(&peer, 0, sizeof peer);
    if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
        return errno == ENOTCONN ? EINPROGRESS : errno;
    if (peer.ss_family == AF_UNIX)
        return unix_peer_is_trusted(fd) ? 0 : EPERM;
    return is_connected_to_itself(&peer, fd) ? ECONNREFUSED : 0;
}

int socket_accept(int listen_fd)
{
    struct sockaddr_storage address;
    socklen_t length;
    int fd;
    do {
        length = sizeof address;
        fd = descriptor_accept(listen_fd, (struct sockaddr *)&address, &length);
        /* EPROTO and ECONNABORTED: the one that waited has gone; there may be another. */
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EPROTO));
    if (fd < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    if (address.ss_family != AF_UNIX) {
        set_tcp_options(fd);
        return fd;
    }
    if (unix_peer_is_trusted(fd))
        return fd;
    descriptor_close(fd);
    return -EPERM;
}

const char *socket_print(const struct sockaddr *address, char *text, size_t text_size)
{
    char host[INET6_ADDRSTRLEN + 32]; /* with "%" and the name of an interface */
    struct sockaddr_in mapped = {.sin_family = AF_INET};
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
            memcpy(&mapped.sin_addr, v6->sin6_addr.s6_addr + 12, sizeof mapped.sin_addr);
            mapped.sin_port = v6->sin6_port;
            address = (const struct sockaddr *)&mapped;
        }
    } else if (address->sa_family != AF_INET) {
        snprintf(text, text_size, "a socket of family %d", address->sa_family);
        return text;
    }
    bool is_v6 = address->sa_family == AF_INET6;
    in_port_t port = is_v6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                           : ((const struct sockaddr_in *)address)->sin_port;
    if (getnameinfo(address, length_of(address), host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0)
        snprintf(host, sizeof host, "?");
    snprintf(text, text_size, is_v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)ntohs(port));
    return text;
}

const char *socket_print_peer(int fd, char *text, size_t text_size)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    struct ucred peer;
    if (getpeername(fd, (struct sockaddr *)&address, &length) < 0)
        snprintf(text, text_size, "a peer that has gone");
    else if (address.ss_family != AF_UNIX)
        socket_print((const struct sockaddr *)&address, text, text_size);
    else if (unix_peer(fd, &peer))
        snprintf(text, text_size, "process %ld", (long)peer.pid);
    else
        snprintf(text, text_size, "a process of this host");
    return text;
}
