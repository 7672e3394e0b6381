#include "tests/sim/fault/allocation.h"

#include <stdlib.h>
#include <string.h>

struct allocation allocation;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *memory);

static bool fails(void)
{
    struct allocation *a = &allocation;
    if (a->countdown == 0 || a->running != a->victim)
        return false;
    if (a->countdown > 1) {
        a->countdown--;
        return false;
    }
    a->struck = true;
    if (a->failures-- <= 1)
        a->countdown = 0;
    return true;
}

static void *counted(void *memory)
{
    allocation.live += memory != NULL;
    return memory;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : counted(__real_aligned_alloc(alignment, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (!memory)
        return __wrap_malloc(size);
    return fails() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = __wrap_malloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

void __wrap_free(void *memory)
{
    allocation.live -= memory != NULL;
    __real_free(memory);
}

static void *or_abort(void *memory)
{
    if (!memory)
        abort();
    return counted(memory);
}

void *world_alloc(size_t size)
{
    return or_abort(__real_calloc(1, size > 0 ? size : 1));
}

void *world_alloc_raw(size_t size)
{
    return or_abort(__real_malloc(size > 0 ? size : 1));
}

void *world_resize(void *memory, size_t size)
{
    if (memory)
        allocation.live--;
    return or_abort(__real_realloc(memory, size));
}

void world_free(void *memory)
{
    __wrap_free(memory);
}
