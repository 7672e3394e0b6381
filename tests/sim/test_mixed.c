/* Mixed collectives among virtual ranks of several hosts: an arena in ordinary memory for each host, virtual
 * links between all, and seeds that draw the calls and who gets a turn when.  TUTTI_TEST_SEED and
 * TUTTI_TEST_SEEDS choose the first seed and how many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>
#include "algorithm/algorithm.h"
#include "local/mixed.h"
#include "tensor/type.h"
#include "tests/sim/virtual_mesh.h"

#define CALLS     24
#define KINDS     3 /* of algorithms */
#define GUARD     32
#define TURNS_MAX 20000000
#define BYTES_MAX 400000
#define VALUES    8 /* below it, so that sums of all ranks are exact in every type */

struct call {
    struct fingerprint print;
    const struct algorithm *algorithm;
    uint64_t seed;
    size_t bytes;
    uint8_t *expected;
};

struct rank {
    struct arena *arena;
    struct schedule *schedules[KINDS];
    struct mixed mixed;
    void *scratch;
    uint8_t *send, *recv;
    int next; /* call: under way, or to be made next */
    bool under_way;
};

struct world {
    struct sim sim; /* links and their groups */
    uint64_t random;
    int hosts, each, host_of[RANKS_MAX], calls_count;
    uint8_t *memory[RANKS_MAX]; /* by host */
    struct rank ranks[RANKS_MAX];
    struct call calls[CALLS];
    int guilty; /* rank whose last call is another one; -1: none */
    struct call other;
};

static uint64_t first_seed;
static int seeds;

static size_t draw(uint64_t *random, size_t below)
{
    return (size_t)(sim_random(random) % below);
}

static const struct algorithm *algorithm_of_kind(int kind)
{
    return algorithm_at(algorithm_count + (size_t)kind);
}

/* ---- Calls ------------------------------------------------------------------------------------- */

static void put_value(int type, void *at, unsigned value)
{
    float single = (float)value;
    double twice = value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    switch (type) {
    case TUTTI_FLOAT32:
        memcpy(at, &single, sizeof single);
        break;
    case TUTTI_FLOAT64:
        memcpy(at, &twice, sizeof twice);
        break;
    case TUTTI_BFLOAT16:
        bits >>= 16;
        memcpy(at, &bits, 2);
        break;
    case TUTTI_INT32:
        memcpy(at, &value, sizeof value);
        break;
    default:
        *(uint8_t *)at = (uint8_t)value;
        break;
    }
}

static void fill_input(const struct call *c, int rank, uint8_t *target)
{
    uint64_t state = c->seed + (uint64_t)rank;
    for (size_t i = 0; i < c->print.count; i++)
        put_value(c->print.type, target + i * type_size(c->print.type),
                  (unsigned)(sim_random(&state) % VALUES));
}

/* All inputs reduced in the order of the ranks, which here gives the same as any other. */
static void expect_result(struct call *c, int size)
{
    const struct reduce_table *kernels = reduce_table_scalar();
    const void *sources[RANKS_MAX];
    uint8_t *inputs = malloc((size_t)size * c->bytes + 1);
    c->expected = malloc(c->bytes + 1);
    assert_true(inputs && c->expected);
    for (int rank = 0; rank < size; rank++) {
        fill_input(c, rank, inputs + (size_t)rank * c->bytes);
        sources[rank] = inputs + (size_t)rank * c->bytes;
    }
    if (c->print.count > 0)
        reduce_many(kernels, c->print.type, c->print.reduction, c->expected, sources, size, c->print.count);
    if (c->print.count > 0 && c->print.reduction == TUTTI_AVG)
        kernels->divide[c->print.type](c->expected, c->print.count, size);
    free(inputs);
}

/* Vectors of few elements, of one piece for each rank, and of several rounds. */
static size_t draw_bytes(uint64_t *random)
{
    switch (draw(random, 4)) {
    case 0:
        return draw(random, 100);
    case 1:
        return draw(random, BYTES_MAX);
    default:
        return draw(random, 20000);
    }
}

static void draw_call(struct world *w, struct call *c)
{
    static const uint8_t types[] = {TUTTI_FLOAT32, TUTTI_FLOAT64, TUTTI_BFLOAT16, TUTTI_INT32, TUTTI_UINT8};
    static const uint8_t reductions[] = {TUTTI_SUM, TUTTI_MAX, TUTTI_AVG};
    *c = (struct call){.algorithm = algorithm_of_kind((int)draw(&w->random, KINDS)),
                       .seed = sim_random(&w->random)};
    c->print = (struct fingerprint){.operation = (uint8_t)c->algorithm->operation,
                                    .algorithm = c->algorithm->number};
    if (c->print.operation == TUTTI_BARRIER)
        return;
    do {
        c->print.type = types[draw(&w->random, sizeof types)];
        c->print.reduction = reductions[draw(&w->random, sizeof reductions)];
    } while (!type_takes(c->print.type, c->print.reduction));
    c->print.count = draw_bytes(&w->random) / type_size(c->print.type);
    c->bytes = c->print.count * type_size(c->print.type);
    expect_result(c, w->sim.size);
}

static struct call *call_of(struct world *w, int rank)
{
    int next = w->ranks[rank].next;
    return rank == w->guilty && next == w->calls_count - 1 ? &w->other : &w->calls[next];
}

/* ---- Making it --------------------------------------------------------------------------------- */

static void ring_nothing(void *context, int index)
{
    (void)context, (void)index;
}

static void make_host(struct world *w, int host)
{
    int ranks[RANKS_MAX];
    w->memory[host] = aligned_alloc(ARENA_PAGE_BYTES, arena_bytes(w->each));
    assert_non_null(w->memory[host]);
    memset(w->memory[host], 0, arena_bytes(w->each));
    arena_format(w->memory[host], w->each, 1);
    for (int i = 0; i < w->each; i++)
        ranks[i] = host * w->each + i;
    for (int i = 0; i < w->each; i++)
        w->ranks[ranks[i]].arena = arena_new(&(struct arena_options){.memory = w->memory[host],
                                                                     .count = w->each,
                                                                     .index = i,
                                                                     .ranks = ranks,
                                                                     .names = ranks,
                                                                     .kernels = reduce_table(),
                                                                     .ring = ring_nothing});
}

static struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->random = seed;
    w->guilty = -1;
    w->hosts = 2 + (int)draw(&w->random, 3);
    w->each = 2 + (int)draw(&w->random, 3);
    w->calls_count = 2 + (int)draw(&w->random, CALLS - 1);
    sim_init(&w->sim, seed, w->hosts * w->each);
    for (int rank = 0; rank < w->sim.size; rank++)
        w->host_of[rank] = rank / w->each;
    const struct host_map map = {w->hosts, w->host_of};
    for (int host = 0; host < w->hosts; host++)
        make_host(w, host);
    for (int rank = 0; rank < w->sim.size; rank++)
        for (int kind = 0; kind < KINDS; kind++) {
            const struct algorithm *a = algorithm_of_kind(kind);
            w->ranks[rank].schedules[kind] =
                schedule_new(a->operation, a->name, a->emit, rank, w->sim.size, 0, &map);
            assert_non_null(w->ranks[rank].schedules[kind]);
        }
    for (int i = 0; i < w->calls_count; i++)
        draw_call(w, &w->calls[i]);
    return w;
}

static void release_buffers(struct rank *r)
{
    free(r->scratch);
    free(r->recv);
    if (r->send != r->recv)
        free(r->send);
    r->scratch = r->send = r->recv = NULL;
}

static void world_free(struct world *w)
{
    for (int rank = 0; rank < w->sim.size; rank++) {
        release_buffers(&w->ranks[rank]);
        for (int kind = 0; kind < KINDS; kind++)
            schedule_free(w->ranks[rank].schedules[kind]);
        arena_free(w->ranks[rank].arena);
    }
    for (int host = 0; host < w->hosts; host++)
        free(w->memory[host]);
    for (int i = 0; i < w->calls_count; i++)
        free(w->calls[i].expected);
    free(w->other.expected);
    sim_free(&w->sim);
    free(w);
}

/* ---- Turns ------------------------------------------------------------------------------------- */

static void begin_call(struct world *w, int rank)
{
    struct rank *r = &w->ranks[rank];
    const struct call *c = call_of(w, rank);
    const struct schedule *schedule = r->schedules[algorithm_place(c->algorithm) - algorithm_count];
    r->recv = malloc(c->bytes + GUARD);
    r->send = draw(&w->random, 2) ? r->recv : malloc(c->bytes + GUARD);
    assert_true(r->recv && r->send);
    memset(r->recv, 0xA5, c->bytes + GUARD);
    fill_input(c, rank, r->send);
    const struct executor_buffers buffers = {.send = r->send, .recv = r->recv, .count = c->print.count};
    r->scratch =
        aligned_alloc(64, (executor_scratch_bytes(schedule, &c->print, &buffers) + 64) & ~(size_t)63);
    assert_non_null(r->scratch);
    memset(&r->mixed, 0x5a, sizeof r->mixed);
    mixed_init(&r->mixed, r->arena, &w->sim.groups[rank], schedule, &c->print, &buffers, r->scratch);
    mixed_start(&r->mixed, (uint64_t)r->next + 1, 0, INT64_MAX);
    r->under_way = true;
}

static void end_call(struct world *w, int rank)
{
    struct rank *r = &w->ranks[rank];
    const struct call *c = call_of(w, rank);
    if (c->bytes > 0 && memcmp(r->recv, c->expected, c->bytes) != 0)
        fail_msg(
            "the result of call %d by %s on rank %d of %d x %d is wrong: type %d, reduction %d, count %zu",
            r->next, c->algorithm->name, rank, w->hosts, w->each, c->print.type, c->print.reduction,
            (size_t)c->print.count);
    for (int i = 0; i < GUARD; i++)
        assert_int_equal(r->recv[c->bytes + (size_t)i], 0xA5);
    for (int other = 0; c->print.operation == TUTTI_BARRIER && other < w->sim.size; other++)
        if (w->ranks[other].next < r->next || (w->ranks[other].next == r->next && !w->ranks[other].under_way))
            fail_msg("barrier %d let rank %d go before rank %d had come", r->next, rank, other);
    memset(r->recv, 0xDD, c->bytes);
    release_buffers(r);
    r->under_way = false;
    r->next++;
}

/* As the engine does it.  TUTTI_PENDING, TUTTI_OK when the rank has made all calls, or an error. */
static int take_turn(struct world *w, int rank, struct tutti_error *error)
{
    struct rank *r = &w->ranks[rank];
    struct operation *operation = &r->mixed.operation;
    int index, status = TUTTI_PENDING;
    if (r->next == w->calls_count)
        return TUTTI_OK;
    if (!r->under_way)
        begin_call(w, rank);
    if (!operation->begun)
        operation->begun = arena_begin(r->arena, operation->sequence, &operation->call, true, &index);
    if (operation->begun)
        status = operation->progress(operation, error);
    if (status == TUTTI_OK)
        end_call(w, rank);
    return status < 0 ? status : TUTTI_PENDING;
}

/* Until all have made all calls, or the first error. */
static int world_run(struct world *w, struct tutti_error *error)
{
    int left = w->sim.size;
    for (long turns = 0; left > 0; turns++) {
        assert_true(turns < TURNS_MAX);
        int rank = (int)draw(&w->random, (size_t)w->sim.size), status = take_turn(w, rank, error);
        if (status < 0 && status != TUTTI_PENDING)
            return status;
        left = 0;
        for (int other = 0; other < w->sim.size; other++)
            left += w->ranks[other].next < w->calls_count;
    }
    return TUTTI_OK;
}

/* ---- Tests --------------------------------------------------------------------------------------- */

static void every_rank_gets_the_result_whoever_is_late(void **state)
{
    (void)state;
    for (int i = 0; i < seeds; i++) {
        struct tutti_error error = TUTTI_ERROR_INIT;
        struct world *w = world_new(first_seed + (uint64_t)i);
        int status = world_run(w, &error);
        if (status != TUTTI_OK)
            fail_msg("seed %llu: %s", (unsigned long long)first_seed + (unsigned)i, error.message);
        world_free(w);
    }
}

/* The ranks of its host see it in the arena, those with its place on other hosts in a frame. */
static void a_rank_that_makes_another_call_is_noticed(void **state)
{
    (void)state;
    for (int i = 0; i < seeds; i++) {
        struct tutti_error error = TUTTI_ERROR_INIT;
        struct world *w = world_new(first_seed + (uint64_t)i);
        struct call *last = &w->calls[w->calls_count - 1];
        do {
            free(w->other.expected);
            draw_call(w, &w->other);
        } while (fingerprint_equal(&w->other.print, &last->print));
        w->guilty = (int)draw(&w->random, (size_t)w->sim.size);
        int status = world_run(w, &error);
        if (status != TUTTI_ERR_MISMATCH)
            fail_msg("seed %llu: %s, %s", (unsigned long long)first_seed + (unsigned)i,
                     tutti_error_name(status), error.message);
        assert_non_null(strstr(error.message, "every rank must"));
        world_free(w);
    }
}

int main(void)
{
    const char *seed = getenv("TUTTI_TEST_SEED"), *count = getenv("TUTTI_TEST_SEEDS");
    first_seed = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    seeds = count ? atoi(count) : 40;
    print_message("TUTTI_TEST_SEED=%llu\n", (unsigned long long)first_seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_gets_the_result_whoever_is_late),
        cmocka_unit_test(a_rank_that_makes_another_call_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
