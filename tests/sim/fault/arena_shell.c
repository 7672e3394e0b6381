/* Shared memory: the ranks of a virtual host have an arena for each group.  engine/colocation.c makes it by a
 * protocol of its own, whose faults are a matter of real processes (tests/process/colocation.py); here each
 * rank finds it. What it holds outlives a process that is killed, and a bell takes a moment to wake its rank.
 */
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/comm.h"

struct arena_room {
    struct arena_room *next;
    uint64_t instance;
    uint32_t generation;
    int host; /* of the roster */
    uint8_t *memory;
    int users;
    struct comm *comms[RANKS_MAX]; /* by index; NULL: it has not come, or has gone */
};

static void ring(void *context, int index)
{
    const struct comm *comm = context;
    struct comm *sleeper = comm->room->comms[index];
    struct network *network = &comm->sim->network;
    if (!sleeper || sleeper->node->dead || sleeper->bell.slot != 0 || sleeper->bell.held)
        return;
    int64_t delay_ns = (int64_t)random_below(&network->random, (uint64_t)network->delay_min_ns);
    event_set(network, &sleeper->bell, sleeper->node, delay_ns, comm_drive, sleeper);
}

static struct arena_room *find_room(struct comm *comm, int host, int count)
{
    struct simulation *sim = comm->sim;
    struct arena_room *room = sim->rooms;
    while (room && (room->instance != comm->place.instance || room->generation != comm->place.generation ||
                    room->host != host))
        room = room->next;
    if (room)
        return room;
    room = world_alloc(sizeof *room);
    *room = (struct arena_room){.next = sim->rooms,
                                .instance = comm->place.instance,
                                .generation = comm->place.generation,
                                .host = host,
                                .memory = world_alloc(arena_bytes(count))};
    arena_format(room->memory, count, comm->place.instance);
    sim->rooms = room;
    return room;
}

void arena_shell_open(struct comm *comm)
{
    const struct roster *roster = &comm->roster;
    int host = roster->host_of[comm->place.rank], ranks[RANKS_MAX], count = 0, index = 0;
    for (int rank = 0; rank < roster->size; rank++)
        if (roster->host_of[rank] == host) {
            if (!roster->members[rank].shm)
                return;
            if (rank == comm->place.rank)
                index = count;
            ranks[count++] = rank;
        }
    if (count < 2)
        return;
    comm->room = find_room(comm, host, count);
    comm->room->users++;
    comm->room->comms[index] = comm;
    network_enter(&comm->sim->network, NULL); /* lack of memory here would be the host's, which falls back */
    comm->arena = arena_new(&(struct arena_options){.memory = comm->room->memory,
                                                    .count = count,
                                                    .index = index,
                                                    .ranks = ranks,
                                                    .names = ranks,
                                                    .kernels = reduce_table(),
                                                    .ring = ring,
                                                    .ring_context = comm});
    network_enter(&comm->sim->network, comm->node);
}

static void free_room(struct simulation *sim, struct arena_room *room)
{
    struct arena_room **link = &sim->rooms;
    while (*link != room)
        link = &(*link)->next;
    *link = room->next;
    world_free(room->memory);
    world_free(room);
}

void arena_shell_close(struct comm *comm)
{
    if (!comm->arena)
        return;
    comm->room->comms[comm->arena->index] = NULL;
    if (--comm->room->users == 0)
        free_room(comm->sim, comm->room);
    arena_free(comm->arena);
    comm->arena = NULL;
    comm->room = NULL;
}
