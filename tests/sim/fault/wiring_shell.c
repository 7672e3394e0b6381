/* Wiring, as engine/wiring.c does it: a data and a control connection to the next rank, the same two from the
 * previous one, and hellos on each of them. */
#include "base/error.h"
#include "tests/sim/fault/comm.h"
#include "tests/sim/fault/piped_link.h"

static const uint8_t role_number[ROLES] = {HELLO_DATA, HELLO_CONTROL};

static void drop_end(struct end **end)
{
    if (*end)
        end_close(*end);
    *end = NULL;
}

/* ---- The end ------------------------------------------------------------------------------------- */

void wiring_shell_tell(struct comm *comm, struct control_stream *stream, const struct tutti_error *why,
                       bool of_group)
{
    Wire__Abort body;
    Wire__Control message = WIRE__CONTROL__INIT;
    control_from_error(why, (uint32_t)comm->place.rank, &body);
    body.instance = comm->place.instance;
    body.generation = comm->place.generation;
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &body;
    struct frame group = {.instance = comm->place.instance, .generation = comm->place.generation};
    control_stream_send(stream, of_group ? &group : NULL, &message);
}

static void ignore_frame(void *context, struct control_stream *stream, const struct frame *frame,
                         const uint8_t *payload)
{
    (void)context, (void)stream, (void)frame, (void)payload;
}

static void ignore_closed(void *context, struct control_stream *stream, const struct tutti_error *why)
{
    (void)context, (void)stream, (void)why;
}

/* The reason why the ring does not come about, to a neighbour that believes it does. */
static void tell_neighbour(struct comm *comm, struct end **end, const struct tutti_error *why)
{
    static const struct control_events deaf = {ignore_frame, ignore_closed};
    if (!*end)
        return;
    struct control_stream *stream = control_stream_new(&comm->sim->network, *end, &deaf, NULL);
    *end = NULL;
    wiring_shell_tell(comm, stream, why, true);
    control_stream_close(stream, true);
}

void wiring_shell_stop(struct comm *comm, const struct tutti_error *why)
{
    struct joining *j = &comm->joining;
    if (why->code < 0) {
        /* Also where the answer to our hello is still under way: the next rank may have its ring already. */
        struct outgoing *control = &j->outgoing[CONTROL];
        tell_neighbour(comm, control->dialler.end ? &control->dialler.end : &control->end, why);
        tell_neighbour(comm, &j->accepted[CONTROL], why);
    }
    for (int role = 0; role < ROLES; role++) {
        dialler_stop(&j->outgoing[role].dialler);
        drop_end(&j->outgoing[role].end);
        drop_end(&j->accepted[role]);
    }
}

/* ---- To the next rank -------------------------------------------------------------------------- */

static void wiring_complete(struct comm *comm);

static void check_complete(struct comm *comm)
{
    for (int role = 0; role < ROLES; role++)
        if (!comm->joining.outgoing[role].end || !comm->joining.accepted[role])
            return;
    wiring_complete(comm);
}

static int on_check(void *context, const struct hello *answer, struct tutti_error *error)
{
    const struct outgoing *outgoing = context;
    return place_check_answer(&outgoing->comm->place, answer, error);
}

static void on_dialled(void *context, struct end *end, const struct tutti_error *why)
{
    struct outgoing *outgoing = context;
    (void)why;
    outgoing->end = end;
    check_complete(outgoing->comm);
}

static void dial_next(struct comm *comm, int role)
{
    static const struct dialler_events events = {on_check, on_dialled};
    struct outgoing *outgoing = &comm->joining.outgoing[role];
    *outgoing = (struct outgoing){.comm = comm, .role = role};
    outgoing->dialler.comm = comm;
    outgoing->dialler.events = &events;
    outgoing->dialler.context = outgoing;
    outgoing->dialler.hello = place_hello(&comm->place, role_number[role], comm->place.next.rank);
    outgoing->dialler.address = comm->joining.next_address;
    dialler_start(&outgoing->dialler);
}

/* ---- From the previous rank -------------------------------------------------------------------- */

/* Other ranks of this group come early for the links beyond the ring. */
static int on_judge(struct comm *comm, const struct hello *hello, struct hello *answer)
{
    *answer = place_hello(&comm->place, hello->role, (int)hello->from);
    return mesh_shell_is_for_later(comm, hello) ? DOOR_NOT_YET : place_judge_hello(&comm->place, hello);
}

static void on_take(struct comm *comm, const struct hello *hello, struct end *end)
{
    struct end **accepted = &comm->joining.accepted[hello->role == HELLO_DATA ? DATA : CONTROL];
    drop_end(accepted); /* the peer tried again: the earlier attempt is dead */
    *accepted = end;
    check_complete(comm);
}

void wiring_shell_start(struct comm *comm)
{
    static const struct door_events events = {on_judge, on_take};
    struct joining *j = &comm->joining;
    j->state = JOIN_WIRING;
    int64_t wiring_ms = join_left_ms(comm) > WIRING_MIN_MS ? join_left_ms(comm) : WIRING_MIN_MS;
    event_set(&comm->sim->network, &j->deadline, comm->node, wiring_ms * NS_PER_MS, join_on_deadline, comm);
    for (int role = 0; role < ROLES; role++)
        dial_next(comm, role);
    door_hand_over(comm, &events);
}

/* All four connections are there.  The door stays open, for the links beyond the ring. */
static void wiring_complete(struct comm *comm)
{
    struct joining *j = &comm->joining;
    struct control_stream *rendezvous = comm->connection[SIDE_RENDEZVOUS];
    const struct neighbour *next = &comm->place.next, *previous = &comm->place.previous;
    struct channel *channel = &comm->channels[CHANNEL_COLLECTIVES];
    channel->out[next->rank] =
        mesh_shell_make_link(comm, j->outgoing[DATA].end, next->rank, CHANNEL_COLLECTIVES, next->text);
    channel->wanted[next->rank] = channel->dialled[next->rank] = true;
    channel->in[previous->rank] =
        mesh_shell_make_link(comm, j->accepted[DATA], previous->rank, CHANNEL_COLLECTIVES, previous->text);
    struct end *control[2] = {j->outgoing[CONTROL].end, j->accepted[CONTROL]};
    for (int role = 0; role < ROLES; role++)
        j->outgoing[role].end = j->accepted[role] = NULL;
    if (rendezvous) {
        Wire__Wired body = WIRE__WIRED__INIT;
        Wire__Control message = WIRE__CONTROL__INIT;
        body.generation = comm->place.generation;
        message.body_case = WIRE__CONTROL__BODY_WIRED;
        message.wired = &body;
        control_stream_send(rendezvous, NULL, &message);
    }
    comm->connection[SIDE_RENDEZVOUS] = NULL;
    j->state = JOIN_CARDS;
    event_set(&comm->sim->network, &j->deadline, comm->node, j->timeout_ms * NS_PER_MS, join_on_deadline,
              comm);
    mesh_shell_take_door(comm);
    ring_shell_open(comm, control, rendezvous);
}
