/* The door, as engine/door.c: reads the hello of each connection that comes, and has it judged. */
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/comm.h"

#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)

static void visitor_forget(struct visitor *visitor)
{
    struct door *door = &visitor->comm->door;
    TAILQ_REMOVE(&door->visitors, visitor, entry);
    door->visitor_count--;
    world_free(visitor);
}

static void visitor_drop(struct visitor *visitor)
{
    if (!visitor->comm->node->dead) /* else the kernel has closed it */
        end_close(visitor->end);
    visitor_forget(visitor);
}

static void visitor_judge(struct visitor *visitor, const struct hello *hello)
{
    struct comm *comm = visitor->comm;
    struct hello answer;
    int verdict = comm->door.events->judge(comm, hello, &answer);
    visitor->waits = verdict == DOOR_NOT_YET;
    if (visitor->waits)
        return;
    answer.verdict = (uint8_t)verdict;
    if (!hello_send(visitor->end, &answer) || verdict != HELLO_ACCEPTED) {
        SAY(comm->sim, comm->process, "drops a connection from rank %u: verdict %d", (unsigned)hello->from,
            verdict);
        visitor_drop(visitor);
        return;
    }
    struct end *end = visitor->end;
    end->ready = NULL;
    visitor_forget(visitor);
    comm->door.events->take(comm, hello, end); /* may close the door */
}

static void on_hello(void *context)
{
    struct visitor *visitor = context;
    struct tutti_error error;
    struct hello hello;
    uint8_t more;
    if (!visitor->comm->door.events)
        return;           /* door_hand_over() looks again */
    if (visitor->waits) { /* nothing may follow a hello before its answer */
        if (end_read(visitor->end, &more, sizeof more) != READ_NOTHING)
            visitor_drop(visitor);
        return;
    }
    while (visitor->have < HELLO_BYTES) {
        int n = end_read(visitor->end, visitor->hello + visitor->have, HELLO_BYTES - visitor->have);
        if (n == READ_NOTHING)
            return;
        if (n < 0) {
            visitor_drop(visitor);
            return;
        }
        visitor->have += (uint32_t)n;
    }
    if (hello_decode(visitor->hello, &hello, &error) < 0)
        visitor_drop(visitor);
    else
        visitor_judge(visitor, &hello);
}

static void on_accept(void *context, struct end *end)
{
    struct comm *comm = context;
    struct door *door = &comm->door;
    if (failpoint_hit(&comm->process->failpoints, FAILPOINT_accept) == FAIL_no_descriptors) {
        end_postpone_accept(end, &door->listener, ACCEPT_PAUSE_NS);
        return;
    }
    if (door->visitor_count == VISITORS_MAX)
        visitor_drop(TAILQ_FIRST(&door->visitors));
    struct visitor *visitor = world_alloc(sizeof *visitor);
    visitor->comm = comm;
    visitor->end = end;
    TAILQ_INSERT_TAIL(&door->visitors, visitor, entry);
    door->visitor_count++;
    end_attach(end, on_hello, visitor);
}

void door_listen(struct comm *comm)
{
    if (!comm->door.listener.node)
        network_listen(&comm->sim->network, &comm->door.listener, comm->node, 0, on_accept, comm);
}

void door_hand_over(struct comm *comm, const struct door_events *events)
{
    struct visitor *visitor;
    comm->door.events = events;
    TAILQ_FOREACH(visitor, &comm->door.visitors, entry)
    if (!visitor->waits)
        end_attach(visitor->end, on_hello, visitor);
    door_ask_again(comm);
}

void door_ask_again(struct comm *comm)
{
    struct visitor *visitor, *next;
    struct hello hello;
    struct tutti_error error;
    for (visitor = TAILQ_FIRST(&comm->door.visitors); visitor; visitor = next) {
        next = TAILQ_NEXT(visitor, entry);
        if (visitor->waits && hello_decode(visitor->hello, &hello, &error) == TUTTI_OK)
            visitor_judge(visitor, &hello);
    }
}

void door_close(struct comm *comm)
{
    struct visitor *visitor;
    while ((visitor = TAILQ_FIRST(&comm->door.visitors)))
        visitor_drop(visitor);
    network_unlisten(&comm->door.listener);
}
