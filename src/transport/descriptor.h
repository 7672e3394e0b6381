/* The descriptors of this process that are tutti's, so that a child of fork() can close its copies: a plain
 * close(), which neither shuts a connection down nor touches the parent's epoll.  Then the end of the parent
 * closes its connections at once, whatever children live on.  Any thread. */
#ifndef TUTTI_TRANSPORT_DESCRIPTOR_H
#define TUTTI_TRANSPORT_DESCRIPTOR_H

#include <sys/socket.h>

/* socket() of a stream, accept4() and eventfd(), non-blocking and close-on-exec; -1 and errno on failure. */
int descriptor_socket(int family);
int descriptor_accept(int listen_fd, struct sockaddr *address, socklen_t *length);
int descriptor_event(unsigned value);

/* Closes a descriptor, ours or not. */
void descriptor_close(int fd);

/* For what a library has opened for us and will close itself; `fd` -1 is ignored.  Forget before it closes.
 */
void descriptor_note(int fd);
void descriptor_forget(int fd);

#endif
