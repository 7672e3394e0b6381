#include "engine/split.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "base/hash.h"
#include "engine/colocation.h"
#include "engine/life.h"
#include "engine/mesh.h"
#include "engine/mixed_agreement.h"
#include "engine/stripes.h"

/* How often a subgroup of these members has been made: each is another group. */
struct subgroup_count {
    struct subgroup_count *next;
    uint64_t hash;
    uint64_t count;
};

enum kind { BY_COLOR = 1, BY_LIST = 2, LANE = 3 };

/* ---- Identity ---------------------------------------------------------------------------------- */

static uint64_t hash_add(uint64_t hash, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        hash = fnv1a_add(hash, (uint8_t)(value >> (8 * i)));
    return hash;
}

static uint64_t hash_ranks(const int *ranks, int count)
{
    uint64_t hash = FNV1A_START;
    for (int i = 0; i < count; i++)
        hash = hash_add(hash, (uint64_t)ranks[i]);
    return hash;
}

/* That of the family in the upper bits, and below them what tells this group from the others of the family.
 * A last mixing, for the hash leaves the upper of these bits to the last bytes. */
static uint64_t instance_of(const tutti_comm *parent, enum kind kind, uint64_t which, uint64_t count)
{
    const uint64_t own = (UINT64_C(1) << INSTANCE_OWN_BITS) - 1;
    uint64_t hash = hash_add(FNV1A_START, parent->place.instance);
    hash = hash_add(hash, (uint64_t)kind);
    hash = hash_add(hash, which);
    hash = hash_add(hash, count);
    hash ^= hash >> 33;
    hash *= UINT64_C(0xff51afd7ed558ccd);
    hash ^= hash >> 33;
    return (parent->place.instance & ~own) | (hash & own);
}

/* The number of this subgroup of these members, from 1; 0 when out of memory. */
static uint64_t count_subgroup(tutti_comm *parent, uint64_t hash)
{
    uint64_t number = 0;
    pthread_mutex_lock(&parent->lock);
    struct subgroup_count *count = parent->subgroups;
    while (count && count->hash != hash)
        count = count->next;
    if (!count && (count = calloc(1, sizeof *count)) != NULL) {
        count->hash = hash;
        count->next = parent->subgroups;
        parent->subgroups = count;
    }
    if (count)
        number = ++count->count;
    pthread_mutex_unlock(&parent->lock);
    return number;
}

void split_forget(tutti_comm *comm)
{
    while (comm->subgroups) {
        struct subgroup_count *next = comm->subgroups->next;
        free(comm->subgroups);
        comm->subgroups = next;
    }
}

/* ---- Making it --------------------------------------------------------------------------------- */

static int fail_memory(tutti_comm *comm)
{
    struct tutti_error error;
    error_set(&error, TUTTI_ERR_MEMORY, "no memory to split a communicator of %d ranks", comm->place.size);
    error.rank = comm_root_rank(comm, comm->place.rank);
    comm_fail(comm, &error);
    return TUTTI_ERR_MEMORY;
}

/* Hosts, numbered in the order of their lowest ranks. */
static bool map_hosts(tutti_comm *comm)
{
    const struct roster *roster = &comm->family->roster;
    int size = comm->place.size, hosts = 0;
    int *number = malloc((size_t)roster->host_count * sizeof *number);
    comm->host_of = malloc((size_t)size * sizeof *comm->host_of);
    if (!number || !comm->host_of) {
        free(number);
        return false;
    }
    for (int host = 0; host < roster->host_count; host++)
        number[host] = -1;
    for (int rank = 0; rank < size; rank++) {
        int host = roster->host_of[comm->root_ranks[rank]];
        if (number[host] < 0)
            number[host] = hosts++;
        comm->host_of[rank] = number[host];
    }
    free(number);
    comm->hosts = (struct host_map){hosts, comm->host_of};
    return true;
}

static void take_place(tutti_comm *comm, const tutti_comm *parent, int rank, uint64_t instance)
{
    struct group_place *place = &comm->place;
    int size = place->size;
    place->rank = rank;
    place->instance = instance;
    place->generation = parent->place.generation;
    place->server = -1;
    memcpy(place->member_id, parent->place.member_id, MEMBER_ID_BYTES);
    place->local_size = 0;
    for (int other = 0; other < size; other++)
        place->local_size += comm->host_of[other] == comm->host_of[rank];
    if (size > 1) {
        place->next = mesh_neighbour(comm, (rank + 1) % size);
        place->previous = mesh_neighbour(comm, (rank + size - 1) % size);
    }
}

static const char *read_nothing(void *context, const char *name)
{
    (void)context, (void)name;
    return NULL;
}

static int furnish(tutti_comm *comm, const tutti_comm *parent, const int *ranks, int count, int rank,
                   uint64_t instance, struct tutti_error *error)
{
    if (settings_resolve(&comm->settings, &parent->settings.values, read_nothing, NULL, error) < 0 ||
        life_take_descriptors(comm, error) < 0)
        return error->code;
    comm->log = parent->log;
    comm->failpoints = parent->failpoints;
    memcpy(comm->host, parent->host, sizeof comm->host);
    memcpy(comm->host_name, parent->host_name, sizeof comm->host_name);
    comm->root_ranks = malloc((size_t)count * sizeof *comm->root_ranks);
    if (!comm->root_ranks)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for a communicator of %d ranks", count);
    for (int i = 0; i < count; i++)
        comm->root_ranks[i] = comm_root_rank(parent, ranks[i]);
    comm->place.size = count;
    if (!map_hosts(comm) || !mesh_init(comm))
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for a communicator of %d ranks", count);
    take_place(comm, parent, rank, instance);
    comm->membership = parent->membership;
    if (comm->lane_of) {
        comm->worker = worker_acquire(comm->lane, error);
        if (!comm->worker)
            return error->code;
    } else {
        worker_share(parent->worker);
        comm->worker = parent->worker;
    }
    worker_call(comm->worker, ring_make_timers, comm);
    return life_be_joined(comm, error);
}

/* From now on it fails with the family, and ranks that come for it are let in. */
static void enter_family(tutti_comm *comm)
{
    struct family *family = comm->family;
    pthread_mutex_lock(&family->lock);
    comm->sibling = family->children;
    comm->sibling_link = &family->children;
    if (comm->sibling)
        comm->sibling->sibling_link = &comm->sibling;
    family->children = comm;
    if (family->root)
        worker_post(family->root->worker, &family->root->look_task);
    pthread_mutex_unlock(&family->lock);
    comm_share_failure(comm);
}

/* The members are `count` ranks of the parent, this one being number `rank` of them.  The barrier shows that
 * all of them have come here, with the same members; nobody is waited for long in what they then agree on. */
static int make_child(tutti_comm *parent, const int *ranks, int count, int rank, uint64_t instance,
                      tutti_comm **child)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_request *request;
    const struct tutti_call barrier = {.op = TUTTI_BARRIER};
    tutti_comm *comm = life_new(parent->family);
    if (!comm)
        return fail_memory(parent);
    int status = furnish(comm, parent, ranks, count, rank, instance, &error);
    if (status == TUTTI_OK) {
        enter_family(comm);
        status = stripes_open(comm, &error);
    }
    if (status == TUTTI_OK) {
        status = progress_run(comm, &barrier, 1, -1, &request);
        if (status == TUTTI_OK)
            status = colocation_open(comm, comm->settings.values.join_timeout_ms, &error);
        if (status == TUTTI_OK)
            status = mixed_agree(comm, comm->settings.values.join_timeout_ms, &error);
    }
    if (error.code < 0) { /* the others wait for this one */
        if (error.rank < 0)
            error.rank = comm_root_rank(parent, parent->place.rank);
        comm_fail(parent, &error);
    }
    if (status < 0)
        life_end(comm);
    else
        *child = comm;
    return status;
}

/* ---- Who is in it ------------------------------------------------------------------------------ */

struct ticket {
    int32_t color, key;
};

struct seat {
    int key, rank;
};

static int compare_seats(const void *a, const void *b)
{
    const struct seat *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key)
                            : (x->rank > y->rank) - (x->rank < y->rank);
}

/* Those that have the color of this rank, in order; returns how many. */
static int find_members(const tutti_comm *comm, const struct ticket *tickets, struct seat *seats, int *ranks)
{
    int count = 0;
    for (int rank = 0; rank < comm->place.size; rank++)
        if (tickets[rank].color == tickets[comm->place.rank].color)
            seats[count++] = (struct seat){tickets[rank].key, rank};
    qsort(seats, (size_t)count, sizeof *seats, compare_seats);
    for (int i = 0; i < count; i++)
        ranks[i] = seats[i].rank;
    return count;
}

static int index_of(const int *ranks, int count, int rank)
{
    int index = 0;
    while (index < count && ranks[index] != rank)
        index++;
    return index;
}

int split_by_color(tutti_comm *comm, int color, int key, tutti_comm **child)
{
    size_t size = (size_t)comm->place.size;
    struct ticket *tickets = calloc(size, sizeof *tickets);
    struct seat *seats = calloc(size, sizeof *seats);
    int *ranks = calloc(size, sizeof *ranks), status = TUTTI_ERR_MEMORY;
    *child = NULL;
    pthread_mutex_lock(&comm->lock);
    uint64_t number = ++comm->splits;
    pthread_mutex_unlock(&comm->lock);
    if (!tickets || !seats || !ranks) {
        status = fail_memory(comm);
        goto done;
    }
    const struct ticket own = {color, key};
    const struct tutti_call gather = {
        .op = TUTTI_ALL_GATHER, .send = &own, .recv = tickets, .count = 2, .type = TUTTI_INT32};
    tutti_request *request;
    status = progress_run(comm, &gather, 1, -1, &request);
    if (status < 0 || color == TUTTI_NO_COLOR)
        goto done;
    int count = find_members(comm, tickets, seats, ranks);
    uint64_t which = hash_add(hash_ranks(ranks, count), (uint64_t)color);
    status = make_child(comm, ranks, count, index_of(ranks, count, comm->place.rank),
                        instance_of(comm, BY_COLOR, which, number), child);
done:
    free(tickets);
    free(seats);
    free(ranks);
    return status;
}

int split_by_list(tutti_comm *comm, const int *ranks, int count, tutti_comm **child)
{
    uint64_t hash = hash_ranks(ranks, count), number = count_subgroup(comm, hash);
    *child = NULL;
    if (number == 0)
        return fail_memory(comm);
    return make_child(comm, ranks, count, index_of(ranks, count, comm->place.rank),
                      instance_of(comm, BY_LIST, hash, number), child);
}

int split_by_host(tutti_comm *comm, tutti_comm **child)
{
    int *ranks = calloc((size_t)comm->place.size, sizeof *ranks), count = 0;
    *child = NULL;
    if (!ranks)
        return fail_memory(comm);
    for (int rank = 0; rank < comm->place.size; rank++)
        if (comm->hosts.host_of[rank] == comm->hosts.host_of[comm->place.rank])
            ranks[count++] = rank;
    int status = split_by_list(comm, ranks, count, child);
    free(ranks);
    return status;
}

tutti_comm *split_lane(tutti_comm *parent, int index, struct tutti_error *error)
{
    int size = parent->place.size;
    int *ranks = calloc((size_t)size, sizeof *ranks);
    tutti_comm *comm = ranks ? life_new(parent->family) : NULL;
    for (int rank = 0; ranks && rank < size; rank++)
        ranks[rank] = rank;
    if (!comm) {
        error_set(error, TUTTI_ERR_MEMORY, "no memory for a further channel");
    } else {
        comm->lane_of = parent;
        comm->lane = index + 1;
        uint64_t instance = instance_of(parent, LANE, (uint64_t)index, 0);
        if (furnish(comm, parent, ranks, size, parent->place.rank, instance, error) == TUTTI_OK) {
            enter_family(comm);
        } else {
            life_end(comm);
            comm = NULL;
        }
    }
    free(ranks);
    return comm;
}
