#include "engine/colocation_talk.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/mesh.h"
#include "transport/descriptor.h"

/* What the leader has of each member: the dial until that has ended, then the connection. */
struct seat {
    struct colocation *colocation;
    struct neighbour peer;
    struct dial *dial; /* on the worker's thread */
    bool dialled;      /* under the lock, like what follows */
    bool is_unix;
    int fd;                 /* -1: none */
    struct tutti_error why; /* of a dial that failed, or that found no Unix socket */
};

/* ---- The leader: dialling ---------------------------------------------------------------------- */

static int on_check(void *context, const struct hello *answer, struct tutti_error *error)
{
    const struct seat *seat = context;
    return place_check_answer_of(&seat->colocation->comm->place, &seat->peer, answer, error);
}

static void on_dialled(void *context, int fd, bool is_unix, const struct tutti_error *why)
{
    struct seat *seat = context;
    tutti_comm *comm = seat->colocation->comm;
    pthread_mutex_lock(&comm->lock);
    seat->fd = fd;
    seat->is_unix = is_unix;
    if (why)
        seat->why = *why;
    seat->dialled = true;
    pthread_cond_broadcast(&comm->changed);
    pthread_mutex_unlock(&comm->lock);
    dial_stop(seat->dial);
    seat->dial = NULL;
}

/* The Unix socket first, and TCP where that cannot be had: to say that there will be no shared memory. */
static void dial_member(struct seat *seat)
{
    tutti_comm *comm = seat->colocation->comm;
    const struct roster_member *member = comm_member(comm, seat->peer.rank);
    struct connector_targets targets = {.count = 0};
    size_t count = (size_t)member->address_count;
    connector_add_list(&targets, "uds", member->addresses, count, true);
    if (setting_list_holds(comm->settings.values.transports, "tcp"))
        connector_add_list(&targets, "tcp", member->addresses, count, true);
    const struct dial_options options = {
        .loop = worker_loop(comm->worker),
        .targets = &targets,
        .hello = place_hello(&comm->place, HELLO_ARENA, seat->peer.rank),
        .peer_text = seat->peer.text,
        .what = "shared memory",
        .log = &comm->log,
        .give_up_ms = comm->settings.values.join_timeout_ms,
        .may_be_early = true,
        .check = on_check,
        .done = on_dialled,
        .context = seat,
    };
    seat->dial = targets.count > 0 ? dial_start(&options) : NULL;
    if (!seat->dial) {
        struct tutti_error why;
        error_set(&why, TUTTI_ERR_UNREACHABLE, "%s", targets.count > 0 ? "no memory" : "it listens nowhere");
        on_dialled(seat, -1, false, &why);
    }
}

static void dial_members(void *context)
{
    struct colocation *colocation = context;
    for (int i = 1; i < colocation->count; i++)
        dial_member(&colocation->seats[i]);
}

static void stop_dials(void *context)
{
    struct colocation *colocation = context;
    for (int i = 1; i < colocation->count; i++)
        dial_stop(colocation->seats[i].dial); /* it has ended, or is given up */
}

/* The first whose dial has not ended; -1: none.  With the lock. */
static int first_not_dialled(const struct colocation *colocation)
{
    for (int i = 1; i < colocation->count; i++)
        if (!colocation->seats[i].dialled)
            return i;
    return -1;
}

/* Connects to all; whoever cannot be reached at all cannot be told either, which is the end. */
static int reach_members(struct colocation *colocation, struct tutti_error *error)
{
    tutti_comm *comm = colocation->comm;
    worker_call(comm->worker, dial_members, colocation);
    pthread_mutex_lock(&comm->lock);
    while (first_not_dialled(colocation) >= 0 && !comm_has_failed(comm) &&
           clock_now_ns() < colocation->until_ns)
        comm_wait_changed(comm, colocation->until_ns);
    int missing = first_not_dialled(colocation);
    pthread_mutex_unlock(&comm->lock);
    worker_call(comm->worker, stop_dials, colocation);
    if (comm_has_failed(comm))
        return colocation_failure(comm, error);
    if (missing >= 0)
        return colocation_explain(colocation, missing, TUTTI_ERR_TIMEOUT, NULL, error);
    for (int i = 1; i < colocation->count; i++) {
        const struct seat *seat = &colocation->seats[i];
        if (seat->fd < 0) {
            error_set(error, TUTTI_ERR_UNREACHABLE,
                      "cannot connect to %s, with which this rank is to agree on shared memory (%.500s)",
                      seat->peer.text, seat->why.message);
            error->rank = colocation->names[i];
            return error->code;
        }
        if (!seat->is_unix) {
            char why[256];
            snprintf(why, sizeof why, "its Unix socket could not be used (%.200s)", seat->why.message);
            colocation_give_up(colocation, i, why);
        }
    }
    return TUTTI_OK;
}

/* ---- The leader: agreeing ------------------------------------------------------------------------ */

static int send_to(struct colocation *colocation, int index, int kind, const struct arena_piece *pieces,
                   int count, struct tutti_error *error)
{
    struct arena_message message = colocation_message(colocation, kind);
    struct arena_line line = colocation_line(colocation, colocation->seats[index].fd);
    struct tutti_error why;
    int status = arena_message_send(&line, &message, pieces, count, &why);
    return status == TUTTI_OK ? status : colocation_explain(colocation, index, status, &why, error);
}

/* A message of that kind, and what comes with it. */
static int receive_from(struct colocation *colocation, int index, int kind, struct tutti_error *error)
{
    struct arena_piece pieces[2];
    struct arena_message message;
    struct arena_line line = colocation_line(colocation, colocation->seats[index].fd);
    struct tutti_error why;
    int status = arena_message_receive(&line, kind, &message, pieces, 2, &why);
    if (status < 0)
        return colocation_explain(colocation, index, status, &why, error);
    for (uint32_t i = 0; i < message.items; i++)
        colocation_keep_piece(colocation, &pieces[i], index);
    if (!message.agrees)
        colocation_give_up(colocation, -1, message.why);
    else if (message.nonce != colocation->nonce || message.count != (uint32_t)colocation->count)
        colocation_give_up(colocation, index, "it answers as if it had other shared memory");
    return TUTTI_OK;
}

/* The descriptors of all but the member that is to have them; how many. */
static int gather_pieces(const struct colocation *colocation, int member, struct arena_piece *pieces)
{
    int count = 0;
    for (int i = 0; i < 2 * colocation->count; i++)
        if (i / 2 != member && colocation->pieces[i].fd >= 0)
            pieces[count++] = colocation->pieces[i];
    return count;
}

/* One member after another: the kernel bounds how many descriptors may be under way. */
static int furnish_members(struct colocation *colocation, struct tutti_error *error)
{
    struct arena_piece *pieces = malloc(2 * (size_t)colocation->count * sizeof *pieces);
    int status = TUTTI_OK;
    if (!pieces)
        colocation_give_up(colocation, COLOCATION_LEADER, "no memory");
    for (int i = 1; i < colocation->count && status == TUTTI_OK && !colocation->fails; i++) {
        status = send_to(colocation, i, ARENA_FURNISH, pieces, gather_pieces(colocation, i, pieces), error);
        if (status == TUTTI_OK && !colocation->fails)
            status = receive_from(colocation, i, ARENA_READY, error);
    }
    free(pieces);
    return status;
}

static int give_verdict(struct colocation *colocation, int index, struct tutti_error *error)
{
    struct arena_message verdict = colocation_message(colocation, ARENA_VERDICT);
    struct arena_line line = colocation_line(colocation, colocation->seats[index].fd);
    struct tutti_error why;
    int status = arena_message_send(&line, &verdict, NULL, 0, &why);
    if (status == TUTTI_OK || colocation->fails) /* who does not hear a no knows it already */
        return TUTTI_OK;
    return colocation_explain(colocation, index, status, &why, error);
}

/* Happy path: as colocation.h has it.  A trouble of any rank becomes the verdict for all; only a failure of
 * the group, a rank that is late and one that cannot be told are errors. */
static int agree(struct colocation *colocation, struct tutti_error *error)
{
    int count = colocation->count, status = reach_members(colocation, error);
    if (status == TUTTI_OK && !colocation->fails)
        colocation_make_memory(colocation);
    if (status == TUTTI_OK && !colocation->fails)
        colocation_make_own_pieces(colocation);
    const struct arena_piece memory = {{ARENA_MEMORY, COLOCATION_LEADER}, colocation->memory_fd};
    for (int i = 1; i < count && status == TUTTI_OK && !colocation->fails; i++)
        status = send_to(colocation, i, ARENA_OFFER, &memory, 1, error);
    for (int i = 1; i < count && status == TUTTI_OK && !colocation->fails; i++)
        status = receive_from(colocation, i, ARENA_ANSWER, error);
    if (status == TUTTI_OK && !colocation->fails)
        status = furnish_members(colocation, error);
    if (status == TUTTI_OK && !colocation->fails)
        colocation_make_arena(colocation);
    for (int i = 1; i < count && status == TUTTI_OK; i++)
        status = give_verdict(colocation, i, error);
    return status;
}

int colocation_lead(struct colocation *colocation, struct tutti_error *error)
{
    colocation->seats = calloc((size_t)colocation->count, sizeof *colocation->seats);
    if (!colocation->seats)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for the ranks of this host");
    for (int i = 1; i < colocation->count; i++)
        colocation->seats[i] = (struct seat){
            .colocation = colocation,
            .peer = mesh_neighbour(colocation->comm, colocation->ranks[i]),
            .fd = -1,
        };
    int status = agree(colocation, error);
    for (int i = 1; i < colocation->count; i++)
        if (colocation->seats[i].fd >= 0)
            descriptor_close(colocation->seats[i].fd);
    free(colocation->seats);
    colocation->seats = NULL;
    return status;
}
