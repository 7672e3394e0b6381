/* Counts and offsets beyond 2^31, where 32 bits would not do.  Two ranks: tutti run -n 2 -- huge.  Long
 * vectors need memory; where there is too little of it they are skipped, loudly, with status 77. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include "check.h"

#define COUNT (((size_t)1 << 31) + 9) /* elements, of one byte each */
#define BLOCK ((size_t)1 << 20)
#define NEEDED_KIB                                                                                           \
    ((uint64_t)10 << 20) /* two ranks, each a vector and as much for the algorithm, and reserve */
#define EXIT_SKIPPED 77

static tutti_comm *comm;
static int rank, size;
static uint8_t *vector;

/* Address space; only pages that are touched cost memory. */
static void *reserve(size_t bytes)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static uint64_t available_kib(void)
{
    char line[128];
    uint64_t kib = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib;
}

/* ---- Far apart, but short: always ---------------------------------------------------------------- */

/* Parts that lie 2^31 elements of 8 bytes apart. */
static void offsets_are_longer_than_32_bits(void)
{
    const size_t far = COUNT + 3, bytes = (2 * far + 100) * sizeof(int64_t);
    const size_t counts[2] = {5, 7}, apart[2] = {far, 2 * far}, same[2] = {4, 4};
    int64_t *send = reserve(bytes), *recv = reserve(bytes), own[7];
    for (int i = 0; i < 7; i++)
        own[i] = rank * 100 + i;
    OK(comm, tutti_all_gather_v(comm, own, recv, counts, apart, TUTTI_INT64));
    for (int r = 0; r < 2; r++)
        for (size_t i = 0; i < counts[r]; i++)
            CHECK(recv[apart[r] + i] == r * 100 + (int64_t)i);

    for (int r = 0; r < 2; r++)
        for (size_t i = 0; i < 7; i++)
            send[apart[r] + i] = 1000 * rank + 100 * r + (int64_t)i;
    memset(own, 0, sizeof own);
    OK(comm, tutti_scatter_v(comm, send, rank == 1 ? counts : NULL, rank == 1 ? apart : NULL, own,
                             counts[rank], TUTTI_INT64, 1));
    for (size_t i = 0; i < counts[rank]; i++)
        CHECK(own[i] == 1000 + 100 * rank + (int64_t)i);
    OK(comm, tutti_gather_v(comm, own, counts[rank], recv, rank == 0 ? counts : NULL,
                            rank == 0 ? apart : NULL, TUTTI_INT64, 0));
    for (int r = 0; r < 2 && rank == 0; r++)
        CHECK(recv[apart[r] + counts[r] - 1] == 1000 + 100 * r + (int64_t)counts[r] - 1);
    OK(comm, tutti_all_to_all_v(comm, send, same, apart, recv, same, apart, TUTTI_INT64));
    for (int r = 0; r < 2; r++)
        CHECK(recv[apart[r]] == 1000 * r + 100 * rank && recv[apart[r] + 3] == 1000 * r + 100 * rank + 3);
    munmap(send, bytes);
    munmap(recv, bytes);
}

/* ---- Long ---------------------------------------------------------------------------------------- */

/* Each block of the vector has a value of its own. */
static uint8_t value_of(size_t block, int of)
{
    return (uint8_t)(block % 251 + (size_t)of * 7);
}

static void fill(int of)
{
    for (size_t at = 0, block = 0; at < COUNT; at += BLOCK, block++)
        memset(vector + at, value_of(block, of), COUNT - at < BLOCK ? COUNT - at : BLOCK);
}

static void check_vector(bool reduced, int of)
{
    static uint8_t expected[BLOCK];
    for (size_t at = 0, block = 0; at < COUNT; at += BLOCK, block++) {
        uint8_t value = reduced ? (uint8_t)(value_of(block, 0) + value_of(block, 1)) : value_of(block, of);
        memset(expected, value, BLOCK);
        CHECK(memcmp(vector + at, expected, COUNT - at < BLOCK ? COUNT - at : BLOCK) == 0);
    }
    CHECK(vector[COUNT] == 0xee);
}

static void long_vectors(void)
{
    struct tutti_received received = {0};
    tutti_request *request;
    vector = reserve(COUNT + 1);
    vector[COUNT] = 0xee;
    fill(rank);
    OK(comm, tutti_broadcast(comm, vector, vector, COUNT, TUTTI_UINT8, 1));
    check_vector(false, 1);

    fill(rank);
    const struct tutti_call sum = {.op = TUTTI_ALL_REDUCE,
                                   .send = vector,
                                   .recv = vector,
                                   .count = COUNT,
                                   .type = TUTTI_UINT8,
                                   .reduction = TUTTI_SUM,
                                   .algorithm = "ring"};
    OK(comm, tutti_run(comm, &sum, 1, -1, &request));
    check_vector(true, 0);

    fill(rank);
    if (rank == 0) {
        OK(comm, tutti_send(comm, vector, COUNT, TUTTI_UINT8, 1, 4));
    } else {
        OK(comm, tutti_recv(comm, vector, COUNT, TUTTI_UINT8, 0, 4, &received));
        CHECK(received.count == COUNT);
        check_vector(false, 0);
    }
    munmap(vector, COUNT + 1);
}

int main(void)
{
    OK(comm, tutti_init(NULL, &comm));
    rank = check_rank = tutti_rank(comm);
    size = tutti_size(comm);
    CHECK(size == 2);
    offsets_are_longer_than_32_bits();
    uint64_t mine = available_kib(), least = 0;
    OK(comm, tutti_all_reduce(comm, &mine, &least, 1, TUTTI_UINT64, TUTTI_MIN));
    bool enough = least >= NEEDED_KIB;
    if (enough)
        long_vectors();
    OK(comm, tutti_finalize(comm, 60000));
    tutti_free(comm);
    if (!enough && rank == 0)
        printf("SKIPPED: tests/process/huge.c: vectors of %zu bytes need %" PRIu64
               " MiB of memory and there are "
               "%" PRIu64 ": counts beyond 2^31 are NOT tested by this run.\n",
               COUNT, NEEDED_KIB >> 10, least >> 10);
    else if (rank == 0)
        printf("counts and offsets beyond 2^31 are right\n");
    return enough ? 0 : EXIT_SKIPPED;
}
