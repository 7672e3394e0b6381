/* Wiring: each rank connects a data and a control connection to the next rank of the ring, and accepts the
 * same two from the previous.  Both sides say hello (engine/dial.h, engine/door.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/crc32c.h"
#include "base/error.h"
#include "engine/comm.h"
#include "engine/mesh.h"
#include "transport/descriptor.h"

enum { DATA, CONTROL, ROLES };
static const uint8_t role_number[ROLES] = {HELLO_DATA, HELLO_CONTROL};
static const char *const role_name[ROLES] = {"data", "control"};

/* To the next rank. */
struct outgoing {
    struct wiring *wiring;
    int role;
    struct dial *dial; /* NULL once it is connected */
    int fd;
    bool is_unix;
    bool fell_back; /* from a Unix socket, because of `unix_why` */
    struct tutti_error unix_why;
};

struct wiring {
    tutti_comm *comm;
    wiring_done done;
    void *context;
    struct outgoing outgoing[ROLES];
    struct door *door;
    int accepted[ROLES]; /* from the previous rank; -1: not yet */
    bool accepted_unix[ROLES];
};

/* ---- Completion -------------------------------------------------------------------------------- */

/* The reason why the ring does not come about, to a neighbour that believes it does. */
static void send_abort(const tutti_comm *comm, int control_fd, const struct tutti_error *why)
{
    Wire__Abort body;
    Wire__Control message = WIRE__CONTROL__INIT;
    size_t size = 0;
    control_from_error(why, (uint32_t)comm->place.rank, &body);
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &body;
    uint8_t *payload = control_encode(&message, &size);
    uint8_t header[FRAME_HEADER_BYTES];
    if (!payload)
        return;
    struct frame frame = {.type = FRAME_CONTROL,
                          .flags = FRAME_HAS_PAYLOAD_CRC,
                          .generation = comm->place.generation,
                          .instance = comm->place.instance,
                          .length = (uint32_t)size,
                          .payload_crc = crc32c(0, payload, size)};
    frame_encode(&frame, header);
    if (send(control_fd, header, sizeof header, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof header)
        (void)!send(control_fd, payload, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    free(payload);
}

static void wiring_free(struct wiring *wiring)
{
    for (int role = 0; role < ROLES; role++) {
        struct outgoing *outgoing = &wiring->outgoing[role];
        dial_stop(outgoing->dial);
        if (outgoing->fd >= 0)
            descriptor_close(outgoing->fd);
        if (wiring->accepted[role] >= 0)
            descriptor_close(wiring->accepted[role]);
    }
    door_close(wiring->door);
    free(wiring);
}

void wiring_stop(struct wiring *wiring, const struct tutti_error *why)
{
    if (!wiring)
        return;
    const struct outgoing *control = &wiring->outgoing[CONTROL];
    int fd = control->dial ? dial_descriptor(control->dial) : control->fd;
    if (fd >= 0) /* answered or not: the next rank may have accepted our hello */
        send_abort(wiring->comm, fd, why);
    if (wiring->accepted[CONTROL] >= 0)
        send_abort(wiring->comm, wiring->accepted[CONTROL], why);
    wiring_free(wiring);
}

/* It does not come about. */
static void wiring_fail(struct wiring *wiring, const struct tutti_error *why)
{
    static const int none[2] = {-1, -1};
    wiring_done done = wiring->done;
    void *context = wiring->context;
    wiring_stop(wiring, why);
    done(context, none, why);
}

/* All four connections are there.  The door stays open, for the links beyond the ring. */
static void complete(struct wiring *wiring)
{
    tutti_comm *comm = wiring->comm;
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct outgoing *data = &wiring->outgoing[DATA], *control = &wiring->outgoing[CONTROL];
    struct link *out = mesh_make_link(comm, data->fd, data->is_unix, true, &comm->place.next);
    struct link *in = mesh_make_link(comm, wiring->accepted[DATA], wiring->accepted_unix[DATA], false,
                                     &comm->place.previous);
    struct channel *channel = &comm->channels[CHANNEL_COLLECTIVES];
    channel->out[comm->place.next.rank] = out;
    channel->wanted[comm->place.next.rank] = channel->dialled[comm->place.next.rank] = true;
    channel->in[comm->place.previous.rank] = in;
    int control_fds[2] = {control->fd, wiring->accepted[CONTROL]};
    data->fd = wiring->accepted[DATA] = -1; /* the links own them, also after a failure */
    if (!out || !in)
        error_set(&error, TUTTI_ERR_MEMORY, "no memory for the data links");
    else
        control->fd = wiring->accepted[CONTROL] = -1; /* the receiver's */
    if (data->fell_back)
        log_warning(&comm->log, "%s is on this host, but its Unix socket could not be used (%s): using TCP",
                    comm->place.next.text, data->unix_why.message);
    comm->door = wiring->door;
    wiring->door = NULL;
    mesh_take_door(comm);
    wiring_done done = wiring->done;
    void *context = wiring->context;
    wiring_free(wiring);
    done(context, control_fds, &error);
}

static void check_complete(struct wiring *wiring)
{
    for (int role = 0; role < ROLES; role++)
        if (wiring->outgoing[role].dial || wiring->accepted[role] < 0)
            return;
    complete(wiring);
}

void wiring_describe(const struct wiring *wiring, char *text, size_t size)
{
    const struct group_place *place = &wiring->comm->place;
    size_t used = 0;
    text[0] = '\0';
    for (int role = 0; role < ROLES && used < size; role++)
        if (wiring->outgoing[role].dial)
            used += (size_t)snprintf(text + used, size - used, "%sno %s connection to %s (%.200s)",
                                     used ? ", " : "", role_name[role], place->next.text,
                                     dial_why(wiring->outgoing[role].dial)->message);
    for (int role = 0; role < ROLES && used < size; role++)
        if (wiring->accepted[role] < 0)
            used += (size_t)snprintf(text + used, size - used, "%sno %s connection from %s", used ? ", " : "",
                                     role_name[role], place->previous.text);
}

int wiring_missing_rank(const struct wiring *wiring)
{
    bool next = wiring->outgoing[DATA].dial || wiring->outgoing[CONTROL].dial;
    return next ? wiring->comm->place.next.rank : wiring->comm->place.previous.rank;
}

/* ---- To the next rank -------------------------------------------------------------------------- */

static int on_check(void *context, const struct hello *answer, struct tutti_error *error)
{
    const struct outgoing *outgoing = context;
    return place_check_answer(&outgoing->wiring->comm->place, answer, error);
}

static void on_dialled(void *context, int fd, bool is_unix, const struct tutti_error *why)
{
    struct outgoing *outgoing = context;
    dial_stop(outgoing->dial);
    outgoing->dial = NULL;
    outgoing->fd = fd;
    outgoing->is_unix = is_unix;
    outgoing->fell_back = why != NULL;
    if (why)
        outgoing->unix_why = *why;
    check_complete(outgoing->wiring);
}

static bool dial_next(struct wiring *wiring, int role)
{
    tutti_comm *comm = wiring->comm;
    struct outgoing *outgoing = &wiring->outgoing[role];
    const struct dial_options options = {
        .loop = worker_loop(comm->worker),
        .targets = &comm->next_targets,
        .hello = place_hello(&comm->place, role_number[role], comm->place.next.rank),
        .peer_text = comm->place.next.text,
        .what = role_name[role],
        .log = &comm->log,
        .failpoints = &comm->failpoints,
        .check = on_check,
        .done = on_dialled,
        .context = outgoing,
    };
    outgoing->dial = dial_start(&options);
    return outgoing->dial != NULL;
}

/* ---- From the previous rank -------------------------------------------------------------------- */

/* Other ranks of this group come early for the links beyond the ring. */
static int on_judge(void *context, const struct hello *hello, struct hello *answer)
{
    struct wiring *wiring = context;
    const struct group_place *place = &wiring->comm->place;
    *answer = place_hello(place, hello->role, (int)hello->from);
    if (mesh_is_for_later(wiring->comm, hello))
        return DOOR_NOT_YET;
    return place_judge_hello(place, hello);
}

static void on_take(void *context, const struct hello *hello, int fd, bool is_unix)
{
    struct wiring *wiring = context;
    int role = hello->role == HELLO_DATA ? DATA : CONTROL;
    if (wiring->accepted[role] >= 0)
        descriptor_close(wiring->accepted[role]); /* the peer tried again: the earlier attempt is dead */
    wiring->accepted[role] = fd;
    wiring->accepted_unix[role] = is_unix;
    check_complete(wiring);
}

static void on_exhausted(void *context, int error_number)
{
    struct wiring *wiring = context;
    struct tutti_error error;
    error_set_errno(&error, error_number,
                    "rank %d cannot accept the connections of %s; raise the limit of descriptors (ulimit -n)",
                    wiring->comm->place.rank, wiring->comm->place.previous.text);
    error.rank = wiring->comm->place.rank;
    wiring_fail(wiring, &error);
}

struct wiring *wiring_start(tutti_comm *comm, wiring_done done, void *context)
{
    static const struct door_events events = {on_judge, on_take, on_exhausted};
    struct wiring *wiring = calloc(1, sizeof *wiring);
    if (!wiring)
        return NULL;
    wiring->comm = comm;
    wiring->done = done;
    wiring->context = context;
    for (int role = 0; role < ROLES; role++) {
        wiring->outgoing[role] = (struct outgoing){.wiring = wiring, .role = role, .fd = -1};
        wiring->accepted[role] = -1;
    }
    wiring->door = door_open(worker_loop(comm->worker), &comm->listeners, &comm->log, &comm->failpoints,
                             &events, wiring);
    if (wiring->door && dial_next(wiring, DATA) && dial_next(wiring, CONTROL))
        return wiring;
    wiring_free(wiring);
    return NULL;
}
