#include "engine/arena_messages.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include "base/error.h"
#include "engine/clock.h"
#include "transport/descriptor.h"
#include "transport/shared_memory.h"

#define MESSAGE_MAGIC   UINT64_C(0x414e455241545554) /* "TUTARENA" */
#define PARCEL_MAGIC    UINT64_C(0x4c43524150545554) /* "TUTPARCL" */
#define MESSAGE_VERSION 1u

struct parcel {
    uint64_t magic;
    struct arena_item items[DESCRIPTORS_PASSED_MAX];
};

/* ---- Waiting ----------------------------------------------------------------------------------- */

/* Until the connection is ready for `events`. */
static int await(const struct arena_line *line, short events, struct tutti_error *error)
{
    for (;;) {
        struct pollfd polls[2] = {{.fd = line->fd, .events = events},
                                  {.fd = line->doorbell, .events = POLLIN}};
        int64_t left_ns = line->until_ns - clock_now_ns();
        int left_ms = left_ns <= 0 ? 0 : (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS);
        int ready = poll(polls, 2, left_ms);
        if (ready < 0 && errno != EINTR)
            return error_set_errno(error, errno, "cannot wait for a connection");
        if (ready > 0) /* what was said before a rank went on, and failed, counts */
            return polls[0].revents ? TUTTI_OK : TUTTI_ERR_ABORTED;
        if (left_ns <= 0)
            return TUTTI_ERR_TIMEOUT;
    }
}

static int send_whole(const struct arena_line *line, const void *bytes, size_t size, const int *fds,
                      int count, struct tutti_error *error)
{
    for (;;) {
        int status = descriptors_send(line->fd, bytes, size, fds, count);
        if (status == TUTTI_OK)
            return status;
        if (status != TUTTI_PENDING)
            return error_set_errno(error, -status, "a message about shared memory could not be sent");
        status = await(line, POLLOUT, error);
        if (status < 0)
            return status;
    }
}

static int receive_whole(const struct arena_line *line, void *bytes, size_t size, int *fds, int count,
                         struct tutti_error *error)
{
    for (;;) {
        int status = await(line, POLLIN, error);
        if (status < 0)
            return status;
        status = descriptors_receive(line->fd, bytes, size, fds, count);
        if (status == TUTTI_OK)
            return status;
        if (status != TUTTI_PENDING)
            return error_set_errno(error, -status, "a message about shared memory could not be received");
    }
}

/* ---- Sending ----------------------------------------------------------------------------------- */

static int send_parcel(const struct arena_line *line, const struct arena_piece *pieces, int count,
                       struct tutti_error *error)
{
    int fds[DESCRIPTORS_PASSED_MAX];
    struct parcel parcel = {.magic = PARCEL_MAGIC};
    for (int i = 0; i < count; i++) {
        parcel.items[i] = pieces[i].item;
        fds[i] = pieces[i].fd;
    }
    return send_whole(line, &parcel, sizeof parcel, fds, count, error);
}

int arena_message_send(const struct arena_line *line, struct arena_message *message,
                       const struct arena_piece *pieces, int count, struct tutti_error *error)
{
    message->magic = MESSAGE_MAGIC;
    message->version = MESSAGE_VERSION;
    message->items = (uint32_t)count;
    int status = send_whole(line, message, sizeof *message, NULL, 0, error);
    for (int sent = 0, some; sent < count && status == TUTTI_OK; sent += some) {
        some = count - sent < DESCRIPTORS_PASSED_MAX ? count - sent : DESCRIPTORS_PASSED_MAX;
        status = send_parcel(line, pieces + sent, some, error);
    }
    return status;
}

/* ---- Receiving --------------------------------------------------------------------------------- */

static bool makes_sense(const struct arena_message *message, int kind, int max)
{
    bool is_verdict = message->kind == ARENA_VERDICT && message->items == 0;
    return message->magic == MESSAGE_MAGIC && message->version == MESSAGE_VERSION &&
           (message->kind == (uint32_t)kind || is_verdict) && message->items <= (uint32_t)max &&
           message->reserved == 0;
}

static int receive_parcel(const struct arena_line *line, struct arena_piece *pieces, int count,
                          struct tutti_error *error)
{
    int fds[DESCRIPTORS_PASSED_MAX];
    struct parcel parcel;
    int status = receive_whole(line, &parcel, sizeof parcel, fds, count, error);
    if (status < 0)
        return status;
    bool is_parcel = parcel.magic == PARCEL_MAGIC;
    for (int i = 0; i < count; i++)
        if (is_parcel)
            pieces[i] = (struct arena_piece){parcel.items[i], fds[i]};
        else
            descriptor_close(fds[i]);
    return is_parcel ? TUTTI_OK
                     : error_set(error, TUTTI_ERR_PROTOCOL, "descriptors were due and something else came");
}

int arena_message_receive(const struct arena_line *line, int kind, struct arena_message *message,
                          struct arena_piece *pieces, int max, struct tutti_error *error)
{
    int status = receive_whole(line, message, sizeof *message, NULL, 0, error), have = 0;
    message->why[sizeof message->why - 1] = '\0';
    if (status == TUTTI_OK && !makes_sense(message, kind, max))
        status = error_set(error, TUTTI_ERR_PROTOCOL,
                           "a message about shared memory makes no sense: install the same version of tutti "
                           "for every rank");
    int count = status == TUTTI_OK ? (int)message->items : 0;
    for (int some; have < count && status == TUTTI_OK; have += status == TUTTI_OK ? some : 0) {
        some = count - have < DESCRIPTORS_PASSED_MAX ? count - have : DESCRIPTORS_PASSED_MAX;
        status = receive_parcel(line, pieces + have, some, error);
    }
    while (status < 0 && have > 0)
        descriptor_close(pieces[--have].fd);
    message->items = (uint32_t)have;
    return status;
}
