/* CRC-32C (Castagnoli, RFC 3720), by SSE4.2 or Arm CRC instructions where the processor has them. */
#ifndef TUTTI_BASE_CRC32C_H
#define TUTTI_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `bytes`, continuing from `crc` (0 at the start). */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* The same by table: what crc32c() falls back to, and what tests compare it with. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);

#endif
