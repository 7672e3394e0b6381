/* Copying between memory of two cores: what a plain memcpy() does not do. */
#ifndef TUTTI_BASE_COPY_H
#define TUTTI_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#define COPY_LINE_BYTES 64

/* What another core wrote has been read here, and will not be answered in the same place: changes each line,
 * so that the other finds it as if it had been.  It writes lines that this core has changed several times as
 * fast as lines that this core has only read (docs/shared-memory.md). */
static inline void hand_back_lines(void *memory, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += COPY_LINE_BYTES)
        *((volatile uint8_t *)memory + at) = 0;
}

/* Copies to memory that is not read again soon past the caches, where a store would first fetch the line and
 * then push out others. */
static inline void copy_past_caches(void *target, const void *source, size_t bytes)
{
#if defined(__x86_64__)
    uint8_t *to = (uint8_t *)target;
    const uint8_t *from = (const uint8_t *)source;
    size_t at = (size_t)(-(uintptr_t)to) & (COPY_LINE_BYTES - 1);
    at = at < bytes ? at : bytes;
    memcpy(to, from, at);
    for (; at + COPY_LINE_BYTES <= bytes; at += COPY_LINE_BYTES)
        for (size_t i = at; i < at + COPY_LINE_BYTES; i += sizeof(__m128i))
            _mm_stream_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
    _mm_sfence();
    memcpy(to + at, from + at, bytes - at);
#else
    memcpy(target, source, bytes);
#endif
}

#endif
