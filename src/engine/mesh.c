#include "engine/mesh.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "base/error.h"
#include "engine/colocation.h"
#include "transport/descriptor.h"
#include "transport/shm_link.h"
#include "transport/shm_ring.h"
#include "transport/stream.h"

/* ---- Links ------------------------------------------------------------------------------------- */

static_assert(SELECT_SHM_SLICE_BYTES == SHM_RING_SLOT_BYTES, "a slice fills a slot");

/* The more ranks a host has, the more rings each of them makes. */
static uint32_t slot_bytes_for(int local_size)
{
    return local_size <= 16   ? SHM_RING_SLOT_BYTES
           : local_size <= 64 ? SHM_RING_SLOT_BYTES / 4
                              : SHM_RING_SLOT_BYTES_MIN;
}

struct link *mesh_make_link(tutti_comm *comm, int fd, bool is_unix, bool is_sender,
                            const struct neighbour *peer)
{
    const struct tutti_config *values = &comm->settings.values;
    enum stream_transport transport = is_unix ? STREAM_UDS : STREAM_TCP;
    struct stream_options options = {
        .buffer_bytes = values->socket_buffer_bytes,
        .congestion = values->congestion,
        .local = peer->same_host,
        .dead_after_ms = values->dead_after_ms,
    };
    stream_set_options(fd, transport, &options);
    struct shm_link_options shm = {
        .fd = fd,
        .peer = comm_root_rank(comm, peer->rank),
        .peer_text = peer->text,
        .loan_bytes = values->slice_bytes,
        .is_sender = is_sender,
        .may_share = setting_list_holds(values->transports, "shm"),
        .slot_bytes = slot_bytes_for(comm->place.local_size),
        .log = &comm->log,
        .failpoints = &comm->failpoints,
    };
    struct link *link =
        is_unix ? shm_link_new(&shm) : stream_link_new(fd, transport, shm.peer, peer->text, shm.loan_bytes);
    if (link)
        link->failpoints = &comm->failpoints;
    return link;
}

struct neighbour mesh_neighbour(const tutti_comm *comm, int rank)
{
    const struct roster_member *member = comm_member(comm, rank);
    struct neighbour peer = {.rank = rank};
    memcpy(peer.member_id, member->member_id, MEMBER_ID_BYTES);
    snprintf(peer.host_name, sizeof peer.host_name, "%s", member->host_name);
    snprintf(peer.text, sizeof peer.text, "%s", member->text);
    peer.same_host = comm->hosts.host_of[rank] == comm->hosts.host_of[comm->place.rank];
    return peer;
}

bool mesh_init(tutti_comm *comm)
{
    size_t size = (size_t)comm->place.size;
    bool complete = true;
    for (int i = 0; i < CHANNELS; i++) {
        struct channel *channel = &comm->channels[i];
        channel->in = calloc(size, sizeof *channel->in);
        channel->out = calloc(size, sizeof *channel->out);
        channel->wanted = calloc(size, sizeof *channel->wanted);
        channel->dialled = calloc(size, sizeof *channel->dialled);
        channel->dials = calloc(size, sizeof(struct dial *));
        complete =
            complete && channel->in && channel->out && channel->wanted && channel->dialled && channel->dials;
    }
    return complete;
}

static void free_link(struct link *link)
{
    if (link)
        link->ops->free(link);
}

void mesh_free(tutti_comm *comm)
{
    while (comm->fresh) {
        struct fresh_link *fresh = comm->fresh;
        comm->fresh = fresh->next;
        free_link(fresh->link);
        free(fresh);
    }
    for (int i = 0; i < CHANNELS; i++) {
        struct channel *channel = &comm->channels[i];
        for (int rank = 0; rank < comm->place.size; rank++) {
            free_link(channel->in ? channel->in[rank] : NULL);
            free_link(channel->out ? channel->out[rank] : NULL);
        }
        free(channel->in);
        free(channel->out);
        free(channel->wanted);
        free(channel->dialled);
        free(channel->dials);
    }
    while (comm->replaced) {
        struct fresh_link *old = comm->replaced;
        comm->replaced = old->next;
        free_link(old->link);
        free(old);
    }
}

/* ---- Fresh links ------------------------------------------------------------------------------- */

/* A link has been opened, or NULL: there was no memory for it.  On the worker's thread. */
static void add_fresh(tutti_comm *comm, int channel, int rank, bool out, struct link *link)
{
    struct fresh_link *fresh = link ? malloc(sizeof *fresh) : NULL;
    struct tutti_error error;
    if (!fresh) {
        free_link(link);
        error_set(&error, TUTTI_ERR_MEMORY, "no memory for the link to %s", comm_member(comm, rank)->text);
        error.rank = comm_root_rank(comm, comm->place.rank);
        comm_fail(comm, &error);
        return;
    }
    *fresh = (struct fresh_link){NULL, channel, rank, out, link};
    pthread_mutex_lock(&comm->lock);
    *comm->fresh_tail = fresh;
    comm->fresh_tail = &fresh->next;
    atomic_fetch_add(&comm->fresh_count, 1);
    comm_nudge(comm);
    pthread_mutex_unlock(&comm->lock);
    worker_post(comm->worker, &comm->drive_task);
}

/* A peer that has tried again gave its earlier attempt up, which nothing has come through; polls may still
 * watch its descriptor, so it is kept aside. */
static void install(tutti_comm *comm, struct fresh_link *fresh)
{
    struct channel *channel = &comm->channels[fresh->channel];
    struct link **place = fresh->out ? &channel->out[fresh->rank] : &channel->in[fresh->rank];
    struct link *old = *place;
    *place = fresh->link;
    if (!old) {
        comm->message_links += fresh->channel == CHANNEL_MESSAGES && !fresh->out;
        free(fresh);
        return;
    }
    fresh->link = old;
    fresh->next = comm->replaced;
    comm->replaced = fresh;
}

void mesh_install(tutti_comm *comm)
{
    if (atomic_load_explicit(&comm->fresh_count, memory_order_relaxed) == 0)
        return;
    pthread_mutex_lock(&comm->lock);
    while (comm->fresh) {
        struct fresh_link *fresh = comm->fresh;
        comm->fresh = fresh->next;
        install(comm, fresh);
    }
    comm->fresh_tail = &comm->fresh;
    atomic_store(&comm->fresh_count, 0);
    pthread_mutex_unlock(&comm->lock);
}

/* ---- To another rank --------------------------------------------------------------------------- */

void mesh_want(tutti_comm *comm, int index, int rank)
{
    struct channel *channel = &comm->channels[index];
    if (channel->wanted[rank] || rank == comm->place.rank)
        return;
    channel->wanted[rank] = true;
    worker_post(comm->worker, &comm->mesh_task);
}

void mesh_want_for(tutti_comm *comm, int channel, const struct schedule *schedule)
{
    for (int i = 0; i < schedule->count; i++)
        if (step_sends(&schedule->steps[i]))
            mesh_want(comm, channel, schedule->steps[i].to);
}

/* A dial that is under way. */
struct call_out {
    tutti_comm *comm;
    int channel, rank;
    struct neighbour peer;
};

static int on_check(void *context, const struct hello *answer, struct tutti_error *error)
{
    const struct call_out *out = context;
    return place_check_answer_of(&out->comm->place, &out->peer, answer, error);
}

/* That a link is needed and cannot be had is the end. */
static void fail_to_dial(const struct call_out *out, const struct tutti_error *why)
{
    tutti_comm *comm = out->comm;
    struct tutti_error error;
    if (why->code == TUTTI_ERR_SYSTEM) {
        error_set(&error, TUTTI_ERR_SYSTEM,
                  "rank %d cannot connect to %s, to which a link is needed (%.500s); raise the limit of "
                  "descriptors (ulimit -n)",
                  comm_root_rank(comm, comm->place.rank), out->peer.text, why->message);
        error.rank = comm_root_rank(comm, comm->place.rank);
    } else {
        error_set(
            &error, TUTTI_ERR_UNREACHABLE,
            "cannot connect to %s, to which a link is needed (%.500s); check that all hosts can reach each "
            "other (TUTTI_INTERFACE, TUTTI_PORT_RANGE)",
            out->peer.text, why->message);
        error.rank = comm_root_rank(comm, out->rank);
    }
    comm_fail(comm, &error);
}

static void on_dialled(void *context, int fd, bool is_unix, const struct tutti_error *why)
{
    struct call_out *out = context;
    tutti_comm *comm = out->comm;
    struct channel *channel = &comm->channels[out->channel];
    dial_stop(channel->dials[out->rank]);
    channel->dials[out->rank] = NULL;
    if (fd >= 0) {
        if (why)
            log_warning(&comm->log,
                        "%s is on this host, but its Unix socket could not be used (%s): using TCP",
                        out->peer.text, why->message);
        add_fresh(comm, out->channel, out->rank, true, mesh_make_link(comm, fd, is_unix, true, &out->peer));
    } else {
        fail_to_dial(out, why);
    }
    free(out);
}

/* Where a rank listens, by our order of preference; a Unix socket only where it is on this host. */
static void find_targets(const tutti_comm *comm, const struct neighbour *peer,
                         struct connector_targets *targets)
{
    const struct roster_member *member = comm_member(comm, peer->rank);
    targets->count = 0;
    connector_add_list(targets, comm->settings.values.transports, member->addresses,
                       (size_t)member->address_count, peer->same_host);
}

static void dial(tutti_comm *comm, int index, int rank)
{
    struct channel *channel = &comm->channels[index];
    struct connector_targets targets;
    struct tutti_error error;
    struct call_out *out = malloc(sizeof *out);
    if (!out) {
        add_fresh(comm, index, rank, true, NULL);
        return;
    }
    *out = (struct call_out){comm, index, rank, mesh_neighbour(comm, rank)};
    find_targets(comm, &out->peer, &targets);
    if (targets.count == 0) {
        error_set(
            &error, TUTTI_ERR_CONFIG,
            "no transport leads from rank %d to %s: this rank may use %s; let TUTTI_TRANSPORTS of all hold "
            "tcp",
            comm->place.rank, out->peer.text, comm->settings.values.transports);
        error.rank = comm_root_rank(comm, rank);
        comm_fail(comm, &error);
        free(out);
        return;
    }
    struct dial_options options = {
        .loop = worker_loop(comm->worker),
        .targets = &targets,
        .hello = place_hello(&comm->place, HELLO_DATA, rank),
        .peer_text = out->peer.text,
        .what = "data",
        .log = &comm->log,
        .failpoints = &comm->failpoints,
        .give_up_ms = comm->settings.values.join_timeout_ms,
        .may_be_early = comm->root_ranks != NULL,
        .check = on_check,
        .done = on_dialled,
        .context = out,
    };
    options.hello.channel = (uint16_t)index;
    channel->dials[rank] = dial_start(&options);
    if (!channel->dials[rank]) {
        free(out);
        add_fresh(comm, index, rank, true, NULL);
    }
}

void mesh_dial(void *argument)
{
    tutti_comm *comm = argument;
    for (int index = 0; index < CHANNELS && !comm_has_failed(comm); index++) {
        struct channel *channel = &comm->channels[index];
        for (int rank = 0; rank < comm->place.size; rank++) {
            pthread_mutex_lock(&comm->lock);
            bool wanted = channel->wanted[rank] && !channel->dialled[rank];
            channel->dialled[rank] = channel->wanted[rank];
            pthread_mutex_unlock(&comm->lock);
            if (wanted)
                dial(comm, index, rank);
        }
    }
}

void mesh_stop(tutti_comm *comm)
{
    for (int index = 0; index < CHANNELS; index++)
        for (int rank = 0; comm->channels[index].dials && rank < comm->place.size; rank++) {
            struct dial **dial = &comm->channels[index].dials[rank];
            if (*dial)
                free(dial_context(*dial));
            dial_stop(*dial);
            *dial = NULL;
        }
}

/* ---- From other ranks -------------------------------------------------------------------------- */

/* The instances of a family have their upper bits in common. */
static bool is_of_family(const tutti_comm *root, const struct hello *hello)
{
    return (hello->instance ^ root->place.instance) >> INSTANCE_OWN_BITS == 0 &&
           hello->generation == root->place.generation;
}

bool mesh_is_for_later(const tutti_comm *root, const struct hello *hello)
{
    const struct group_place *place = &root->place;
    bool of_ring = hello->instance == place->instance && hello->channel == CHANNEL_COLLECTIVES &&
                   hello->from == (uint32_t)place->previous.rank;
    bool is_later = hello->role == HELLO_ARENA || (hello->role == HELLO_DATA && !of_ring);
    return is_later && is_of_family(root, hello);
}

/* NULL: it has not been made yet, or is no more. */
static tutti_comm *find_comm(tutti_comm *root, const struct hello *hello)
{
    struct family *family = root->family;
    tutti_comm *comm = root->place.instance == hello->instance ? root : NULL;
    pthread_mutex_lock(&family->lock);
    for (tutti_comm *child = family->children; child && !comm; child = child->sibling)
        if (child->place.instance == hello->instance)
            comm = child;
    pthread_mutex_unlock(&family->lock);
    return comm;
}

static int on_judge(void *context, const struct hello *hello, struct hello *answer)
{
    tutti_comm *root = context;
    bool is_known = (hello->role == HELLO_DATA && hello->channel < CHANNELS) || hello->role == HELLO_ARENA;
    if (!is_of_family(root, hello) || !is_known) {
        *answer = place_hello(&root->place, hello->role, (int)hello->from);
        return is_of_family(root, hello) ? HELLO_UNWANTED : HELLO_WRONG_GROUP;
    }
    tutti_comm *comm = find_comm(root, hello);
    if (!comm || !roster_is_complete(&root->family->roster))
        return DOOR_NOT_YET;
    *answer = place_hello(&comm->place, hello->role, (int)hello->from);
    answer->channel = hello->channel;
    bool is_member =
        hello->from < (uint32_t)comm->place.size && hello->from != (uint32_t)comm->place.rank &&
        hello->to == (uint32_t)comm->place.rank &&
        memcmp(hello->member_id, comm_member(comm, (int)hello->from)->member_id, MEMBER_ID_BYTES) == 0;
    if (is_member && hello->role == HELLO_ARENA)
        return colocation_judge(comm, hello);
    return is_member ? HELLO_ACCEPTED : HELLO_WRONG_RANK;
}

static void on_take(void *context, const struct hello *hello, int fd, bool is_unix)
{
    tutti_comm *comm = find_comm(context, hello);
    if (!comm) { /* it was freed since it was judged */
        descriptor_close(fd);
        return;
    }
    if (hello->role == HELLO_ARENA) {
        colocation_take(comm, fd);
        return;
    }
    int rank = (int)hello->from;
    struct neighbour peer = mesh_neighbour(comm, rank);
    add_fresh(comm, hello->channel, rank, false, mesh_make_link(comm, fd, is_unix, false, &peer));
}

static void on_exhausted(void *context, int error_number)
{
    tutti_comm *root = context;
    struct tutti_error error;
    error_set_errno(&error, error_number,
                    "rank %d cannot accept the connections of other ranks; raise the limit of descriptors "
                    "(ulimit -n)",
                    root->place.rank);
    error.rank = root->place.rank;
    comm_fail(root, &error);
}

void mesh_take_door(tutti_comm *root)
{
    static const struct door_events events = {on_judge, on_take, on_exhausted};
    door_hand_over(root->door, &events, root);
}

void mesh_look_again(void *argument)
{
    tutti_comm *root = argument;
    if (root->door)
        door_ask_again(root->door);
}
