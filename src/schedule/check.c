/* The checker: are the schedules well formed (schedule/shape.h), do they run to their end (schedule/world.h),
 * and does every rank then have what the operation promises? */
#include "schedule/schedule.h"

#include <assert.h>
#include "schedule/shape.h"
#include "schedule/world.h"
#include "tensor/type.h"

/* Slices in a link, for schedules that may need buffers but are known to run. */
#define BUFFER_SLICES 64

/* ---- What is promised -------------------------------------------------------------------------- */

/* The first rank whose output has the chunk: the others must have the same. */
static int first_holder(const struct world *w, int chunk)
{
    int rank = 0;
    while (!shape_has_output(w->processes[rank].schedule, chunk))
        rank++;
    return rank;
}

/* The output must be the finished reduction of every rank's contribution, the same on every rank. */
static bool check_reduced(struct world *w, int rank, int chunk, int value)
{
    const struct expressions *e = &w->expressions;
    if (e->list[value].kind != EXPRESSION_FINISHED)
        return world_fail(w, "rank %d ends with chunk %d not finished", rank, chunk);
    int missing = expression_missing_rank(e, value, w->size);
    if (missing >= 0)
        return world_fail(w, "rank %d ends with chunk %d without the contribution of rank %d", rank, chunk,
                          missing);
    int first = first_holder(w, chunk);
    if (value != world_output(w, first, chunk, 0))
        return world_fail(w, "ranks %d and %d reduce chunk %d in different orders", first, rank, chunk);
    return true;
}

/* The rank whose contribution the chunk is, where nothing is reduced. */
static int origin_of(const struct schedule *s, int chunk)
{
    switch (s->operation) {
    case TUTTI_BROADCAST:
    case TUTTI_SCATTER:
        return s->root;
    case TUTTI_ALL_TO_ALL:
        return chunk / s->size;
    default:
        return chunk;
    }
}

static bool check_output(struct world *w, int rank, int chunk, int slice)
{
    const struct schedule *s = w->processes[rank].schedule;
    int value = world_output(w, rank, chunk, slice);
    if (value == NOTHING)
        return world_fail(w, "rank %d ends without chunk %d", rank, chunk);
    const struct expression *found = &w->expressions.list[value];
    if (found->chunk != chunk)
        return world_fail(w, "rank %d ends with chunk %d where chunk %d belongs", rank, found->chunk, chunk);
    if (operation_reduces(s->operation))
        return check_reduced(w, rank, chunk, value);
    int origin = origin_of(s, chunk);
    if (found->kind != EXPRESSION_LEAF || found->left != origin)
        return world_fail(w, "rank %d ends with a chunk %d that is not what rank %d sent", rank, chunk,
                          origin);
    return true;
}

static bool check_barrier(struct world *w)
{
    for (int rank = 0; rank < w->size; rank++) {
        for (int other = 0; other < w->size; other++) {
            if (!world_knows(w, rank, other))
                return world_fail(w, "rank %d leaves the barrier without news of rank %d", rank, other);
        }
    }
    return true;
}

static bool check_promise(struct world *w)
{
    if (w->processes[0].schedule->operation == TUTTI_BARRIER)
        return check_barrier(w);
    for (int rank = 0; rank < w->size; rank++) {
        const struct schedule *s = w->processes[rank].schedule;
        for (int i = 0; i < s->chunks * w->slices; i++) {
            int chunk = i / w->slices;
            if (shape_has_output(s, chunk) && !check_output(w, rank, chunk, i % w->slices))
                return false;
        }
    }
    return true;
}

/* ---- The order of the ranks -------------------------------------------------------------------- */

/* The chunk of all ranks, reduced in their order by one step and finished; -1 when out of memory. */
static int rank_order_value(struct world *w, int chunk)
{
    struct expressions *e = &w->expressions;
    int value = expression_leaf(e, 0, chunk);
    for (int rank = 1; rank < w->size && value >= 0; rank++) {
        int leaf = expression_leaf(e, rank, chunk);
        if (leaf < 0)
            return -1;
        value = w->size == 2 ? expression_reduction(e, value, leaf) : expression_accumulation(e, value, leaf);
    }
    if (w->size > 2 && value >= 0)
        value = expression_rounded(e, value);
    return value < 0 ? -1 : expression_finished(e, value);
}

static bool check_rank_order(struct world *w)
{
    if (!operation_reduces(w->processes[0].schedule->operation))
        return true;
    for (int chunk = 0; chunk < w->processes[0].schedule->chunks; chunk++) {
        int first = first_holder(w, chunk), value = rank_order_value(w, chunk);
        if (value < 0)
            return world_fail_memory(w);
        if (world_output(w, first, chunk, 0) != value)
            return world_fail(w, "rank %d does not reduce chunk %d in the order of the ranks in one step",
                              first, chunk);
    }
    return true;
}

/* ---- Runs -------------------------------------------------------------------------------------- */

/* Do the schedules keep the promise, out of place and where there is such a thing in place? */
static bool run(struct schedule *const *ranks, int size, int slices, int queue,
                bool (*promise)(struct world *w), char *why, size_t why_size)
{
    int places = ranks[0]->operation == TUTTI_ALL_TO_ALL ? 1 : 2;
    bool valid = true;
    for (int in_place = 0; in_place < places && valid; in_place++) {
        struct world w;
        valid = world_init(&w, ranks, size, slices, queue, in_place, why, why_size) && world_run(&w) &&
                promise(&w);
        world_clean_up(&w);
    }
    return valid;
}

bool schedule_check(struct schedule *const *ranks, int size, int slices, int queue, char *why,
                    size_t why_size)
{
    assert(size >= 1 && slices >= 1 && queue >= 0);
    return shape_check(ranks, size, why, why_size) &&
           run(ranks, size, slices, queue, check_promise, why, why_size);
}

bool schedule_check_rank_order(struct schedule *const *ranks, int size, char *why, size_t why_size)
{
    return run(ranks, size, 1, BUFFER_SLICES, check_rank_order, why, why_size);
}
