/* The symmetric memory of other ranks, as this process maps it: from a heap of its own, as another process
 * would have it, or from memory that no honest rank has. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "tests/unit/symmetric_memory.h"
#include "transport/shared_memory.h"

#define MAPPED_MAX 1024 /* of one peer, as symmetric_mappings.c has it */
#define PEERS      3    /* this process, one that has memory, and one that has none */
#define PEER       1
#define WITHOUT    2

/* As another process would have it: with a descriptor of the memfd of its own. */
static struct symmetric *peer_new(int memfd)
{
    int fds[PEERS] = {-1, dup(memfd), -1};
    assert_true(fds[PEER] >= 0);
    struct symmetric *symmetric = symmetric_new(fds, PEERS, 0);
    assert_non_null(symmetric);
    return symmetric;
}

static const uint8_t *map(struct symmetric *symmetric, const struct arena_extent *extent, size_t bytes)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    const uint8_t *memory = symmetric_map(symmetric, PEER, extent, bytes, &error);
    if (!memory)
        fail_msg("%s", error.message);
    return memory;
}

/* Bytes of memfds that this process has mapped for reading only. */
static size_t mapped_bytes(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512], permissions[5];
    size_t bytes = 0;
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) {
        unsigned long begin, end;
        assert_int_equal(sscanf(line, "%lx-%lx %4s", &begin, &end, permissions), 3);
        if (strstr(line, "/memfd:tutti") && strcmp(permissions, "r--s") == 0)
            bytes += end - begin;
    }
    fclose(maps);
    return bytes;
}

static void the_buffer_of_another_rank_is_read_where_it_lies(void **state)
{
    (void)state;
    const size_t bytes = 3 * page_bytes();
    uint8_t *memory = alloc(bytes);
    struct symmetric *symmetric = peer_new(symmetric_heap_descriptor(NULL));
    struct arena_extent whole = extent_of(memory, bytes), part = extent_of(memory + 1000, 8);
    const uint8_t *mapped = map(symmetric, &whole, bytes);
    assert_ptr_not_equal(mapped, memory);
    assert_true(is_all(mapped, bytes, 0));
    memset(memory, 0x42, bytes);
    assert_true(is_all(mapped, bytes, 0x42));
    assert_ptr_equal(map(symmetric, &part, 8), mapped + 1000);
    assert_ptr_equal(map(symmetric, &whole, bytes), mapped);
    assert_int_equal(mapped_bytes(), bytes);
    symmetric_free(symmetric);
    assert_int_equal(mapped_bytes(), 0);
    assert_true(symmetric_heap_free(memory));
}

static void it_is_mapped_for_reading_only(void **state)
{
    (void)state;
    uint8_t *memory = alloc(1);
    struct symmetric *symmetric = peer_new(symmetric_heap_descriptor(NULL));
    struct arena_extent extent = extent_of(memory, 1);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(read(fds[0], (void *)map(symmetric, &extent, 1), 1), -1);
    assert_int_equal(errno, EFAULT);
    assert_int_equal(memory[0], 0);
    close(fds[0]);
    close(fds[1]);
    symmetric_free(symmetric);
    assert_true(symmetric_heap_free(memory));
}

static void what_is_freed_and_allocated_again_is_read_through_the_same_mapping(void **state)
{
    (void)state;
    const size_t bytes = 2 * page_bytes();
    struct symmetric *symmetric = peer_new(symmetric_heap_descriptor(NULL));
    const uint8_t *first = NULL;
    for (int turn = 1; turn < 4; turn++) {
        uint8_t *memory = alloc(bytes);
        struct arena_extent extent = extent_of(memory, bytes);
        const uint8_t *mapped = map(symmetric, &extent, bytes);
        assert_true(first == NULL || mapped == first);
        first = mapped;
        assert_true(is_all(mapped, bytes, 0));
        memset(memory, turn, bytes);
        assert_true(is_all(mapped, bytes, (uint8_t)turn));
        assert_true(symmetric_heap_free(memory));
    }
    symmetric_free(symmetric);
}

static void a_block_that_has_another_length_is_mapped_anew(void **state)
{
    (void)state;
    struct tutti_error error;
    const size_t page = page_bytes();
    int memfd = shared_memory_create(4 * page, true, &error);
    struct symmetric *symmetric = peer_new(memfd);
    const size_t lengths[] = {page, 4 * page, 2 * page};
    for (int i = 0; i < 3; i++) {
        struct arena_extent extent = {0, lengths[i], 0};
        uint8_t value = (uint8_t)(i + 1);
        assert_int_equal(pwrite(memfd, &value, 1, (off_t)(lengths[i] - 1)), 1);
        assert_int_equal(map(symmetric, &extent, lengths[i])[lengths[i] - 1], value);
        assert_int_equal(mapped_bytes(), lengths[i]);
    }
    symmetric_free(symmetric);
    close(memfd);
}

static void an_extent_that_cannot_be_is_refused(void **state)
{
    (void)state;
    struct tutti_error error;
    const size_t page = page_bytes();
    int memfd = shared_memory_create(4 * page, true, &error);
    struct symmetric *symmetric = peer_new(memfd);
    const struct {
        struct arena_extent extent;
        size_t bytes;
        int index;
    } lies[] = {
        {{0, 4 * page, 0}, 1, WITHOUT},
        {{1, page, 0}, 1, PEER},
        {{0, page - 1, 0}, 1, PEER},
        {{0, 0, 0}, 0, PEER},
        {{0, 5 * page, 0}, 1, PEER},
        {{4 * page, page, 0}, 1, PEER},
        {{3 * page, 2 * page, 0}, 1, PEER},
        {{0 - (uint64_t)page, 2 * page, 0}, 1, PEER},
        {{page, 0 - (uint64_t)page, 0}, 1, PEER},
        {{(uint64_t)1 << 62, (uint64_t)1 << 62, 0}, 1, PEER},
        {{0, page, page + 1}, 0, PEER},
        {{0, page, 0}, page + 1, PEER},
        {{0, page, 100}, page - 99, PEER},
        {{0, page, UINT64_MAX}, 2, PEER},
        {{0, page, 2}, SIZE_MAX - 1, PEER},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        error = (struct tutti_error)TUTTI_ERROR_INIT;
        if (symmetric_map(symmetric, lies[i].index, &lies[i].extent, lies[i].bytes, &error))
            fail_msg("lie %zu was believed", i);
        assert_int_equal(error.code, TUTTI_ERR_PROTOCOL);
        assert_true(strlen(error.message) > 20);
    }
    assert_int_equal(mapped_bytes(), 0);
    symmetric_free(symmetric);
    close(memfd);
}

static void memory_that_could_shrink_under_us_is_refused(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct arena_extent extent = {0, page_bytes(), 0};
    int memfd = memfd_create("unsealed", MFD_CLOEXEC);
    assert_int_equal(ftruncate(memfd, (off_t)page_bytes()), 0);
    struct symmetric *symmetric = peer_new(memfd);
    assert_null(symmetric_map(symmetric, PEER, &extent, 1, &error));
    assert_int_equal(error.code, TUTTI_ERR_PROTOCOL);
    symmetric_free(symmetric);
    close(memfd);
}

/* Maps page after page of a peer, each with its number in it; checks the latest that a call may need. */
static void map_pages(struct symmetric *symmetric, size_t pages)
{
    const uint8_t *latest[SYMMETRIC_KEPT(PEERS)];
    for (size_t i = 0; i < pages; i++) {
        const struct arena_extent extent = {i * page_bytes(), page_bytes(), 0};
        latest[i % SYMMETRIC_KEPT(PEERS)] = map(symmetric, &extent, sizeof i);
        for (size_t back = 0; back < SYMMETRIC_KEPT(PEERS) && back <= i; back++) {
            size_t number;
            memcpy(&number, latest[(i - back) % SYMMETRIC_KEPT(PEERS)], sizeof number);
            assert_int_equal(number, i - back);
        }
    }
}

static int numbered_pages(size_t pages)
{
    struct tutti_error error;
    int memfd = shared_memory_create(pages * page_bytes(), true, &error);
    assert_true(memfd >= 0);
    for (size_t i = 0; i < pages; i++)
        assert_int_equal(pwrite(memfd, &i, sizeof i, (off_t)(i * page_bytes())), sizeof i);
    return memfd;
}

static void blocks_that_come_in_any_order_are_mapped_once(void **state)
{
    (void)state;
    const size_t pages = 101;
    int memfd = numbered_pages(pages);
    struct symmetric *symmetric = peer_new(memfd);
    for (size_t turn = 0; turn < 3 * pages; turn++) {
        const size_t number = turn * 37 % pages;
        const struct arena_extent extent = {number * page_bytes(), page_bytes(), 0};
        size_t found;
        memcpy(&found, map(symmetric, &extent, sizeof found), sizeof found);
        assert_int_equal(found, number);
    }
    assert_int_equal(mapped_bytes(), pages * page_bytes());
    symmetric_free(symmetric);
    close(memfd);
}

static void of_more_blocks_than_are_kept_those_used_last_stay_mapped(void **state)
{
    (void)state;
    int memfd = numbered_pages(MAPPED_MAX + 200);
    struct symmetric *symmetric = peer_new(memfd);
    map_pages(symmetric, MAPPED_MAX);
    assert_int_equal(mapped_bytes(), MAPPED_MAX * page_bytes());
    map_pages(symmetric, MAPPED_MAX + 200);
    assert_int_equal(mapped_bytes(), MAPPED_MAX * page_bytes());
    symmetric_free(symmetric);
    assert_int_equal(mapped_bytes(), 0);
    close(memfd);
}

static void where_nothing_more_can_be_mapped_what_no_call_needs_is_given_up(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    char path[64];
    int memfd = numbered_pages(100);
    snprintf(path, sizeof path, "/proc/self/fd/%d", memfd);
    /* What can be written only cannot be mapped. */
    int fds[PEERS] = {-1, dup(memfd), open(path, O_WRONLY | O_CLOEXEC)};
    struct symmetric *symmetric = symmetric_new(fds, PEERS, 0);
    map_pages(symmetric, 50);
    const struct arena_extent extent = {0, page_bytes(), 0};
    assert_null(symmetric_map(symmetric, WITHOUT, &extent, 1, &error));
    assert_int_equal(error.code, TUTTI_ERR_SYSTEM);
    assert_non_null(strstr(error.message, strerror(EACCES)));
    assert_int_equal(mapped_bytes(), SYMMETRIC_KEPT(PEERS) * page_bytes());
    map_pages(symmetric, 100);
    symmetric_free(symmetric);
    close(memfd);
}

static void a_group_without_any_symmetric_memory_is_as_good(void **state)
{
    (void)state;
    const int fds[PEERS] = {-1, -1, -1};
    symmetric_free(symmetric_new(fds, PEERS, 0));
    symmetric_free(NULL);
}

static void the_descriptors_are_closed_with_it(void **state)
{
    (void)state;
    int fds[PEERS] = {dup(0), dup(0), dup(0)};
    symmetric_free(symmetric_new(fds, PEERS, 0));
    for (int i = 0; i < PEERS; i++)
        assert_int_equal(fcntl(fds[i], F_GETFD), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_buffer_of_another_rank_is_read_where_it_lies),
        cmocka_unit_test(it_is_mapped_for_reading_only),
        cmocka_unit_test(what_is_freed_and_allocated_again_is_read_through_the_same_mapping),
        cmocka_unit_test(a_block_that_has_another_length_is_mapped_anew),
        cmocka_unit_test(an_extent_that_cannot_be_is_refused),
        cmocka_unit_test(memory_that_could_shrink_under_us_is_refused),
        cmocka_unit_test(blocks_that_come_in_any_order_are_mapped_once),
        cmocka_unit_test(of_more_blocks_than_are_kept_those_used_last_stay_mapped),
        cmocka_unit_test(where_nothing_more_can_be_mapped_what_no_call_needs_is_given_up),
        cmocka_unit_test(a_group_without_any_symmetric_memory_is_as_good),
        cmocka_unit_test(the_descriptors_are_closed_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
