/* Ranks as threads over one arena, for ThreadSanitizer: it sees one memory where ranks of their own processes
 * have a mapping each.  Random calls, as in tests/sim/shared_calls.h; ranks that wait spin, yield or sleep,
 * and one that sleeps wakes only when its bell rings, within a time that no other reason explains.
 *
 * TUTTI_TEST_SEED=... repeats a run. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "tests/sim/shared_calls.h"

#define CALLS      100
#define RANKS_MAX  5
#define YIELDS_MAX 40
#define BELL_MS    60000 /* a bell that has not rung by then never will */

struct rank {
    int index, bell;
    struct arena *arena;
    uint64_t random;
    struct direct direct;
    int aborts_at; /* call; -1: never */
    int status;    /* of the last call */
    struct tutti_error error;
};

static struct shared_call calls[CALLS];
static struct rank ranks[RANKS_MAX];
static int count;
static uint64_t seed;

static _Noreturn void stop(const struct rank *rank, int call, const char *what)
{
    fprintf(stderr,
            "rank %d of %d, call %d, operation %d, %llu elements of type %d: %s (TUTTI_TEST_SEED=%llu)\n",
            rank->index, count, call, calls[call].call.operation, (unsigned long long)calls[call].call.count,
            calls[call].call.type, what, (unsigned long long)seed);
    exit(1);
}

static void ring(void *context, int index)
{
    (void)context;
    eventfd_write(ranks[index].bell, 1);
}

/* After a turn in which nothing could be done.  true: it has said that it sleeps, and must look once more. */
static bool rest(struct rank *rank, int call, int turn, bool said)
{
    struct pollfd bell = {.fd = rank->bell, .events = POLLIN};
    eventfd_t rings;
    if (said) {
        if (poll(&bell, 1, BELL_MS) != 1)
            stop(rank, call, "nobody has rung the bell of a rank that sleeps");
        eventfd_read(rank->bell, &rings);
        arena_wake(rank->arena);
        return false;
    }
    if (turn % YIELDS_MAX < (int)draw(&rank->random, YIELDS_MAX)) {
        sched_yield();
        return false;
    }
    arena_fall_asleep(rank->arena);
    return true;
}

static void make_call(struct rank *rank, int number)
{
    const struct shared_call *c = &calls[number];
    struct operation *operation = &rank->direct.operation;
    struct shared_side side;
    bool said = false;
    side_take(&side, c, rank->index, &rank->random);
    side_fill(&side, c, rank->index);
    direct_init(&rank->direct, rank->arena, &c->call, side.sends, side.receives, c->root);
    direct_start(&rank->direct, (uint64_t)number + 1, 0, INT64_MAX);
    for (int turn = 0; (rank->status = operation->progress(operation, &rank->error)) == TUTTI_PENDING; turn++)
        if (operation->wait.from >= 0)
            said = rest(rank, number, turn, said);
    arena_wake(rank->arena);
    const char *fault = side_fault(&side, c, rank->index);
    if (rank->status == TUTTI_OK && fault)
        stop(rank, number, fault);
    side_scribble(&side);
    side_release(&side);
}

static void *rank_main(void *argument)
{
    struct rank *rank = argument;
    for (int i = 0; i < CALLS && rank->status == TUTTI_OK; i++) {
        if (i == rank->aborts_at) {
            arena_abort(rank->arena);
            return NULL;
        }
        make_call(rank, i);
    }
    return NULL;
}

/* `aborter`: the rank that leaves in the middle; -1: none does. */
static void run(int size, int aborter)
{
    pthread_t threads[RANKS_MAX];
    int names[RANKS_MAX];
    uint64_t random = seed + (uint64_t)size;
    size_t bytes = arena_bytes(size);
    uint8_t *memory = aligned_alloc(ARENA_PAGE_BYTES, bytes);
    if (!memory)
        exit(1);
    memset(memory, 0, bytes);
    arena_format(memory, size, 1);
    count = size;
    for (int i = 0; i < CALLS; i++)
        shared_call_draw(&calls[i], &random, size, false);
    for (int i = 0; i < size; i++)
        names[i] = i;
    for (int i = 0; i < size; i++) {
        const struct arena_options options = {.memory = memory,
                                              .count = size,
                                              .index = i,
                                              .ranks = names,
                                              .names = names,
                                              .kernels = reduce_table(),
                                              .ring = ring};
        ranks[i] = (struct rank){.index = i,
                                 .bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                                 .arena = arena_new(&options),
                                 .random = seed + (uint64_t)i,
                                 .aborts_at = i == aborter ? (int)draw(&random, CALLS) : -1};
        if (!ranks[i].arena || ranks[i].bell < 0)
            exit(1);
        ranks[i].arena->spins = (int)draw(&random, 3) * 20;
        ranks[i].arena->further_spins = (int)draw(&random, 3) * 20;
        arena_runs_on(ranks[i].arena, (int)draw(&random, 2));
    }
    for (int i = 0; i < size; i++)
        if (pthread_create(&threads[i], NULL, rank_main, &ranks[i]) != 0)
            exit(1);
    for (int i = 0; i < size; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < size; i++) {
        if (ranks[i].status != TUTTI_OK && (aborter < 0 || ranks[i].status != TUTTI_ERR_ABORTED))
            stop(&ranks[i], 0, tutti_error_name(ranks[i].status));
        close(ranks[i].bell);
        arena_free(ranks[i].arena);
    }
    for (int i = 0; i < CALLS; i++)
        shared_call_free(&calls[i]);
    free(memory);
    printf("ok: %d calls of %d ranks%s\n", CALLS, size, aborter < 0 ? "" : ", of which one left");
}

int main(void)
{
    const char *given = getenv("TUTTI_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("TUTTI_TEST_SEED=%llu\n", (unsigned long long)seed);
    inputs_make();
    for (int size = 2; size <= RANKS_MAX; size++)
        run(size, -1);
    for (int size = 2; size <= RANKS_MAX; size++)
        run(size, size / 2);
    return 0;
}
