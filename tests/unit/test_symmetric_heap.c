/* The heap of symmetric memory.  memfd_create() and fallocate() are those of this file, so that a test can
 * have them fail; below them the kernel's are at work. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "tests/unit/symmetric_memory.h"

#define HUGE_BYTES  ((size_t)2 << 20)
#define PATIENCE_S  60
#define THREADS     4
#define TURNS       300
#define BLOCKS_KEPT 8

/* ---- What the kernel refuses -------------------------------------------------------------------- */

static bool no_memfd, no_memory;

int memfd_create(const char *name, unsigned flags)
{
    if (no_memfd) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_memfd_create, name, flags);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (no_memory && mode == 0) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

/* What the memfd of this process has of memory. */
static size_t heap_bytes(void)
{
    struct stat status;
    assert_int_equal(fstat(symmetric_heap_descriptor(NULL), &status), 0);
    return (size_t)status.st_blocks * 512;
}

/* ---- The heap ----------------------------------------------------------------------------------- */

static void memory_is_zero_and_begins_at_a_page(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 100, page_bytes(), page_bytes() + 1, HUGE_BYTES / 2 - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *memory = alloc(sizes[i]);
        assert_int_equal((uintptr_t)memory % page_bytes(), 0);
        assert_true(is_all(memory, sizes[i], 0));
        memset(memory, 0xee, sizes[i]);
        struct arena_extent extent = extent_of(memory, sizes[i]);
        assert_int_equal(extent.offset, 0);
        assert_int_equal(extent.block % page_bytes(), 0);
        assert_int_equal(extent.block_bytes, (sizes[i] + page_bytes() - 1) / page_bytes() * page_bytes());
        assert_true(symmetric_heap_free(memory));
    }
}

static void large_memory_is_made_of_whole_huge_pages_in_file_and_address_space(void **state)
{
    (void)state;
    const size_t sizes[] = {HUGE_BYTES / 2, HUGE_BYTES, HUGE_BYTES + 1, 3 * HUGE_BYTES - 5};
    uint8_t *odd = alloc(3 * page_bytes()), *memory[4];
    for (int i = 0; i < 4; i++) {
        memory[i] = alloc(sizes[i]);
        struct arena_extent extent = extent_of(memory[i], sizes[i]);
        assert_int_equal((uintptr_t)memory[i] % HUGE_BYTES, 0);
        assert_int_equal(extent.block % HUGE_BYTES, 0);
        assert_int_equal(extent.block_bytes, (sizes[i] + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES);
        assert_true(is_all(memory[i], sizes[i], 0));
    }
    for (int i = 0; i < 4; i++)
        assert_true(symmetric_heap_free(memory[i]));
    assert_true(symmetric_heap_free(odd));
}

static void any_part_of_an_allocation_is_found_and_nothing_else(void **state)
{
    (void)state;
    const size_t bytes = 4 * page_bytes();
    struct arena_extent extent, whole;
    uint8_t local[16], *memory = alloc(bytes);
    whole = extent_of(memory, bytes);
    for (size_t offset = 0; offset < bytes; offset += 1021) {
        extent = extent_of(memory + offset, bytes - offset);
        assert_int_equal(extent.block, whole.block);
        assert_int_equal(extent.block_bytes, bytes);
        assert_int_equal(extent.offset, offset);
        assert_false(symmetric_heap_find(memory + offset, bytes - offset + 1, &extent));
    }
    assert_false(symmetric_heap_find(memory - 1, 1, &extent));
    assert_false(symmetric_heap_find(memory - 1, 2, &extent));
    assert_false(symmetric_heap_find(memory + bytes, 0, &extent));
    assert_false(symmetric_heap_find(memory, SIZE_MAX, &extent));
    assert_false(symmetric_heap_find(local, sizeof local, &extent));
    assert_false(symmetric_heap_find(NULL, 1, &extent));
    assert_true(symmetric_heap_free(memory));
    assert_false(symmetric_heap_find(memory, bytes, &extent));
}

static void only_what_was_allocated_is_freed_and_only_once(void **state)
{
    (void)state;
    uint8_t local[16], *memory = alloc(3 * page_bytes());
    assert_false(symmetric_heap_free(memory + page_bytes()));
    assert_false(symmetric_heap_free(memory + 1));
    assert_false(symmetric_heap_free(local));
    assert_false(symmetric_heap_free(NULL));
    assert_true(is_all(memory, 3 * page_bytes(), 0));
    assert_true(symmetric_heap_free(memory));
    assert_false(symmetric_heap_free(memory));
}

static void freed_memory_goes_back_to_the_system_and_its_part_is_used_again(void **state)
{
    (void)state;
    const size_t sizes[] = {5 * page_bytes(), 2 * HUGE_BYTES};
    for (int i = 0; i < 2; i++) {
        size_t before = heap_bytes();
        uint8_t *memory = alloc(sizes[i]);
        uint64_t block = extent_of(memory, sizes[i]).block;
        memset(memory, 0x55, sizes[i]);
        assert_int_equal(heap_bytes(), before + sizes[i]);
        assert_true(symmetric_heap_free(memory));
        assert_int_equal(heap_bytes(), before);
        memory = alloc(sizes[i]);
        assert_int_equal(extent_of(memory, sizes[i]).block, block);
        assert_int_equal(heap_bytes(), before + sizes[i]);
        assert_true(is_all(memory, sizes[i], 0));
        assert_true(symmetric_heap_free(memory));
    }
}

static void more_than_the_machine_has_is_refused_before_the_kernel_is_asked(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const size_t physical = (size_t)sysconf(_SC_PHYS_PAGES) * page_bytes(), before = heap_bytes();
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX - page_bytes(), (size_t)PTRDIFF_MAX, physical};
    for (int i = 0; i < 4; i++) {
        assert_null(symmetric_heap_alloc(sizes[i], &error));
        assert_int_equal(error.code, TUTTI_ERR_MEMORY);
        assert_non_null(strstr(error.message, "this machine has"));
    }
    assert_int_equal(heap_bytes(), before);
}

static void memory_that_the_kernel_refuses_is_an_error_and_costs_nothing(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const size_t bytes = 7 * page_bytes(), before = heap_bytes();
    no_memory = true;
    assert_null(symmetric_heap_alloc(bytes, &error));
    no_memory = false;
    assert_int_equal(error.code, TUTTI_ERR_MEMORY);
    assert_non_null(strstr(error.message, "no symmetric memory of"));
    assert_int_equal(heap_bytes(), before);
    uint8_t *memory = alloc(bytes);
    assert_true(is_all(memory, bytes, 0));
    assert_true(symmetric_heap_free(memory));
}

static uint64_t next_random(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return *random >> 33;
}

/* Many allocations come and go: each keeps what was written to it, and is found where it is. */
static void allocations_of_all_sizes_keep_their_contents(void **state)
{
    (void)state;
    const char *given = getenv("TUTTI_TEST_SEED");
    uint64_t random = given ? strtoull(given, NULL, 0) : 20261121;
    print_message("TUTTI_TEST_SEED=%llu\n", (unsigned long long)random);
    struct {
        uint8_t *memory, value;
        size_t bytes;
    } kept[40] = {{0}};
    for (int turn = 0; turn < 2000; turn++) {
        size_t i = next_random(&random) % 40;
        if (kept[i].memory) {
            assert_true(is_all(kept[i].memory, kept[i].bytes, kept[i].value));
            size_t offset = next_random(&random) % kept[i].bytes;
            assert_int_equal(extent_of(kept[i].memory + offset, kept[i].bytes - offset).offset, offset);
            assert_true(symmetric_heap_free(kept[i].memory));
            kept[i].memory = NULL;
        } else {
            size_t limit = turn % 50 == 0 ? 2 * HUGE_BYTES : 20 * page_bytes();
            kept[i].bytes = 1 + next_random(&random) % limit;
            kept[i].memory = alloc(kept[i].bytes);
            kept[i].value = (uint8_t)(1 + turn % 255);
            assert_true(is_all(kept[i].memory, kept[i].bytes, 0));
            memset(kept[i].memory, kept[i].value, kept[i].bytes);
        }
    }
    for (int i = 0; i < 40; i++)
        assert_true(!kept[i].memory || symmetric_heap_free(kept[i].memory));
    assert_int_equal(heap_bytes(), 0);
}

/* ---- Threads ------------------------------------------------------------------------------------ */

struct worker {
    pthread_t thread;
    uint8_t value; /* that this one writes */
    const char *fault;
};

static void *allocate_and_free(void *argument)
{
    struct worker *worker = argument;
    uint64_t random = worker->value;
    uint8_t *memory[BLOCKS_KEPT] = {0};
    size_t bytes[BLOCKS_KEPT] = {0};
    struct arena_extent extent;
    for (int turn = 0; turn < TURNS && !worker->fault; turn++) {
        int i = turn % BLOCKS_KEPT;
        if (memory[i]) {
            if (!is_all(memory[i], bytes[i], worker->value))
                worker->fault = "memory was changed by another thread";
            else if (!symmetric_heap_find(memory[i], bytes[i], &extent) || extent.offset != 0)
                worker->fault = "memory was not found";
            else if (!symmetric_heap_free(memory[i]))
                worker->fault = "memory was not freed";
        }
        bytes[i] = 1 + next_random(&random) % (turn % 60 == 7 ? HUGE_BYTES : 3 * page_bytes());
        memory[i] = symmetric_heap_alloc(bytes[i], NULL);
        if (!memory[i] || !is_all(memory[i], bytes[i], 0))
            worker->fault = "there is no memory, or it is not zero";
        else
            memset(memory[i], worker->value, bytes[i]);
        if (symmetric_heap_find(&memory, sizeof memory, &extent))
            worker->fault = "the stack was found in the heap";
    }
    for (int i = 0; i < BLOCKS_KEPT; i++)
        if (memory[i] && !symmetric_heap_free(memory[i]))
            worker->fault = "memory was not freed at the end";
    return NULL;
}

static void threads_allocate_find_and_free_at_once(void **state)
{
    (void)state;
    struct worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.value = (uint8_t)(i + 1)};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, allocate_and_free, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < THREADS; i++)
        if (workers[i].fault)
            fail_msg("thread %d: %s", i, workers[i].fault);
    assert_int_equal(heap_bytes(), 0);
}

/* ---- Processes ---------------------------------------------------------------------------------- */

#define CHECK_IN_CHILD(condition)                                                                            \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

/* Runs `body` in a child of fork() and expects that it returns. */
static void run_in_child(void (*body)(void *context), void *context)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(PATIENCE_S);
        body(context);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#define INHERITED_BYTES (5 * page_bytes())

static void live_as_child(void *context)
{
    struct arena_extent extent;
    uint8_t *inherited = context;
    CHECK_IN_CHILD(is_all(inherited, INHERITED_BYTES, 0x77));
    CHECK_IN_CHILD(!symmetric_heap_find(inherited, 1, &extent));
    uint8_t *own = symmetric_heap_alloc(INHERITED_BYTES, NULL);
    CHECK_IN_CHILD(own && is_all(own, INHERITED_BYTES, 0));
    memset(own, 0x11, INHERITED_BYTES);
    CHECK_IN_CHILD(symmetric_heap_find(own, INHERITED_BYTES, &extent) && extent.block == 0);
    CHECK_IN_CHILD(!symmetric_heap_find(inherited, 1, &extent));
    CHECK_IN_CHILD(symmetric_heap_free(inherited));
    CHECK_IN_CHILD(!symmetric_heap_free(inherited));
    CHECK_IN_CHILD(symmetric_heap_free(own));
}

static void a_child_of_fork_reads_the_memory_of_its_parent_and_frees_nothing_of_it(void **state)
{
    (void)state;
    uint8_t *memory = alloc(INHERITED_BYTES), *spare = alloc(INHERITED_BYTES);
    assert_true(symmetric_heap_free(spare)); /* a part that the child must not use */
    memset(memory, 0x77, INHERITED_BYTES);
    run_in_child(live_as_child, memory);
    assert_true(is_all(memory, INHERITED_BYTES, 0x77));
    assert_int_equal(extent_of(memory, INHERITED_BYTES).offset, 0);
    assert_int_equal(heap_bytes(), INHERITED_BYTES);
    assert_true(symmetric_heap_free(memory));
}

static void allocate_as_child(void *context)
{
    (void)context;
    uint8_t *memory = symmetric_heap_alloc(1, NULL);
    CHECK_IN_CHILD(memory && *memory == 0);
    CHECK_IN_CHILD(symmetric_heap_free(memory));
}

static void a_fork_while_another_thread_allocates_leaves_no_lock_behind(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("SKIPPED: the allocator of the sanitizer may leave a lock of its own\n");
    skip();
#endif
    for (int round = 0; round < 5; round++) {
        struct worker worker = {.value = 1};
        assert_int_equal(pthread_create(&worker.thread, NULL, allocate_and_free, &worker), 0);
        for (int i = 0; i < 10; i++)
            run_in_child(allocate_as_child, NULL);
        pthread_join(worker.thread, NULL);
        if (worker.fault)
            fail_msg("%s", worker.fault);
    }
    assert_int_equal(heap_bytes(), 0);
}

static void live_without_memfd(void *context)
{
    (void)context;
    struct arena_extent extent;
    struct tutti_error error = TUTTI_ERROR_INIT;
    no_memfd = true;
    CHECK_IN_CHILD(symmetric_heap_descriptor(&error) == -1);
    CHECK_IN_CHILD(error.code == TUTTI_ERR_SYSTEM && strstr(error.message, strerror(EPERM)));
    uint8_t *memory = symmetric_heap_alloc(3 * HUGE_BYTES / 2, &error);
    CHECK_IN_CHILD(memory && is_all(memory, 3 * HUGE_BYTES / 2, 0));
    CHECK_IN_CHILD((uintptr_t)memory % page_bytes() == 0);
    CHECK_IN_CHILD(!symmetric_heap_find(memory, 1, &extent));
    memset(memory, 0x99, 3 * HUGE_BYTES / 2);
    CHECK_IN_CHILD(!symmetric_heap_free(memory + page_bytes()));
    CHECK_IN_CHILD(symmetric_heap_free(memory));
    CHECK_IN_CHILD(!symmetric_heap_free(memory));
    no_memfd = false; /* too late: others may have been told that there is none */
    CHECK_IN_CHILD(symmetric_heap_descriptor(&error) == -1);
}

static void without_a_memfd_it_is_ordinary_memory_for_ever(void **state)
{
    (void)state;
    run_in_child(live_without_memfd, NULL);
}

static void live_as_grandchild(void *context)
{
    live_without_memfd(NULL);
    run_in_child(live_as_child, context);
}

static void a_child_of_a_process_without_memfd_tries_for_itself(void **state)
{
    (void)state;
    uint8_t *memory = alloc(INHERITED_BYTES);
    memset(memory, 0x77, INHERITED_BYTES);
    run_in_child(live_as_grandchild, memory);
    assert_true(symmetric_heap_free(memory));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zero_and_begins_at_a_page),
        cmocka_unit_test(large_memory_is_made_of_whole_huge_pages_in_file_and_address_space),
        cmocka_unit_test(any_part_of_an_allocation_is_found_and_nothing_else),
        cmocka_unit_test(only_what_was_allocated_is_freed_and_only_once),
        cmocka_unit_test(freed_memory_goes_back_to_the_system_and_its_part_is_used_again),
        cmocka_unit_test(more_than_the_machine_has_is_refused_before_the_kernel_is_asked),
        cmocka_unit_test(memory_that_the_kernel_refuses_is_an_error_and_costs_nothing),
        cmocka_unit_test(allocations_of_all_sizes_keep_their_contents),
        cmocka_unit_test(threads_allocate_find_and_free_at_once),
        cmocka_unit_test(a_child_of_fork_reads_the_memory_of_its_parent_and_frees_nothing_of_it),
        cmocka_unit_test(a_fork_while_another_thread_allocates_leaves_no_lock_behind),
        cmocka_unit_test(without_a_memfd_it_is_ordinary_memory_for_ever),
        cmocka_unit_test(a_child_of_a_process_without_memfd_tries_for_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
