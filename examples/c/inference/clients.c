#include "clients.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define REASON_MAX 1200

static size_t input_bytes(const struct clients *clients)
{
    return clients->hello.width * sizeof(float);
}

/* ---- The socket ---------------------------------------------------------------------------------- */

/* A socket that a server left behind when it was killed; never anything else that has that name. */
static bool is_abandoned(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) < 0 || !S_ISSOCK(status.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool refused =
        connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

int clients_open(struct clients *clients, const char *path, const struct hello *hello, char error[256])
{
    *clients = (struct clients){.hello = *hello, .address.sun_family = AF_UNIX, .listener = -1};
    if (strlen(path) >= sizeof clients->address.sun_path) {
        snprintf(error, 256,
                 "the path of the socket has %zu bytes, and %zu is the most: choose a shorter one",
                 strlen(path), sizeof clients->address.sun_path - 1);
        return -1;
    }
    strcpy(clients->address.sun_path, path);
    const struct sockaddr *address = (const struct sockaddr *)&clients->address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int status = bind(fd, address, sizeof clients->address);
    if (status < 0 && errno == EADDRINUSE) {
        if (is_abandoned(&clients->address))
            unlink(path);
        status = bind(fd, address, sizeof clients->address);
    }
    if (status < 0 || listen(fd, CLIENTS_MAX) < 0) {
        snprintf(error, 256, "cannot listen at %s: %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    clients->listener = fd;
    return 0;
}

/* ---- One client ---------------------------------------------------------------------------------- */

static void drop(struct client *client)
{
    close(client->fd);
    free(client->input);
    free(client->output);
    *client = (struct client){.state = CLIENT_NONE, .fd = -1};
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static void write_on(struct client *client)
{
    ssize_t sent = send(client->fd, client->output + client->output_done,
                        client->output_bytes - client->output_done, MSG_NOSIGNAL);
    if (sent < 0) {
        if (!would_block())
            drop(client);
        return;
    }
    client->output_done += (size_t)sent;
    if (client->output_done == client->output_bytes) {
        client->state = CLIENT_READING;
        client->input_done = 0;
    }
}

static void read_on(struct clients *clients, struct client *client)
{
    size_t bytes = input_bytes(clients);
    ssize_t got =
        recv(client->fd, (uint8_t *)client->input + client->input_done, bytes - client->input_done, 0);
    if (got <= 0) {
        if (got == 0 || !would_block())
            drop(client);
        return;
    }
    client->input_done += (size_t)got;
    if (client->input_done == bytes) {
        client->state = CLIENT_READY;
        client->ticket = ++clients->tickets;
    }
}

/* Sends what it can at once; clients_serve() the rest. */
static void write_all(struct client *client, const void *head, size_t head_bytes, const void *body,
                      size_t body_bytes)
{
    memcpy(client->output, head, head_bytes);
    if (body_bytes > 0)
        memcpy(client->output + head_bytes, body, body_bytes);
    client->output_bytes = head_bytes + body_bytes;
    client->output_done = 0;
    client->state = CLIENT_WRITING;
    write_on(client);
}

static void accept_one(struct clients *clients)
{
    struct client *client = clients->all;
    while (client < clients->all + CLIENTS_MAX && client->state != CLIENT_NONE)
        client++;
    int fd = accept4(clients->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    size_t output_max = sizeof(struct reply) + input_bytes(clients) + REASON_MAX;
    *client = (struct client){.fd = fd, .input = malloc(input_bytes(clients)), .output = malloc(output_max)};
    if (client->input && client->output)
        write_all(client, &clients->hello, sizeof clients->hello, NULL, 0);
    else
        drop(client);
}

/* ---- All ----------------------------------------------------------------------------------------- */

void clients_poll(const struct clients *clients, struct pollfd *fds)
{
    bool room = false;
    for (int i = 0; i < CLIENTS_MAX; i++) {
        const struct client *client = &clients->all[i];
        /* Without events poll() still tells that a client has left. */
        fds[i] = (struct pollfd){.fd = client->fd};
        if (client->state == CLIENT_NONE) {
            fds[i].fd = -1;
            room = true;
        } else if (client->state == CLIENT_WRITING) {
            fds[i].events = POLLOUT;
        } else if (client->state == CLIENT_READING) {
            fds[i].events = POLLIN;
        }
    }
    fds[CLIENTS_MAX] = (struct pollfd){.fd = room ? clients->listener : -1, .events = POLLIN};
}

void clients_serve(struct clients *clients, const struct pollfd *fds)
{
    for (int i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &clients->all[i];
        if (fds[i].revents == 0 || client->fd != fds[i].fd)
            continue;
        if (client->state == CLIENT_WRITING) {
            write_on(client);
        } else if (client->state == CLIENT_READING) {
            read_on(clients, client);
        } else if (client->state == CLIENT_READY) {
            drop(client);
        } else { /* the answer comes and finds nobody */
            close(client->fd);
            client->fd = -1;
        }
    }
    if (fds[CLIENTS_MAX].revents != 0)
        accept_one(clients);
}

struct client *clients_next(struct clients *clients)
{
    struct client *next = NULL;
    for (struct client *client = clients->all; client < clients->all + CLIENTS_MAX; client++)
        if (client->state == CLIENT_READY && (!next || client->ticket < next->ticket))
            next = client;
    if (next)
        next->state = CLIENT_COMPUTING;
    return next;
}

void clients_answer(struct clients *clients, struct client *client, const float *answer)
{
    struct reply reply = {.bytes = (uint32_t)input_bytes(clients)};
    if (client->fd >= 0)
        write_all(client, &reply, sizeof reply, answer, reply.bytes);
    else
        drop(client);
}

void clients_close(struct clients *clients, const char *reason)
{
    for (struct client *client = clients->all; client < clients->all + CLIENTS_MAX; client++) {
        bool midway =
            client->state == CLIENT_WRITING; /* a sentence would be taken for the rest of an answer */
        if (client->state != CLIENT_NONE && !midway && client->fd >= 0) {
            struct reply reply = {.failed = 1, .bytes = (uint32_t)strnlen(reason, REASON_MAX)};
            write_all(client, &reply, sizeof reply, reason, reply.bytes);
        }
        if (client->state != CLIENT_NONE)
            drop(client);
    }
    if (clients->listener >= 0) {
        close(clients->listener);
        unlink(clients->address.sun_path);
    }
}
