/* Little-endian integers in byte arrays of any alignment. */
#ifndef TUTTI_BASE_BYTES_H
#define TUTTI_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tutti sends tensors as they lie in memory and so needs a little-endian machine"
#endif

static inline void put_u16(uint8_t *out, uint16_t v)
{
    memcpy(out, &v, sizeof v);
}
static inline void put_u32(uint8_t *out, uint32_t v)
{
    memcpy(out, &v, sizeof v);
}
static inline void put_u64(uint8_t *out, uint64_t v)
{
    memcpy(out, &v, sizeof v);
}

static inline uint16_t get_u16(const uint8_t *in)
{
    uint16_t v;
    memcpy(&v, in, sizeof v);
    return v;
}

static inline uint32_t get_u32(const uint8_t *in)
{
    uint32_t v;
    memcpy(&v, in, sizeof v);
    return v;
}

static inline uint64_t get_u64(const uint8_t *in)
{
    uint64_t v;
    memcpy(&v, in, sizeof v);
    return v;
}

#endif
