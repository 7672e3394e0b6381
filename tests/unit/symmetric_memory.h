/* What the tests of symmetric memory share. */
#ifndef TUTTI_TESTS_SYMMETRIC_MEMORY_H
#define TUTTI_TESTS_SYMMETRIC_MEMORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "local/symmetric.h"

static inline size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static inline uint8_t *alloc(size_t bytes)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    uint8_t *memory = symmetric_heap_alloc(bytes, &error);
    if (!memory)
        fail_msg("%zu bytes: %s", bytes, error.message);
    return memory;
}

static inline struct arena_extent extent_of(const void *buffer, size_t bytes)
{
    struct arena_extent extent;
    assert_true(symmetric_heap_find(buffer, bytes, &extent));
    return extent;
}

static inline bool is_all(const uint8_t *memory, size_t bytes, uint8_t value)
{
    return bytes == 0 || (memory[0] == value && memcmp(memory, memory + 1, bytes - 1) == 0);
}

#endif
