#include "tests/sim/fault/plan.h"

#include <string.h>

/* All calls of a queue must come through in a part of their deadline, also where the network is slow, its
 * pipes are narrow, and the algorithm has everybody send everything to everybody. */
#define DEADLINE_SHARE 24

static uint32_t count_limit(const struct simulation *sim, int size)
{
    const struct network *network = &sim->network;
    int64_t trips = sim->options.call_timeout_ms * NS_PER_MS / DEADLINE_SHARE / (2 * network->delay_max_ns);
    int64_t bytes = (trips - 4 * size) * network->capacity / size;
    return bytes < 8 * size ? (uint32_t)size : (uint32_t)(bytes / 8 < 100000 ? bytes / 8 : 100000);
}

static uint32_t draw_count(const struct simulation *sim, uint64_t *random, int operation, int size)
{
    int plain = operation_plain(operation);
    uint64_t kind = random_below(random, 100);
    bool whole = plain == TUTTI_ALL_REDUCE || plain == TUTTI_REDUCE || plain == TUTTI_BROADCAST;
    uint32_t slice = sim->options.slice_bytes / 8, parts = whole ? 1 : (uint32_t)size;
    uint32_t limit = count_limit(sim, size) / parts;
    if (kind < 8)
        return 0;
    if (kind < 55)
        return 1 + (uint32_t)random_below(random, (uint64_t)size + 2);
    uint32_t slices = kind < 90 ? 4 : 20;
    uint32_t count = (1 + (uint32_t)random_below(random, slices * slice)) / parts;
    count = count < limit ? count : limit;
    return count > 0 ? count : 1;
}

int plan_length(uint64_t seed, uint32_t generation)
{
    uint64_t random = seed * 1000003 + generation * 7919 + 17;
    uint64_t most = generation > 1 ? 6 : random_chance(&random, 60) ? CALLS_MAX : 6;
    return (int)random_below(&random, most + 1);
}

static void draw_exchange(struct planned_call *call, uint64_t *random, int size)
{
    call->operation = TUTTI_SEND;
    call->way = (uint8_t)random_below(random, 3);
    call->letters = (uint8_t)(1 + random_below(random, LETTERS_MAX));
    call->root = (uint32_t)random_below(random, (uint64_t)size);
}

static void draw_collective(const struct simulation *sim, struct planned_call *call, uint64_t *random,
                            int size)
{
    static const uint8_t operations[] = {
        TUTTI_ALL_REDUCE,       TUTTI_ALL_REDUCE, TUTTI_ALL_REDUCE, TUTTI_ALL_REDUCE,
        TUTTI_BROADCAST,        TUTTI_BROADCAST,  TUTTI_ALL_GATHER, TUTTI_ALL_GATHER,
        TUTTI_REDUCE_SCATTER,   TUTTI_REDUCE,     TUTTI_REDUCE,     TUTTI_BARRIER,
        TUTTI_GATHER,           TUTTI_SCATTER,    TUTTI_ALL_TO_ALL, TUTTI_ALL_GATHER_V,
        TUTTI_REDUCE_SCATTER_V, TUTTI_GATHER_V,   TUTTI_SCATTER_V,  TUTTI_ALL_TO_ALL_V};
    static const uint8_t reductions[] = {TUTTI_SUM, TUTTI_SUM, TUTTI_SUM,
                                         TUTTI_MIN, TUTTI_MAX, TUTTI_PREMULTIPLIED_SUM};
    call->operation = operations[random_below(random, sizeof operations)];
    call->pick = random_chance(random, 30) ? 0 : 1 + (unsigned)random_below(random, 64);
    call->type = random_chance(random, 50) ? TUTTI_INT64 : TUTTI_FLOAT32;
    call->root = operation_has_root(call->operation) ? (uint32_t)random_below(random, (uint64_t)size) : 0;
    if (operation_reduces(call->operation))
        call->reduction = reductions[random_below(random, sizeof reductions)];
    if (call->reduction == TUTTI_PREMULTIPLIED_SUM)
        call->type = TUTTI_FLOAT32;
    call->inexact = sim->options.deterministic && call->type == TUTTI_FLOAT32 && call->reduction == TUTTI_SUM;
    if (call->operation != TUTTI_BARRIER)
        call->count = draw_count(sim, random, call->operation, size);
    call->in_place = random_chance(random, 30) && call->operation != TUTTI_ALL_TO_ALL_V;
}

int plan_make(const struct simulation *sim, uint32_t generation, int size,
              struct planned_call plan[CALLS_MAX])
{
    uint64_t random = sim->seed * 7919 + generation;
    int length = plan_length(sim->seed, generation);
    for (int i = 0; i < length; i++) {
        struct planned_call *call = &plan[i];
        *call = (struct planned_call){.salt = (uint64_t)i * 31 + generation, .type = TUTTI_INT64};
        if (sim->options.messages && random_chance(&random, 35)) {
            draw_exchange(call, &random, size);
            call->count = draw_count(sim, &random, TUTTI_ALL_GATHER, size);
        } else {
            draw_collective(sim, call, &random, size);
        }
        call->asynchronous = random_chance(&random, 20);
    }
    return length;
}

/* ---- Algorithms -------------------------------------------------------------------------------- */

static bool is_eligible(const struct planned_call *planned, const struct select_group *group,
                        const struct algorithm *algorithm)
{
    const struct select_call call = {.operation = planned->operation};
    return select_is_eligible(group, &call, algorithm);
}

const char *plan_algorithm(const struct planned_call *planned, const struct select_group *group)
{
    unsigned eligible = 0;
    bool is_shared = group->shared && algorithm_shared(planned->operation);
    if (planned->pick == 0 || (is_shared && planned->pick % 2 == 0)) /* which is what is chosen then */
        return NULL;
    for (size_t i = 0; i < algorithm_places; i++)
        eligible += is_eligible(planned, group, algorithm_at(i));
    unsigned which = planned->pick % eligible;
    for (size_t i = 0; i < algorithm_places; i++)
        if (is_eligible(planned, group, algorithm_at(i)) && which-- == 0)
            return algorithm_at(i)->name;
    return NULL;
}

const char *plan_other_algorithm(const struct planned_call *planned, const struct select_group *group,
                                 const char *name)
{
    for (size_t i = 0; i < algorithm_places; i++)
        if (is_eligible(planned, group, algorithm_at(i)) &&
            (!name || strcmp(algorithm_at(i)->name, name) != 0))
            return algorithm_at(i)->name;
    return NULL;
}
