/* What symmetric memory could do at best: an all_reduce of float32, in place, between two processes whose
 * vectors both lie in memory that the two share, and nothing else: no calls to be compared, no types, no
 * waiting but spinning.  tutti's own symmetric memory is measured by how near it comes.
 *
 *     pull_limit                  prints a table, in about 15 s
 *     pull_limit DIR MAX_BYTES    takes part in `tutti bench --vs limit`; see src/tools/bench_reply.h
 *
 * Short vectors: each rank adds up both whole vectors, and replaces its own once both are done reading.  Long
 * ones: each rank adds up its half of both into its own vector, then copies the other half from the peer. */
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tools/bench_serve.h"

#define RANKS           2
#define LINE_BYTES      64
#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define SHORT_BYTES     1024 /* up to here adding up everything is faster than meeting once more */
#define WAIT_SECONDS    60   /* for the peer, before it is taken for dead */

#define TABLE_BYTES_MAX ((size_t)256 << 20)
#define TABLE_ROUNDS    11
#define BATCH_SECONDS   0.005

/* At the beginning of the memory that is shared; one writer for each line. */
struct shared {
    struct {
        alignas(LINE_BYTES) _Atomic uint64_t meetings; /* to which the rank has come */
        double us;                                     /* its time of a call, for the table */
    } ranks[RANKS];
};

_Static_assert(sizeof(struct shared) <= HUGE_PAGE_BYTES, "the vectors begin behind it");

static struct {
    struct shared *shared;
    int rank;
    uint64_t meetings;
    float *own, *peer;
} limit;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- Meeting ------------------------------------------------------------------------------------ */

static void pause_briefly(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

static void give_up_after(double deadline_s)
{
    if (now_s() < deadline_s)
        return;
    fprintf(stderr, "pull_limit: rank %d has waited %d s for the other: is it dead?\n", limit.rank,
            WAIT_SECONDS);
    _exit(EXIT_FAILURE);
}

/* What either has written before, both can read after. */
static void meet(void)
{
    uint64_t meeting = ++limit.meetings;
    double deadline_s = 0;
    atomic_store_explicit(&limit.shared->ranks[limit.rank].meetings, meeting, memory_order_release);
    for (unsigned turn = 1;
         atomic_load_explicit(&limit.shared->ranks[1 - limit.rank].meetings, memory_order_acquire) < meeting;
         turn++) {
        pause_briefly();
        if (turn % (1u << 20) != 0)
            continue;
        if (deadline_s <= 0)
            deadline_s = now_s() + WAIT_SECONDS;
        give_up_after(deadline_s);
    }
}

/* ---- Vectors ------------------------------------------------------------------------------------ */

/* Sixteen at a time: one register of AVX-512, two of AVX2; the compiler makes a variant for each. */
typedef float sixteen __attribute__((vector_size(64), aligned(4), may_alias));

#ifdef __x86_64__
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static void
add(float *target, const float *a, const float *b, size_t count)
{
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        *(sixteen *)(target + i) = *(const sixteen *)(a + i) + *(const sixteen *)(b + i);
    for (; i < count; i++)
        target[i] = a[i] + b[i];
}

/* Vector stores to lines that the peer has read before are up to three times slower than this. */
static void copy(float *target, const float *source, size_t count)
{
#ifdef __x86_64__
    size_t bytes = count * sizeof *target;
    __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(bytes) : : "memory");
#else
    memcpy(target, source, count * sizeof *target);
#endif
}

static void all_reduce_short(size_t count)
{
    alignas(LINE_BYTES) float sums[SHORT_BYTES / sizeof(float)];
    meet();
    add(sums, limit.own, limit.peer, count);
    meet();
    memcpy(limit.own, sums, count * sizeof *sums);
}

static void all_reduce_long(size_t count)
{
    size_t middle = count / 2 / 16 * 16;
    size_t own_from = limit.rank == 0 ? 0 : middle, own_count = limit.rank == 0 ? middle : count - middle;
    size_t peer_from = limit.rank == 0 ? middle : 0, peer_count = count - own_count;
    meet();
    add(limit.own + own_from, limit.own + own_from, limit.peer + own_from, own_count);
    meet();
    copy(limit.own + peer_from, limit.peer + peer_from, peer_count);
    meet();
}

static void all_reduce(size_t count)
{
    if (count <= SHORT_BYTES / sizeof(float))
        all_reduce_short(count);
    else
        all_reduce_long(count);
}

/* ---- As a rival --------------------------------------------------------------------------------- */

static const char *refuse(const struct bench_case *which)
{
    bool is_known = which->operation == TUTTI_ALL_REDUCE && which->type == TUTTI_FLOAT32 &&
                    which->reduction == TUTTI_SUM && which->in_place;
    return is_known ? NULL : "pull_limit knows all_reduce of float32, sum, in place";
}

static void buffers(const struct bench_case *which, uint8_t *first, uint8_t *second, uint8_t **send,
                    uint8_t **recv)
{
    (void)which;
    (void)second;
    *send = *recv = first;
}

static void call(const struct bench_case *which, void *send, void *recv)
{
    (void)send; /* limit.own, as buffers() said */
    (void)recv;
    all_reduce(which->count);
}

static int serve(const char *directory, size_t max_bytes)
{
    struct bench_library library = {.name = "pull limit",
                                    .rank = limit.rank,
                                    .size = RANKS,
                                    .refuse = refuse,
                                    .buffers = buffers,
                                    .call = call,
                                    .barrier = meet,
                                    .first = (uint8_t *)limit.own,
                                    .second = (uint8_t *)limit.own};
    return bench_serve(&library, directory, max_bytes);
}

/* ---- Alone -------------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The mean of a call, of the slower rank. */
static double measure_us(size_t count, int iterations)
{
    meet();
    double begin_s = now_s();
    for (int i = 0; i < iterations; i++)
        all_reduce(count);
    double own_us = (now_s() - begin_s) / iterations * 1e6;
    limit.shared->ranks[limit.rank].us = own_us;
    meet();
    double peer_us = limit.shared->ranks[1 - limit.rank].us;
    meet();
    return own_us > peer_us ? own_us : peer_us;
}

/* Zeros, which stay what they are however often they are added up. */
static int print_table(void)
{
    if (limit.rank == 0)
        printf(
            "all_reduce of float32, 2 ranks, in place, both vectors shared; medians of %d rounds\n%12s%12s\n",
            TABLE_ROUNDS, "bytes", "us");
    for (size_t bytes = 4; bytes <= TABLE_BYTES_MAX; bytes *= 4) {
        double rounds[TABLE_ROUNDS];
        measure_us(bytes / 4, 2);
        double fitting = BATCH_SECONDS * 1e6 / measure_us(bytes / 4, 2);
        int iterations = fitting < 1 ? 1 : (int)fitting;
        for (int i = 0; i < TABLE_ROUNDS; i++)
            rounds[i] = measure_us(bytes / 4, iterations);
        qsort(rounds, TABLE_ROUNDS, sizeof *rounds, compare_doubles);
        if (limit.rank == 0)
            printf("%12zu%12.3f\n", bytes, rounds[TABLE_ROUNDS / 2]);
    }
    return EXIT_SUCCESS;
}

/* ---- Both ranks --------------------------------------------------------------------------------- */

/* For `shared` and a vector for each rank, each of which begins with a huge page of its own; NULL: no memory.
 */
static uint8_t *map_shared(size_t vector_bytes)
{
    size_t bytes = HUGE_PAGE_BYTES + RANKS * vector_bytes;
    int fd = memfd_create("pull_limit", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        return NULL;
    uint8_t *reserved = mmap(NULL, bytes + HUGE_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    uint8_t *aligned = reserved + (HUGE_PAGE_BYTES - (uintptr_t)reserved % HUGE_PAGE_BYTES);
    uint8_t *mapped = mmap(aligned, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED)
        return NULL;
    madvise(mapped, bytes, MADV_HUGEPAGE); /* as well where it does not help */
    return mapped;
}

/* In `directory` are the pipes; NULL: there are none. */
static int work(uint8_t *memory, size_t vector_bytes, int rank, const char *directory, size_t max_bytes)
{
    limit.shared = (struct shared *)memory;
    limit.rank = rank;
    limit.own = (float *)(memory + HUGE_PAGE_BYTES + (size_t)rank * vector_bytes);
    limit.peer = (float *)(memory + HUGE_PAGE_BYTES + (size_t)(1 - rank) * vector_bytes);
    memset(limit.own, 0, vector_bytes); /* touched, so that no page faults are measured */
    meet();
    return directory ? serve(directory, max_bytes) : print_table();
}

int main(int argc, char **argv)
{
    const char *directory = argc == 1 ? NULL : argv[1];
    size_t max_bytes = argc == 1 ? TABLE_BYTES_MAX : bench_serve_max_bytes(argc, argv);
    if (max_bytes == 0)
        return 2;
    size_t vector_bytes = (max_bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    uint8_t *memory = map_shared(vector_bytes);
    if (!memory) {
        perror("pull_limit: no shared memory");
        return EXIT_FAILURE;
    }
    pid_t child = fork();
    if (child < 0) {
        perror("pull_limit: fork");
        return EXIT_FAILURE;
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return work(memory, vector_bytes, 1, directory, max_bytes);
    }
    int status = work(memory, vector_bytes, 0, directory, max_bytes), child_status;
    if (waitpid(child, &child_status, 0) != child || child_status != 0)
        status = EXIT_FAILURE;
    return status;
}
