/* Shared memory without names: a memfd, sealed, passed over a Unix socket.  Nothing in /dev/shm, nothing left
 * behind by a crash.  What only Linux has is in shared_memory.c. */
#ifndef TUTTI_TRANSPORT_SHARED_MEMORY_H
#define TUTTI_TRANSPORT_SHARED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include "tutti/tutti.h"

/* A memfd of `bytes` (0: it will grow), all zero, its memory reserved so that touching it cannot fail, sealed
 * against shrinking and, unless `grows`, growing.  The descriptor (close-on-exec, noted in descriptor.h), or
 * a negative status with a sentence: TUTTI_ERR_MEMORY or TUTTI_ERR_SYSTEM. */
int shared_memory_create(size_t bytes, bool grows, struct tutti_error *error);

/* Reserves a part of it, all zero unless it was reserved before, and makes it longer where that ends beyond
 * it. `offset` is a multiple of the page size; different threads may reserve different parts at once.
 * TUTTI_OK, or a negative status with a sentence, when nothing of the part is reserved. */
int shared_memory_reserve(int fd, size_t offset, size_t bytes, struct tutti_error *error);

/* Gives the memory of a part back to the kernel; the file stays as long as it is, with zeros there. */
void shared_memory_release(int fd, size_t offset, size_t bytes);

/* Is it sealed against shrinking, and that long?  Then a mapping of that part cannot kill this process. */
bool shared_memory_holds(int fd, size_t offset, size_t bytes);

/* Maps a part of it, with huge pages where the kernel gives them; refuses memory that does not
 * hold it.  `offset` is a multiple of the page size.  NULL with a sentence. */
void *shared_memory_map(int fd, size_t offset, size_t bytes, bool writable, struct tutti_error *error);
void shared_memory_unmap(void *memory, size_t bytes);

#define DESCRIPTORS_PASSED_MAX 200 /* in one message; the kernel takes 253 */

/* Sends `bytes` with descriptors beside them in one message; the latter stay the caller's.  The socket may be
 * non-blocking.  TUTTI_OK, TUTTI_PENDING (no room now: nothing was sent), or minus an errno. */
int descriptors_send(int socket_fd, const void *bytes, size_t size, const int *fds, int count);

/* Receives exactly one message of `size` bytes that descriptors_send() sent, with exactly `count`
 * descriptors, which become the caller's (close-on-exec, noted).  TUTTI_OK, TUTTI_PENDING, or minus an errno:
 * -EPROTO when it was another message (what came with it is closed), -ECONNRESET at the end of the stream. */
int descriptors_receive(int socket_fd, void *bytes, size_t size, int *fds, int count);

#endif
