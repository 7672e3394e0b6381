#include "engine/colocation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include "base/error.h"
#include "engine/clock.h"
#include "engine/colocation_talk.h"
#include "engine/mesh.h"
#include "tensor/reduce.h"
#include "transport/descriptor.h"
#include "transport/shared_memory.h"

#define EXPLANATION_NS (200 * NS_PER_MS) /* how long the failure of a rank may take to be known here */

/* ---- Whether to ask at all ----------------------------------------------------------------------- */

static bool is_local(const tutti_comm *comm, int rank)
{
    return comm->hosts.host_of[rank] == comm->hosts.host_of[comm->place.rank];
}

static int leader_of(const tutti_comm *comm)
{
    int rank = 0;
    while (!is_local(comm, rank))
        rank++;
    return rank;
}

/* All ranks of a host come to the same answer, since they have the same roster.  false, with a reason that is
 * worth a line in *why, or an empty one. */
static bool is_wanted(const tutti_comm *comm, char *why, size_t why_size)
{
    int count = 0, lacks = -1;
    for (int rank = 0; rank < comm->place.size; rank++) {
        count += is_local(comm, rank);
        if (is_local(comm, rank) && !comm_member(comm, rank)->shm && lacks < 0)
            lacks = rank;
    }
    why[0] = '\0';
    if (comm->lane_of || count < 2 || !comm_member(comm, comm->place.rank)->shm)
        return false;
    if (lacks >= 0)
        snprintf(why, why_size, "%.200s does not have it in TUTTI_TRANSPORTS",
                 comm_member(comm, lacks)->text);
    else if (count > ARENA_RANKS_MAX)
        snprintf(why, why_size, "it serves at most %d ranks, and here are %d", ARENA_RANKS_MAX, count);
    return why[0] == '\0';
}

/* ---- Making and ending ------------------------------------------------------------------------- */

static struct colocation *colocation_new(tutti_comm *comm)
{
    struct colocation *colocation = calloc(1, sizeof *colocation);
    size_t size = (size_t)comm->place.size;
    if (!colocation)
        return NULL;
    colocation->comm = comm;
    colocation->leader_fd = colocation->memory_fd = -1;
    colocation->ranks = malloc(size * sizeof *colocation->ranks);
    colocation->names = malloc(size * sizeof *colocation->names);
    colocation->pieces = malloc(2 * size * sizeof *colocation->pieces);
    if (!colocation->ranks || !colocation->names || !colocation->pieces)
        goto no_memory;
    for (int rank = 0; rank < comm->place.size; rank++) {
        if (!is_local(comm, rank))
            continue;
        if (rank == comm->place.rank)
            colocation->index = colocation->count;
        colocation->ranks[colocation->count] = rank;
        colocation->names[colocation->count++] = comm_root_rank(comm, rank);
    }
    for (int i = 0; i < 2 * colocation->count; i++)
        colocation->pieces[i].fd = -1;
    return colocation;
no_memory:
    free(colocation->ranks);
    free(colocation->names);
    free(colocation->pieces);
    free(colocation);
    return NULL;
}

static void close_if_open(int *fd)
{
    if (*fd >= 0)
        descriptor_close(*fd);
    *fd = -1;
}

/* The heap of this rank belongs to the process. */
static bool owns_piece(const struct colocation *colocation, int piece)
{
    return piece != 2 * colocation->index + 1;
}

/* What only the making needs. */
static void end_talk(struct colocation *colocation)
{
    close_if_open(&colocation->leader_fd);
    close_if_open(&colocation->memory_fd);
}

static void colocation_free(struct colocation *colocation)
{
    end_talk(colocation);
    arena_free(colocation->arena);
    symmetric_free(colocation->symmetric);
    shared_memory_unmap(colocation->memory, arena_bytes(colocation->count));
    for (int i = 0; i < 2 * colocation->count; i++)
        if (owns_piece(colocation, i))
            close_if_open(&colocation->pieces[i].fd);
    free(colocation->pieces);
    free(colocation->ranks);
    free(colocation->names);
    free(colocation);
}

void colocation_give_up(struct colocation *colocation, int index, const char *why)
{
    if (!colocation->fails && index < 0)
        snprintf(colocation->why, sizeof colocation->why, "%s", why);
    else if (!colocation->fails)
        snprintf(colocation->why, sizeof colocation->why, "%.100s: %.270s",
                 comm_member(colocation->comm, colocation->ranks[index])->text, why);
    colocation->fails = true;
}

/* ---- The memory, the bell, the heap ------------------------------------------------------------ */

static bool may_share(struct colocation *colocation)
{
    if (failpoint_hit(&colocation->comm->failpoints, FAILPOINT_arena) != FAIL_no_memory)
        return true;
    colocation_give_up(colocation, colocation->index, "no memory that processes share (by failpoint)");
    return false;
}

/* A child of fork() has no right to it, and must not keep it. */
static void map(struct colocation *colocation)
{
    struct tutti_error error;
    size_t bytes = arena_bytes(colocation->count);
    colocation->memory = shared_memory_map(colocation->memory_fd, 0, bytes, true, &error);
    if (colocation->memory)
        madvise(colocation->memory, bytes, MADV_DONTFORK);
    else
        colocation_give_up(colocation, colocation->index, error.message);
}

void colocation_make_memory(struct colocation *colocation)
{
    struct tutti_error error;
    if (!may_share(colocation))
        return;
    if (getrandom(&colocation->nonce, sizeof colocation->nonce, 0) != sizeof colocation->nonce) {
        colocation_give_up(colocation, colocation->index, "the kernel gave no random numbers");
        return;
    }
    colocation->memory_fd = shared_memory_create(arena_bytes(colocation->count), false, &error);
    if (colocation->memory_fd < 0)
        colocation_give_up(colocation, colocation->index, error.message);
    else
        map(colocation);
    if (colocation->memory)
        arena_format(colocation->memory, colocation->count, colocation->nonce);
}

void colocation_map_memory(struct colocation *colocation, uint64_t nonce)
{
    struct tutti_error error;
    int count = colocation->count;
    if (!may_share(colocation))
        return;
    map(colocation);
    colocation->nonce = nonce;
    if (colocation->memory && arena_check(colocation->memory, arena_bytes(count), count, nonce, &error) < 0)
        colocation_give_up(colocation, colocation->index, error.message);
}

int colocation_make_own_pieces(struct colocation *colocation)
{
    struct tutti_error error;
    uint16_t index = (uint16_t)colocation->index;
    struct arena_piece *own = &colocation->pieces[2 * colocation->index];
    own[0] = (struct arena_piece){{ARENA_BELL, index}, descriptor_event(0)};
    own[1] = (struct arena_piece){{ARENA_HEAP, index}, symmetric_heap_descriptor(&error)};
    if (own[0].fd < 0) {
        colocation_give_up(colocation, colocation->index, "no descriptor is left for a bell");
        return 0;
    }
    return own[1].fd >= 0 ? 2 : 1;
}

void colocation_keep_piece(struct colocation *colocation, const struct arena_piece *piece, int of)
{
    int index = piece->item.index, kind = piece->item.kind;
    bool due = (kind == ARENA_BELL || kind == ARENA_HEAP) && index < colocation->count &&
               (of >= 0 ? index == of : index != colocation->index);
    int place = 2 * index + (kind == ARENA_HEAP);
    if (due && colocation->pieces[place].fd < 0)
        colocation->pieces[place] = *piece;
    else
        descriptor_close(piece->fd);
}

static void ring_bell(void *context, int index)
{
    const struct colocation *colocation = context;
    eventfd_write(colocation->pieces[2 * index].fd, 1);
}

void colocation_make_arena(struct colocation *colocation)
{
    const tutti_comm *comm = colocation->comm;
    int count = colocation->count, *heaps = malloc((size_t)count * sizeof *heaps);
    const struct arena_options options = {
        .memory = colocation->memory,
        .count = count,
        .index = colocation->index,
        .ranks = colocation->ranks,
        .names = colocation->names,
        .kernels = reduce_table(),
        .ring = ring_bell,
        .ring_context = colocation,
    };
    bool complete = true;
    for (int i = 0; i < count; i++)
        complete = complete && colocation->pieces[2 * i].fd >= 0;
    if (!complete || !heaps) {
        colocation_give_up(colocation, colocation->index,
                           complete ? "no memory" : "the bell of a rank is missing");
        free(heaps);
        return;
    }
    colocation->arena = arena_new(&options);
    for (int i = 0; i < count; i++) {
        heaps[i] = i == colocation->index ? -1 : colocation->pieces[2 * i + 1].fd;
        if (i != colocation->index)
            colocation->pieces[2 * i + 1].fd = -1; /* that of symmetric_new() */
    }
    colocation->symmetric = symmetric_new(heaps, count, colocation->index);
    free(heaps);
    if (!colocation->arena || !colocation->symmetric) {
        colocation_give_up(colocation, colocation->index, "no memory");
        return;
    }
    colocation->arena->symmetric = colocation->symmetric;
    /* Calls that were made before there was an arena are over everywhere. */
    colocation->arena->all_begun = comm->sequence;
}

/* ---- Talking ----------------------------------------------------------------------------------- */

int colocation_failure(tutti_comm *comm, struct tutti_error *error)
{
    *error = comm->failure;
    return error->code;
}

/* A connection breaks when a rank dies, which will be known here in a moment. */
int colocation_explain(struct colocation *colocation, int index, int status, const struct tutti_error *why,
                       struct tutti_error *error)
{
    tutti_comm *comm = colocation->comm;
    struct neighbour peer = mesh_neighbour(comm, colocation->ranks[index]);
    if (status == TUTTI_ERR_TIMEOUT) {
        error_set(error, TUTTI_ERR_TIMEOUT,
                  "%s did not answer in time when the ranks of this host agreed on shared memory: it is "
                  "stopped, or waits for another rank that is",
                  peer.text);
        error->rank = colocation->names[index];
        return error->code;
    }
    int64_t until_ns = clock_now_ns() + EXPLANATION_NS;
    pthread_mutex_lock(&comm->lock);
    while (!comm_has_failed(comm) && clock_now_ns() < until_ns)
        comm_wait_changed(comm, until_ns);
    pthread_mutex_unlock(&comm->lock);
    if (comm_has_failed(comm))
        return colocation_failure(comm, error);
    colocation_give_up(colocation, index, why->message);
    return TUTTI_OK;
}

struct arena_message colocation_message(const struct colocation *colocation, int kind)
{
    struct arena_message message = {
        .kind = (uint32_t)kind,
        .nonce = colocation->nonce,
        .count = (uint32_t)colocation->count,
        .agrees = !colocation->fails,
    };
    snprintf(message.why, sizeof message.why, "%s", colocation->why);
    return message;
}

struct arena_line colocation_line(const struct colocation *colocation, int fd)
{
    return (struct arena_line){fd, colocation->comm->doorbell, colocation->until_ns};
}

/* ---- Interface --------------------------------------------------------------------------------- */

/* From now on the leader is let in. */
static void expect_leader(struct colocation *colocation)
{
    tutti_comm *comm = colocation->comm;
    struct family *family = comm->family;
    pthread_mutex_lock(&comm->lock);
    comm->colocation = colocation;
    colocation->expects = true;
    pthread_mutex_unlock(&comm->lock);
    pthread_mutex_lock(&family->lock);
    if (family->root)
        worker_post(family->root->worker, &family->root->look_task);
    pthread_mutex_unlock(&family->lock);
}

static void publish(struct colocation *colocation)
{
    tutti_comm *comm = colocation->comm;
    pthread_mutex_lock(&comm->lock);
    comm->colocation = colocation;
    comm->arena = colocation->arena;
    comm->select.shared = comm->hosts.host_count == 1;
    memset(comm->memos, 0, sizeof comm->memos); /* what was chosen before */
    if (comm_has_failed(comm))
        arena_abort(comm->arena);
    pthread_mutex_unlock(&comm->lock);
    log_info(&comm->log, "%d ranks of this host share %zu KiB of memory", colocation->count,
             arena_bytes(colocation->count) / 1024);
}

int colocation_open(tutti_comm *comm, int timeout_ms, struct tutti_error *error)
{
    char why[256];
    if (!is_wanted(comm, why, sizeof why)) {
        if (why[0] != '\0')
            log_warning(&comm->log, "no shared memory among the ranks of this host: %s", why);
        return TUTTI_OK;
    }
    struct colocation *colocation = colocation_new(comm);
    if (!colocation)
        return error_set(error, TUTTI_ERR_MEMORY, "no memory for the ranks of this host");
    colocation->until_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
    if (colocation->index != COLOCATION_LEADER)
        expect_leader(colocation);
    int status = colocation->index == COLOCATION_LEADER ? colocation_lead(colocation, error)
                                                        : colocation_follow(colocation, error);
    pthread_mutex_lock(&comm->lock); /* colocation_take() may be looking */
    comm->colocation = NULL;
    colocation->expects = false;
    pthread_mutex_unlock(&comm->lock);
    end_talk(colocation);
    if (status == TUTTI_OK && !colocation->fails) {
        publish(colocation);
        return TUTTI_OK;
    }
    if (status == TUTTI_OK)
        log_warning(&comm->log, "no shared memory among the ranks of this host: %s", colocation->why);
    colocation_free(colocation);
    return status;
}

int colocation_judge(tutti_comm *comm, const struct hello *hello)
{
    char why[256];
    if (!is_wanted(comm, why, sizeof why) || hello->from != (uint32_t)leader_of(comm))
        return HELLO_UNWANTED;
    pthread_mutex_lock(&comm->lock);
    bool expected = comm->colocation != NULL && comm->colocation->expects;
    pthread_mutex_unlock(&comm->lock);
    return expected ? HELLO_ACCEPTED : DOOR_NOT_YET;
}

void colocation_take(tutti_comm *comm, int fd)
{
    pthread_mutex_lock(&comm->lock);
    struct colocation *colocation = comm->colocation;
    bool expected = colocation != NULL && colocation->expects;
    if (expected) {
        colocation->expects = false;
        colocation->leader_fd = fd;
        pthread_cond_broadcast(&comm->changed);
    }
    pthread_mutex_unlock(&comm->lock);
    if (!expected) /* it has given up since it was judged */
        descriptor_close(fd);
}

int colocation_bell(const tutti_comm *comm)
{
    const struct colocation *colocation = comm->colocation;
    return colocation ? colocation->pieces[2 * colocation->index].fd : -1;
}

void colocation_silence(tutti_comm *comm)
{
    eventfd_t rings;
    (void)eventfd_read(colocation_bell(comm), &rings);
}

void colocation_close(tutti_comm *comm)
{
    struct colocation *colocation = comm->colocation;
    pthread_mutex_lock(&comm->lock);
    comm->colocation = NULL;
    comm->arena = NULL;
    pthread_mutex_unlock(&comm->lock);
    if (colocation)
        colocation_free(colocation);
}
