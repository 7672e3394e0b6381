/* The server's clients on rank 0: a Unix socket and its connections, none of which ever blocks. */
#ifndef INFERENCE_CLIENTS_H
#define INFERENCE_CLIENTS_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>
#include "messages.h"

#define CLIENTS_MAX 64 /* more have to wait until one leaves */

enum client_state {
    CLIENT_NONE,
    CLIENT_WRITING,   /* takes what it is sent, and will then send a request */
    CLIENT_READING,   /* sends a request */
    CLIENT_READY,     /* has sent one */
    CLIENT_COMPUTING, /* its request is being computed; `fd` is -1 when it has left meanwhile */
};

struct client {
    enum client_state state;
    int fd;
    uint64_t ticket; /* requests are computed in the order of their tickets */
    float *input;
    size_t input_done; /* bytes */
    uint8_t *output;
    size_t output_bytes, output_done;
};

struct clients {
    int listener;
    struct sockaddr_un address;
    struct hello hello;
    uint64_t tickets; /* given so far */
    struct client all[CLIENTS_MAX];
};

/* Listens at `path`, replacing a socket that nobody serves any more.  0, or -1 with a sentence in `error`. */
int clients_open(struct clients *clients, const char *path, const struct hello *hello, char error[256]);

/* Tells the clients why there will be no more answers, and removes the socket. */
void clients_close(struct clients *clients, const char *reason);

/* What poll() has to look at, CLIENTS_MAX + 1 entries; and what to do after it. */
void clients_poll(const struct clients *clients, struct pollfd *fds);
void clients_serve(struct clients *clients, const struct pollfd *fds);

/* The client that has waited longest; NULL when none has.  It is COMPUTING until it is answered. */
struct client *clients_next(struct clients *clients);
void clients_answer(struct clients *clients, struct client *client, const float *answer);

#endif
