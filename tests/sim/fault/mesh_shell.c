/* Links beyond the ring, as engine/mesh.c: opened by the one that sends, when it first has something to send,
 * and kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "tests/sim/fault/comm.h"
#include "tests/sim/fault/piped_link.h"

/* A dial that is under way. */
struct call_out {
    struct comm *comm;
    int channel, rank;
    struct neighbour peer;
    struct dialler dialler;
};

struct link *mesh_shell_make_link(struct comm *comm, struct end *end, int rank, int channel,
                                  const char *peer_text)
{
    struct link *link = piped_link_new(end, rank, peer_text, comm->sim->options.slice_bytes,
                                       &comm->process->failpoints, comm_drive, comm);
    link->channel = (uint16_t)channel;
    return link;
}

static void free_link(struct link **link)
{
    if (*link)
        (*link)->ops->free(*link);
    *link = NULL;
}

/* A peer that has tried again gave its earlier attempt up, which nothing has come through. */
static void install(struct comm *comm, int channel, int rank, bool out, struct end *end)
{
    struct channel *c = &comm->channels[channel];
    struct link **place = out ? &c->out[rank] : &c->in[rank];
    free_link(place);
    *place = mesh_shell_make_link(comm, end, rank, channel, comm->roster.members[rank].text);
    SAY(comm->sim, comm->process, "has a link %s rank %d, channel %d", out ? "to" : "from", rank, channel);
}

static void no_memory(struct comm *comm, int rank)
{
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_MEMORY, "no memory for the link to %s", comm->roster.members[rank].text);
    error.rank = comm->place.rank;
    comm_fail(comm, &error, true);
}

/* ---- To another rank --------------------------------------------------------------------------- */

static int on_check(void *context, const struct hello *answer, struct tutti_error *error)
{
    const struct call_out *out = context;
    return place_check_answer_of(&out->comm->place, &out->peer, answer, error);
}

static void on_dialled(void *context, struct end *end, const struct tutti_error *why)
{
    struct call_out *out = context;
    struct comm *comm = out->comm;
    struct tutti_error error;
    comm->channels[out->channel].dials[out->rank] = NULL;
    if (end) {
        install(comm, out->channel, out->rank, true, end);
    } else {
        error_set(&error, TUTTI_ERR_UNREACHABLE, "cannot connect to %s, to which a link is needed (%.500s)",
                  out->peer.text, why->message);
        error.rank = out->rank;
        comm_fail(comm, &error, true);
    }
    free(out);
}

static void dial(struct comm *comm, int channel, int rank)
{
    static const struct dialler_events events = {on_check, on_dialled};
    const struct roster_member *member = &comm->roster.members[rank];
    struct call_out *out = malloc(sizeof *out);
    if (!out) {
        no_memory(comm, rank);
        return;
    }
    *out = (struct call_out){.comm = comm, .channel = channel, .rank = rank, .peer = {.rank = rank}};
    memcpy(out->peer.member_id, member->member_id, MEMBER_ID_BYTES);
    snprintf(out->peer.text, sizeof out->peer.text, "%s", member->text);
    struct dialler *dialler = &out->dialler;
    dialler->comm = comm;
    dialler->events = &events;
    dialler->context = out;
    dialler->hello = place_hello(&comm->place, HELLO_DATA, rank);
    dialler->hello.channel = (uint16_t)channel;
    dialler->address = atoi(member->addresses[0] + strlen("unix:@"));
    dialler->give_up_ms = comm->sim->options.join_timeout_ms;
    comm->channels[channel].dials[rank] = out;
    dialler_start(dialler);
}

static void dial_wanted(void *context)
{
    struct comm *comm = context;
    for (int index = 0; index < CHANNELS && !comm->failed; index++) {
        struct channel *channel = &comm->channels[index];
        for (int rank = 0; rank < comm->place.size; rank++) {
            bool wanted = channel->wanted[rank] && !channel->dialled[rank];
            channel->dialled[rank] = channel->wanted[rank];
            if (wanted)
                dial(comm, index, rank);
        }
    }
}

void mesh_shell_want(struct comm *comm, int channel, int rank)
{
    bool *wanted = &comm->channels[channel].wanted[rank];
    if (*wanted || rank == comm->place.rank)
        return;
    *wanted = true;
    event_set(&comm->sim->network, &comm->mesh_task, comm->node, 0, dial_wanted, comm);
}

void mesh_shell_want_for(struct comm *comm, const struct schedule *schedule)
{
    for (int i = 0; i < schedule->count; i++)
        if (step_sends(&schedule->steps[i]))
            mesh_shell_want(comm, CHANNEL_COLLECTIVES, schedule->steps[i].to);
}

/* ---- From other ranks -------------------------------------------------------------------------- */

static bool is_of_group(const struct comm *comm, const struct hello *hello)
{
    return hello->instance == comm->place.instance && hello->generation == comm->place.generation;
}

bool mesh_shell_is_for_later(const struct comm *comm, const struct hello *hello)
{
    bool of_ring =
        hello->channel == CHANNEL_COLLECTIVES && hello->from == (uint32_t)comm->place.previous.rank;
    return hello->role == HELLO_DATA && !of_ring && is_of_group(comm, hello);
}

static int on_judge(struct comm *comm, const struct hello *hello, struct hello *answer)
{
    *answer = place_hello(&comm->place, hello->role, (int)hello->from);
    if (!is_of_group(comm, hello))
        return HELLO_WRONG_GROUP;
    if (hello->role != HELLO_DATA || hello->channel >= CHANNELS)
        return HELLO_UNWANTED;
    if (!roster_is_complete(&comm->roster))
        return DOOR_NOT_YET;
    answer->channel = hello->channel;
    bool is_member =
        hello->from < (uint32_t)comm->place.size && hello->from != (uint32_t)comm->place.rank &&
        hello->to == (uint32_t)comm->place.rank &&
        memcmp(hello->member_id, comm->roster.members[hello->from].member_id, MEMBER_ID_BYTES) == 0;
    return is_member ? HELLO_ACCEPTED : HELLO_WRONG_RANK;
}

static void on_take(struct comm *comm, const struct hello *hello, struct end *end)
{
    install(comm, hello->channel, (int)hello->from, false, end);
}

void mesh_shell_take_door(struct comm *comm)
{
    static const struct door_events events = {on_judge, on_take};
    door_hand_over(comm, &events);
}

/* ---- The end ----------------------------------------------------------------------------------- */

void mesh_shell_stop(struct comm *comm)
{
    event_cancel(&comm->sim->network, &comm->mesh_task);
    for (int index = 0; index < CHANNELS; index++)
        for (int rank = 0; rank < RANKS_MAX; rank++) {
            struct call_out **out = &comm->channels[index].dials[rank];
            if (*out)
                dialler_stop(&(*out)->dialler);
            free(*out);
            *out = NULL;
        }
}

void mesh_shell_free(struct comm *comm)
{
    mesh_shell_stop(comm);
    for (int index = 0; index < CHANNELS; index++)
        for (int rank = 0; rank < RANKS_MAX; rank++) {
            free_link(&comm->channels[index].in[rank]);
            free_link(&comm->channels[index].out[rank]);
        }
}
