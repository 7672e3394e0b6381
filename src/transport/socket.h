/* Stream sockets, Unix and TCP alike: listening, connecting, options.  Everything is non-blocking and
 * close-on-exec. */
#ifndef TUTTI_TRANSPORT_SOCKET_H
#define TUTTI_TRANSPORT_SOCKET_H

#include <stdbool.h>
#include <sys/socket.h>
#include "group/endpoint.h"

/* A listening socket on a Unix path or abstract name.  A stale path (nobody listens) is replaced.  The
 * descriptor, or a negative status; TUTTI_ERR_REFUSED when somebody listens there already. */
int socket_listen_unix(const char *name, struct tutti_error *error);

/* A listening socket on a fresh abstract name that the kernel picks; `name` ("@...", hexadecimal) is where.
 */
int socket_listen_unix_anywhere(char *name, size_t name_size, struct tutti_error *error);

/* A listening TCP socket on a numeric address; port 0: any within [port_min, port_max], or any at all when
 * both are 0. `address` becomes the bound one.  TUTTI_ERR_REFUSED when the port is taken,
 * TUTTI_ERR_UNREACHABLE when the address is not one of this host. */
int socket_listen_tcp(struct sockaddr_storage *address, int port_min, int port_max,
                      struct tutti_error *error);

/* Starts to connect.  The descriptor (the connection may still be under way: poll for writing, then
 * socket_connect_result()), or minus an errno. */
int socket_connect_unix(const char *name);
int socket_connect_tcp(const struct sockaddr *address, socklen_t length);
/* Also checks, on a Unix socket, that the same user (or root) listens: else EPERM. */
int socket_connect_result(int fd); /* 0 or an errno */

/* Accepts one connection: the descriptor, or minus an errno (-EAGAIN: none waits).  A Unix peer of another
 * user is closed and reported as -EPERM. */
int socket_accept(int listen_fd);

/* Numeric text of an address: "10.0.0.1:4711", "[::1]:4711". */
const char *socket_print(const struct sockaddr *address, char *text, size_t text_size);

/* Who is at the other end of a connection: "10.0.0.1:4711", or "process 4711" over a Unix socket. */
const char *socket_print_peer(int fd, char *text, size_t text_size);

#endif
