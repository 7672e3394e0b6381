/* What the direct collectives share: waiting for other ranks, the slots, the pieces of a round; and the table
 * of all. */
#ifndef TUTTI_LOCAL_COLLECTIVE_H
#define TUTTI_LOCAL_COLLECTIVE_H

#include <string.h>
#include "base/copy.h"
#include "base/relax.h"
#include "local/direct.h"
#include "tensor/chunk.h"

#define HALF_BYTES          (ARENA_SLOT_BYTES / 2)
#define OUTPUT_STREAMED_MIN (8u << 20) /* of a rank; more does not stay in its share of the caches anyway */

extern const struct direct_collective shared_barrier, shared_all_reduce_small, shared_all_reduce_exchange,
    shared_all_reduce, shared_reduce_scatter, shared_all_gather_small, shared_all_gather,
    shared_broadcast_small, shared_broadcast, shared_gather_small, shared_gather, shared_arrival,
    shared_release;
extern const struct direct_collective symmetric_all_reduce, symmetric_reduce_scatter, symmetric_all_gather,
    symmetric_broadcast, symmetric_gather;

/* Of a large vector that goes by rounds: elements of one piece, each rank having one in each round. */
struct round_pieces {
    size_t begin; /* the first element of the round */
    size_t count; /* elements of the round */
    size_t each;  /* of a piece; those at the end may be shorter */
};

/* Which of the others rank `index` is, as rank `own` counts them. */
static inline int index_among_others(int own, int index)
{
    return index < own ? index : index - 1;
}

/* ---- Waiting ----------------------------------------------------------------------------------- */

/* The spins are used up, and another rank has not come to `position`: a few more?  Not where a rank that has
 * to come there waits for this core. */
bool direct_looks_on(struct direct *d, uint64_t position);

/* Looks until rank `index` has finished its first `actions` actions, or the spins are used up. */
static inline bool direct_await(struct direct *d, int index, uint32_t actions)
{
    struct arena *arena = d->arena;
    const struct arena_call_line *line = arena_line(arena, index, d->base);
    const uint64_t target = d->base + d->first + actions;
    while ((int64_t)(atomic_load(&line->position) - target) < 0) {
        if (d->spins-- <= 0 && !direct_looks_on(d, target)) {
            d->waits_for = index;
            return false;
        }
        cpu_relax();
    }
    if (line->digest == arena->digest)
        return true;
    d->waits_for = index; /* for ever: direct.c finds the mismatch */
    return false;
}

static inline bool direct_await_others(struct direct *d, uint32_t actions)
{
    for (int i = 0; i < d->arena->count; i++)
        if (i != d->arena->index && !direct_await(d, i, actions))
            return false;
    return true;
}

/* ---- Memory ------------------------------------------------------------------------------------ */

/* Before the first write to a slot: does nobody read there any more?  Calls take turns with the two halves,
 * so it is the call before the last that others must have finished, whichever ranks wrote in it. */
static inline bool direct_claim_slots(struct direct *d)
{
    return d->claim == 0 || arena_have_begun(d->arena, d->claim + 1, &d->waits_for);
}

/* Of one rank's slots, those that it shares with one other. */
static inline size_t pair_bytes(const struct direct *d)
{
    return HALF_BYTES / ((size_t)d->arena->count - 1) / ARENA_LINE_BYTES * ARENA_LINE_BYTES;
}

/* The slots between two ranks.  Number `number` of them holds what rank `from` says to rank `to` in this
 * call.
 *
 * Where it lies is what makes slots fast.  A core that writes a cache line which it wrote before and another
 * core has read since waits for the other's copy to go, several nanoseconds for each line, whatever the
 * instruction; one that it has itself read last, after the other wrote it, it has already: several times as
 * fast (docs/shared-memory.md).  So each rank writes where it has read last: the two slots of a pair change
 * sides whenever both have used them, direct_turn_slots(), or the answer goes back in the slot of the
 * question. */
static inline uint8_t *direct_slot(const struct direct *d, int from, int to, uint32_t number)
{
    bool turned = (d->arena->turned[d->half] >> number & 1) != 0;
    int owner = turned ? to : from, other = turned ? from : to;
    size_t place = (size_t)index_among_others(owner, other) * pair_bytes(d) + number * d->piece_bytes;
    return d->arena->slots[owner] + d->half * (size_t)HALF_BYTES + place;
}

/* All ranks have read what they were sent in slots `number`, this one among them. */
static inline void direct_turn_slots(struct direct *d, uint32_t number)
{
    d->arena->turned[d->half] ^= (uint8_t)(1u << number);
}

/* The most that a piece can be where each pair has `depth` slots in either direction. */
static inline size_t piece_bytes_max(const struct direct *d, uint32_t depth)
{
    return pair_bytes(d) / depth / ARENA_LINE_BYTES * ARENA_LINE_BYTES;
}

static inline struct arena_statement *direct_statement(const struct direct *d, int index)
{
    return &d->arena->controls[index]->statements[d->operation.sequence % ARENA_STATEMENTS];
}

static inline uint8_t *direct_payload(const struct direct *d, int index)
{
    return arena_line(d->arena, index, d->base)->payload;
}

static inline const uint8_t *send_at(const struct direct *d, size_t element)
{
    return (const uint8_t *)d->send + element * d->element_bytes;
}

static inline uint8_t *recv_at(const struct direct *d, size_t element)
{
    return (uint8_t *)d->recv + element * d->element_bytes;
}

/* target = sources[0] op sources[1] op ..., one for each rank, in their order; divided where the call asks.
 */
void direct_reduce(const struct direct *d, void *target, const void *const *sources, size_t count);

/* To the caller's output, of which the call writes `total` bytes in all. */
static inline void copy_to_output(void *target, const void *source, size_t bytes, size_t total)
{
    if (total >= OUTPUT_STREAMED_MIN)
        copy_past_caches(target, source, bytes);
    else
        memcpy(target, source, bytes);
}

/* Where rank `index` has its input, or its output, of `count` elements, as this process sees it; all ranks
 * have said that theirs is symmetric memory.  NULL: *error says why. */
const uint8_t *direct_send_of(const struct direct *d, int index, size_t count, struct tutti_error *error);
const uint8_t *direct_recv_of(const struct direct *d, int index, size_t count, struct tutti_error *error);

/* ---- Rounds ------------------------------------------------------------------------------------ */

/* Elements that fill a piece. */
static inline size_t piece_elements(const struct direct *d)
{
    return d->piece_bytes / d->element_bytes;
}

/* The round's part of a vector of `total` elements, which all ranks cut into `pieces` pieces. */
struct round_pieces direct_round(const struct direct *d, size_t total, int pieces, uint32_t round);

/* The first element of piece `index`, from the beginning of the round; and how many. */
static inline size_t piece_begin(const struct round_pieces *round, int index)
{
    size_t begin = (size_t)index * round->each;
    return begin < round->count ? begin : round->count;
}

static inline size_t piece_count(const struct round_pieces *round, int index)
{
    return piece_begin(round, index + 1) - piece_begin(round, index);
}

/* Rounds that overlap: a round is `kinds` actions, of which each comes a turn after the one before, so that
 * turn j has the first of round j, the second of round j - 1, and so on. */
static inline uint32_t overlap_actions(uint32_t kinds, uint32_t rounds)
{
    return (rounds + kinds - 1) * kinds;
}

/* How many actions are done once action `kind` of that round is. */
static inline uint32_t overlap_done(uint32_t kinds, uint32_t kind, uint32_t round)
{
    return (round + kind) * kinds + kind + 1;
}

/* Which round action `action` belongs to, its kind being action % kinds.  false: there is no such round. */
static inline bool overlap_round(const struct direct *d, uint32_t kinds, uint32_t action, uint32_t *round)
{
    uint32_t kind = action % kinds, turn = action / kinds;
    *round = turn - kind;
    return turn >= kind && *round < d->rounds;
}

/* ---- Parts ------------------------------------------------------------------------------------- */

/* A reduce_scatter and an all_gather may follow one another in one call: each rank then writes to the slots
 * that it read last, which asks for the same pieces and as many slots in both. */
#define PART_DEPTH           2 /* rounds for which there are slots */
#define PART_PIECE_BYTES_MAX (64u << 10)

/* The first element of the part of rank `index` in the vector of all. */
static inline size_t part_begin(const struct direct *d, int index)
{
    if (d->cuts == 0)
        return (size_t)index * d->count;
    size_t cuts = (size_t)d->cuts;
    return chunk_begin(d->count, (size_t)d->arena->count * cuts, (size_t)index * cuts);
}

static inline size_t part_count(const struct direct *d, int index)
{
    return d->cuts == 0 ? d->count : part_begin(d, index + 1) - part_begin(d, index);
}

/* Sets the pieces and their rounds; the first part is the longest. */
static inline void part_prepare(struct direct *d)
{
    size_t most = piece_bytes_max(d, PART_DEPTH), bytes = part_count(d, 0) * d->element_bytes;
    d->piece_bytes = most < PART_PIECE_BYTES_MAX ? most : PART_PIECE_BYTES_MAX;
    d->rounds = (uint32_t)((bytes + d->piece_bytes - 1) / d->piece_bytes);
}

/* The piece of the part of rank `index` in one round, `begin` being counted from that of the part. */
static inline struct round_pieces part_round(const struct direct *d, int index, uint32_t round)
{
    size_t most = piece_elements(d), total = part_count(d, index), begin = round * most;
    begin = begin < total ? begin : total;
    return (struct round_pieces){begin, total - begin < most ? total - begin : most, most};
}

#endif
