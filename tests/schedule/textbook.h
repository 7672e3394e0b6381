/* Schedules to plant faults in and to measure: algorithms as textbooks have them, with steps of every kind,
 * which do not change when those of src/algorithm/ do; and what tests do with a group of schedules. */
#ifndef TUTTI_TESTS_SCHEDULE_TEXTBOOK_H
#define TUTTI_TESTS_SCHEDULE_TEXTBOOK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "schedule/schedule.h"

#define RANKS_MAX 16
#define WHY_SIZE  512

/* ---- A group of schedules ------------------------------------------------------------------------ */

struct group {
    struct schedule *ranks[RANKS_MAX];
    int size;
};

static inline struct group group_new(int operation, schedule_emitter emit, int size, int root)
{
    struct group group = {.size = size};
    for (int rank = 0; rank < size; rank++) {
        group.ranks[rank] = schedule_new(operation, "spoilt", emit, rank, size, root, NULL);
        assert_non_null(group.ranks[rank]);
    }
    return group;
}

static inline void group_free(struct group *group)
{
    for (int rank = 0; rank < group->size; rank++)
        schedule_free(group->ranks[rank]);
}

static inline bool passes(const struct group *group, int slices, int queue)
{
    char why[WHY_SIZE];
    return schedule_check(group->ranks, group->size, slices, queue, why, sizeof why);
}

static inline void assert_passes(const struct group *group, int slices, int queue)
{
    char why[WHY_SIZE];
    if (!schedule_check(group->ranks, group->size, slices, queue, why, sizeof why))
        fail_msg("the checker says \"%s\"", why);
}

/* The check must fail, and say so in a sentence that contains `expected`; frees the group. */
static inline void assert_refused(struct group *group, int slices, int queue, const char *expected)
{
    char why[WHY_SIZE] = "";
    if (schedule_check(group->ranks, group->size, slices, queue, why, sizeof why))
        fail_msg("the checker found nothing wrong, expected \"%s\"", expected);
    if (!strstr(why, expected))
        fail_msg("the checker says \"%s\", expected \"%s\"", why, expected);
    group_free(group);
}

static inline struct step *step_at(struct group *group, int rank, int index)
{
    assert_true(index < group->ranks[rank]->count);
    return &group->ranks[rank]->steps[index];
}

static inline struct span *operand_at(struct group *group, int rank, int index, int operand)
{
    const struct step *step = step_at(group, rank, index);
    assert_true(operand < step->operands);
    return &group->ranks[rank]->operands[step->operand + operand];
}

static inline void remove_step(struct schedule *s, int index)
{
    memmove(&s->steps[index], &s->steps[index + 1], (size_t)(s->count - index - 1) * sizeof *s->steps);
    s->count--;
    for (int i = 0; i < s->count; i++) {
        struct step *step = &s->steps[i];
        if (step->after == index)
            step->after_slice = false;
        if (step->after >= index)
            step->after--;
        if (step->after >= 0 && !step_sends(&s->steps[step->after]))
            step->after = -1;
    }
}

/* ---- On a ring ----------------------------------------------------------------------------------- */

static inline int ring_at(const struct schedule *s, int distance)
{
    return (s->rank + distance + s->size) % s->size;
}

static inline void textbook_ring_all_reduce(struct schedule *s)
{
    int n = s->size, next = ring_at(s, 1), previous = ring_at(s, -1);
    s->chunks = n;
    schedule_send(s, next, s->rank, 1, span_send());
    for (int k = 1; k <= n - 1; k++)
        schedule_recv_reduce_send(s, previous, next, ring_at(s, -k), 1, span_send(), span_recv());
    schedule_mark_finished(s);
    for (int k = 0; k <= n - 3; k++)
        schedule_recv_send(s, previous, next, ring_at(s, -k), 1, span_recv());
    schedule_recv(s, previous, ring_at(s, -(n - 2)), 1, span_recv());
}

static inline void textbook_ring_reduce_scatter(struct schedule *s)
{
    int n = s->size, next = ring_at(s, 1), previous = ring_at(s, -1);
    s->chunks = n;
    schedule_send(s, next, ring_at(s, -1), 1, span_send());
    for (int k = 2; k <= n - 1; k++) {
        int chunk = ring_at(s, -k);
        schedule_recv_reduce_send(s, previous, next, chunk, 1, span_send(), span_scratch(k % 2, chunk));
    }
    schedule_recv_reduce(s, previous, s->rank, 1, span_send(), span_recv());
    schedule_mark_finished(s);
}

static inline void textbook_ring_all_gather(struct schedule *s)
{
    int n = s->size, next = ring_at(s, 1), previous = ring_at(s, -1);
    s->chunks = n;
    schedule_send(s, next, s->rank, 1, span_send());
    schedule_copy(s, s->rank, 1, span_send(), span_recv());
    for (int k = 1; k <= n - 2; k++)
        schedule_recv_send(s, previous, next, ring_at(s, -k), 1, span_recv());
    schedule_recv(s, previous, ring_at(s, 1), 1, span_recv());
}

static inline void textbook_ring_gather(struct schedule *s)
{
    int n = s->size, next = ring_at(s, 1), previous = ring_at(s, -1);
    int distance = (s->root - s->rank + n) % n;
    s->chunks = n;
    if (distance == 0) {
        schedule_copy(s, s->rank, 1, span_send(), span_recv());
        for (int k = 1; k <= n - 1; k++)
            schedule_recv(s, previous, ring_at(s, -k), 1, span_recv());
        return;
    }
    schedule_send(s, next, s->rank, 1, span_send());
    for (int k = 1; k <= n - 1 - distance; k++)
        schedule_recv_send(s, previous, next, ring_at(s, -k), 1, span_scratch((k - 1) % 2, ring_at(s, -k)));
}

static inline void textbook_chain_broadcast(struct schedule *s)
{
    int next = ring_at(s, 1), previous = ring_at(s, -1);
    s->chunks = 1;
    if (s->rank == s->root) {
        schedule_send(s, next, 0, 1, span_send());
        schedule_copy(s, 0, 1, span_send(), span_recv());
    } else if (next == s->root) {
        schedule_recv(s, previous, 0, 1, span_recv());
    } else {
        schedule_recv_send(s, previous, next, 0, 1, span_recv());
    }
}

/* All-reduce: every vector goes round whole, into slot r that of rank r; then one reduction of all. */
static inline void textbook_exchange(struct schedule *s)
{
    int n = s->size, next = ring_at(s, 1), previous = ring_at(s, -1);
    struct span vectors[RANKS_MAX];
    s->chunks = 1;
    for (int rank = 0; rank < n; rank++)
        vectors[rank] = rank == s->rank ? span_send() : span_scratch(rank, 0);
    schedule_send(s, next, 0, 1, span_send());
    for (int k = 1; k <= n - 2; k++)
        schedule_recv_send(s, previous, next, 0, 1, vectors[ring_at(s, -k)]);
    schedule_recv(s, previous, 0, 1, vectors[next]);
    schedule_reduce(s, 0, 1, vectors, n, span_recv());
    schedule_mark_finished(s);
}

/* ---- In pairs, for powers of two ----------------------------------------------------------------- */

/* The last sum is not received straight into the output: where that is also the input, both ranks would wait
 * for the other to take what it sends before they take anything. */
static inline void textbook_recursive_doubling(struct schedule *s)
{
    s->chunks = 1;
    struct span sum = span_send();
    for (int distance = 1; distance < s->size; distance *= 2) {
        int partner = s->rank ^ distance;
        struct span slot = span_scratch(distance, 0);
        schedule_send(s, partner, 0, 1, sum);
        if (2 * distance == s->size) {
            struct span low = s->rank < partner ? sum : slot, high = s->rank < partner ? slot : sum;
            schedule_recv(s, partner, 0, 1, slot);
            schedule_reduce(s, 0, 1, (struct span[]){low, high}, 2, span_recv());
            schedule_mark_finished(s);
            return;
        }
        schedule_recv_reduce(s, partner, 0, 1, sum, slot);
        if (s->rank < partner)
            schedule_mark_own_first(s);
        sum = slot;
    }
}

/* All-reduce by Rabenseifner: ranges of chunks are halved until each rank has one, then doubled. */
static inline void textbook_halving_doubling(struct schedule *s)
{
    s->chunks = s->size;
    struct span own = span_send();
    int first = 0, chunks = s->size;
    for (int distance = s->size / 2; distance >= 1; distance /= 2) {
        int partner = s->rank ^ distance;
        chunks /= 2;
        int kept = s->rank < partner ? first : first + chunks, sent = 2 * first + chunks - kept;
        schedule_send(s, partner, sent, chunks, own);
        schedule_recv_reduce(s, partner, kept, chunks, own, span_recv());
        if (s->rank < partner)
            schedule_mark_own_first(s);
        own = span_recv();
        first = kept;
    }
    schedule_mark_finished(s);
    for (int distance = 1; distance < s->size; distance *= 2) {
        int partner = s->rank ^ distance, other = s->rank < partner ? first + chunks : first - chunks;
        schedule_send(s, partner, first, chunks, span_recv());
        schedule_recv(s, partner, other, chunks, span_recv());
        first = first < other ? first : other;
        chunks *= 2;
    }
}

/* From rank 0: each rank receives the chunks of its subtree and passes on the farther half, again and again.
 */
static inline void textbook_tree_scatter(struct schedule *s)
{
    int chunks = s->size;
    s->chunks = s->size;
    for (int distance = s->size / 2; distance >= 1; distance /= 2) {
        struct span held = s->rank == 0 ? span_send() : span_scratch(0, s->rank);
        chunks /= 2;
        if (s->rank % (2 * distance) == 0)
            schedule_send(s, s->rank + distance, s->rank + distance, chunks, held);
        else if (s->rank % distance == 0)
            schedule_recv(s, s->rank - distance, s->rank, chunks, held);
    }
    schedule_copy(s, s->rank, 1, s->rank == 0 ? span_send() : span_scratch(0, s->rank), span_recv());
}

/* From rank 0. */
static inline void textbook_tree_broadcast(struct schedule *s)
{
    s->chunks = 1;
    int distance = 1;
    while (distance < s->size)
        distance *= 2;
    for (distance /= 2; distance >= 1; distance /= 2) {
        if (s->rank % (2 * distance) == 0 && s->rank + distance < s->size)
            schedule_send(s, s->rank + distance, 0, 1, s->rank == 0 ? span_send() : span_recv());
        else if (s->rank % (2 * distance) == distance)
            schedule_recv(s, s->rank - distance, 0, 1, span_recv());
    }
    if (s->rank == 0)
        schedule_copy(s, 0, 1, span_send(), span_recv());
}

/* ---- Directly ------------------------------------------------------------------------------------ */

static inline void textbook_linear_reduce(struct schedule *s)
{
    struct span vectors[RANKS_MAX];
    s->chunks = 1;
    if (s->rank != s->root) {
        schedule_send(s, s->root, 0, 1, span_send());
        return;
    }
    for (int rank = 0; rank < s->size; rank++) {
        vectors[rank] = rank == s->root ? span_send() : span_scratch(rank, 0);
        if (rank != s->root)
            schedule_recv(s, rank, 0, 1, vectors[rank]);
    }
    schedule_reduce(s, 0, 1, vectors, s->size, span_recv());
    schedule_mark_finished(s);
}

static inline void textbook_linear_scatter(struct schedule *s)
{
    s->chunks = s->size;
    for (int rank = 0; rank < s->size && s->rank == s->root; rank++) {
        if (rank != s->root)
            schedule_send(s, rank, rank, 1, span_send());
    }
    if (s->rank == s->root)
        schedule_copy(s, s->rank, 1, span_send(), span_recv());
    else
        schedule_recv(s, s->root, s->rank, 1, span_recv());
}

static inline void textbook_pairwise_all_to_all(struct schedule *s)
{
    int n = s->size, me = s->rank;
    s->chunks = n * n;
    schedule_copy(s, me * n + me, 1, span_send(), span_recv());
    for (int k = 1; k < n; k++) {
        schedule_send(s, ring_at(s, k), me * n + ring_at(s, k), 1, span_send());
        schedule_recv(s, ring_at(s, -k), ring_at(s, -k) * n + me, 1, span_recv());
    }
}

static inline void textbook_dissemination_barrier(struct schedule *s)
{
    s->chunks = 1;
    for (int distance = 1, slot = 0; distance < s->size; distance *= 2, slot++) {
        schedule_send(s, ring_at(s, distance), 0, 1, span_send());
        schedule_recv(s, ring_at(s, -distance), 0, 1, span_scratch(slot, 0));
    }
}

#endif
