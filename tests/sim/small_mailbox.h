/* The mailbox with small limits and memory that can run out: the sources themselves, under other names.  And
 * a world of ranks in one thread, whose mailboxes send over virtual links.  Include the headers that cmocka
 * wants before this one. */
#ifndef TUTTI_TESTS_SMALL_MAILBOX_H
#define TUTTI_TESTS_SMALL_MAILBOX_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/sim/virtual_link.h"

#define MAILBOX_KEPT_BYTES_MAX    ((size_t)4096)
#define MAILBOX_KEPT_MESSAGES_MAX 20

static bool memory_is_out;

static inline void *small_malloc(size_t size)
{
    return memory_is_out ? NULL : malloc(size);
}

#define mailbox_new           small_mailbox_new
#define mailbox_free          small_mailbox_free
#define mailbox_post          small_mailbox_post
#define mailbox_progress      small_mailbox_progress
#define mailbox_take_complete small_mailbox_take_complete
#define mailbox_is_busy       small_mailbox_is_busy
#define mailbox_awaits        small_mailbox_awaits
#define mailbox_sends         small_mailbox_sends
#define mailbox_forget        small_mailbox_forget
#define mail_print            small_mail_print
#define mail_takes            small_mail_takes
#define mail_check_fit        small_mail_check_fit
#define mail_bytes            small_mail_bytes
#define mail_queue_init       small_mail_queue_init
#define mail_queue_add        small_mail_queue_add
#define mail_queue_remove     small_mail_queue_remove
#define mail_queue_forget     small_mail_queue_forget
#define kept_init             small_kept_init
#define kept_clear            small_kept_clear
#define kept_has_room         small_kept_has_room
#define kept_add              small_kept_add
#define kept_remove           small_kept_remove
#define malloc                small_malloc
#include "../../src/executor/kept.c"
#include "../../src/executor/mail.c"
#include "../../src/executor/mailbox.c"
#undef malloc

#define WORLD_RANKS_MAX 6

struct world {
    uint64_t random;
    int size;
    struct virtual_queue *queues[WORLD_RANKS_MAX][WORLD_RANKS_MAX]; /* from, to */
    struct link *in[WORLD_RANKS_MAX][WORLD_RANKS_MAX], *out[WORLD_RANKS_MAX][WORLD_RANKS_MAX];
    struct executor_group groups[WORLD_RANKS_MAX];
    struct mailbox *boxes[WORLD_RANKS_MAX];
};

static inline void world_open(struct world *w, uint64_t seed, int size, uint32_t slice_bytes, size_t capacity)
{
    memset(w, 0, sizeof *w);
    w->random = seed;
    w->size = size;
    memory_is_out = false;
    for (int from = 0; from < size; from++) {
        for (int to = 0; to < size; to++) {
            if (from == to)
                continue;
            w->queues[from][to] = virtual_queue_new(capacity, &w->random);
            w->out[from][to] = virtual_link_new(w->queues[from][to], to, 1);
            w->in[to][from] = virtual_link_new(w->queues[from][to], from, 1);
        }
    }
    for (int rank = 0; rank < size; rank++) {
        w->groups[rank] = (struct executor_group){.in = w->in[rank],
                                                  .out = w->out[rank],
                                                  .channel = 1,
                                                  .instance = 7,
                                                  .generation = 2,
                                                  .slice_bytes = slice_bytes};
        w->boxes[rank] = mailbox_new(&w->groups[rank], rank, size);
        assert_non_null(w->boxes[rank]);
    }
}

/* From now on every call moves all that it can. */
static inline void stop_stutter(struct world *w)
{
    for (int from = 0; from < w->size; from++) {
        for (int to = 0; to < w->size; to++) {
            if (from != to)
                w->queues[from][to]->random = NULL;
        }
    }
}

static inline void world_close(struct world *w)
{
    for (int from = 0; from < w->size; from++) {
        mailbox_free(w->boxes[from]);
        for (int to = 0; to < w->size; to++) {
            if (from == to)
                continue;
            virtual_free(w->out[from][to]);
            virtual_free(w->in[to][from]);
            virtual_queue_free(w->queues[from][to]);
        }
    }
}

/* What no mailbox may hold more than, looked at from inside. */
static inline void check_limits(const struct mailbox *box)
{
    for (int rank = 0; rank < box->size; rank++) {
        const struct kept_list *kept = &box->peers[rank].kept;
        assert_true(kept->bytes <= MAILBOX_KEPT_BYTES_MAX || kept->messages == 1);
        assert_true(kept->messages <= MAILBOX_KEPT_MESSAGES_MAX);
    }
}

/* One call of mailbox_progress() that must not fail; did it move anything? */
static inline bool progress(struct world *w, int rank)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    bool moved = false;
    if (mailbox_progress(w->boxes[rank], &moved, &error) < 0)
        fail_msg("rank %d: %s", rank, error.message);
    check_limits(w->boxes[rank]);
    return moved;
}

/* Bytes that all links have moved: what changes when anything does. */
static inline uint64_t world_bytes(const struct world *w)
{
    uint64_t bytes = 0;
    for (int a = 0; a < w->size; a++) {
        for (int b = 0; b < w->size; b++) {
            if (a != b)
                bytes += w->out[a][b]->sent_bytes + w->in[a][b]->received_bytes;
        }
    }
    return bytes;
}

/* So many calls that bring nothing are enough: links stutter, but never so often one after the other. */
#define IDLE_CALLS 100

/* Until no rank can do anything any more. */
static inline void settle(struct world *w)
{
    uint64_t bytes = world_bytes(w);
    for (int idle = 0; idle < IDLE_CALLS; idle++) {
        for (int rank = 0; rank < w->size; rank++) {
            if (progress(w, rank))
                idle = 0;
        }
        if (world_bytes(w) != bytes)
            idle = 0;
        bytes = world_bytes(w);
    }
}

/* ---- Mails ------------------------------------------------------------------------------------- */

#define SLICE 64 /* bytes: 8 elements of int64 */

static inline struct mail send_of(int64_t *data, size_t count, int to, int tag)
{
    return (struct mail){
        .sends = true, .peer = to, .tag = tag, .type = TUTTI_INT64, .buffer = data, .count = count};
}

static inline struct mail receive_of(int64_t *data, size_t count, int from, int tag,
                                     struct tutti_received *received)
{
    return (struct mail){
        .peer = from, .tag = tag, .type = TUTTI_INT64, .buffer = data, .count = count, .received = received};
}

static inline void fill(int64_t *data, size_t count, int64_t seed)
{
    for (size_t i = 0; i < count; i++)
        data[i] = seed * 1000003 + (int64_t)i;
}

static inline void check(const int64_t *data, size_t count, int64_t seed)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(data[i], seed * 1000003 + (int64_t)i);
}

static inline void check_received(const struct tutti_received *received, int source, int tag, size_t count)
{
    assert_int_equal(received->source, source);
    assert_int_equal(received->tag, tag);
    assert_int_equal(received->count, count);
}

/* The mails of `rank` that are complete are these, in this order. */
static inline void check_complete(struct world *w, int rank, struct mail *const *mails, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(mailbox_take_complete(w->boxes[rank]), mails[i]);
        assert_true(mails[i]->complete);
    }
    assert_null(mailbox_take_complete(w->boxes[rank]));
}

/* Messages whose memory outlives the function that posts them. */
#define MAILS_MAX 64
static int64_t pool[MAILS_MAX][600];
static struct mail pool_mail[MAILS_MAX];

/* Posts one, filled by its index. */
static inline void post_message(struct world *w, int index, int from, int to, int tag, size_t count)
{
    fill(pool[index], count, index);
    pool_mail[index] = send_of(pool[index], count, to, tag);
    mailbox_post(w->boxes[from], &pool_mail[index]);
}

#endif
