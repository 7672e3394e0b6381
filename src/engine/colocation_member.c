#include "engine/colocation_talk.h"

#include <stdlib.h>
#include "base/error.h"
#include "engine/clock.h"

#define PATIENCE_NS (1000 * NS_PER_MS) /* beyond the leader's, which knows who is late */

/* ---- A member ---------------------------------------------------------------------------------- */

static int await_leader(struct colocation *colocation, struct tutti_error *error)
{
    tutti_comm *comm = colocation->comm;
    pthread_mutex_lock(&comm->lock);
    while (colocation->leader_fd < 0 && !comm_has_failed(comm) && clock_now_ns() < colocation->until_ns)
        comm_wait_changed(comm, colocation->until_ns);
    bool came = colocation->leader_fd >= 0;
    pthread_mutex_unlock(&comm->lock);
    if (comm_has_failed(comm))
        return colocation_failure(comm, error);
    return came ? TUTTI_OK
                : colocation_explain(colocation, COLOCATION_LEADER, TUTTI_ERR_TIMEOUT, NULL, error);
}

/* Tells the leader whether it can go on; no matter whether it hears that, since a no is sure either way. */
static int answer_leader(struct colocation *colocation, int kind, const struct arena_piece *pieces, int count,
                         struct tutti_error *error)
{
    struct arena_message message = colocation_message(colocation, kind);
    struct arena_line line = colocation_line(colocation, colocation->leader_fd);
    struct tutti_error why;
    int status = arena_message_send(&line, &message, pieces, colocation->fails ? 0 : count, &why);
    bool ends = status == TUTTI_ERR_ABORTED || status == TUTTI_ERR_TIMEOUT;
    return ends ? colocation_explain(colocation, COLOCATION_LEADER, status, &why, error) : TUTTI_OK;
}

/* What the leader says next; a verdict in its place is a no. */
static int hear_leader(struct colocation *colocation, int kind, struct arena_message *message,
                       struct arena_piece *pieces, int max, struct tutti_error *error)
{
    struct arena_line line = colocation_line(colocation, colocation->leader_fd);
    struct tutti_error why;
    int status = arena_message_receive(&line, kind, message, pieces, max, &why);
    if (status < 0)
        return colocation_explain(colocation, COLOCATION_LEADER, status, &why, error);
    if (!message->agrees)
        colocation_give_up(colocation, -1, message->why);
    else if (message->kind != (uint32_t)kind || message->count != (uint32_t)colocation->count)
        colocation_give_up(colocation, colocation->index,
                           "the leader of the host takes other ranks to be on it");
    return TUTTI_OK;
}

static int take_offer(struct colocation *colocation, struct tutti_error *error)
{
    struct arena_message message;
    struct arena_piece piece;
    int status = hear_leader(colocation, ARENA_OFFER, &message, &piece, 1, error), count = 0;
    if (status < 0)
        return status;
    if (message.items > 0)
        colocation->memory_fd = piece.fd;
    if (!colocation->fails)
        colocation_map_memory(colocation, message.nonce);
    if (!colocation->fails)
        count = colocation_make_own_pieces(colocation);
    return answer_leader(colocation, ARENA_ANSWER, &colocation->pieces[2 * colocation->index], count, error);
}

static int take_pieces(struct colocation *colocation, struct tutti_error *error)
{
    int max = 2 * colocation->count;
    struct arena_message message;
    struct arena_piece *pieces = malloc((size_t)max * sizeof *pieces);
    int status = TUTTI_OK;
    if (!pieces) {
        colocation_give_up(colocation, colocation->index, "no memory");
    } else {
        status = hear_leader(colocation, ARENA_FURNISH, &message, pieces, max, error);
        for (uint32_t i = 0; status == TUTTI_OK && i < message.items; i++)
            colocation_keep_piece(colocation, &pieces[i], -1);
    }
    free(pieces);
    if (status == TUTTI_OK && !colocation->fails)
        colocation_make_arena(colocation);
    return status == TUTTI_OK ? answer_leader(colocation, ARENA_READY, NULL, 0, error) : status;
}

int colocation_follow(struct colocation *colocation, struct tutti_error *error)
{
    struct arena_message message;
    colocation->until_ns += PATIENCE_NS;
    int status = await_leader(colocation, error);
    if (status == TUTTI_OK)
        status = take_offer(colocation, error);
    if (status == TUTTI_OK && !colocation->fails)
        status = take_pieces(colocation, error);
    if (status == TUTTI_OK && !colocation->fails)
        status = hear_leader(colocation, ARENA_VERDICT, &message, NULL, 0, error);
    return status;
}
