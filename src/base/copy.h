/* Copying into memory that another core reads.  Vector stores to lines that are in the other's cache fetch
 * each line before they write it; `rep movsb` on processors with ERMS takes it over unread, which is up to
 * three times as fast (measured.md). */
#ifndef TUTTI_BASE_COPY_H
#define TUTTI_BASE_COPY_H

#include <stddef.h>
#include <string.h>

#define COPY_STRING_BYTES_MIN 512 /* below, starting `rep movsb` costs more than it saves */

static inline void copy_to_shared(void *target, const void *source, size_t bytes)
{
#if defined(__x86_64__)
    if (bytes >= COPY_STRING_BYTES_MIN) {
        __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(bytes) : : "memory");
        return;
    }
#endif
    memcpy(target, source, bytes);
}

#endif
