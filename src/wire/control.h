/* Control messages as bytes: protobuf-c with its limits. */
#ifndef TUTTI_WIRE_CONTROL_H
#define TUTTI_WIRE_CONTROL_H

#include <stddef.h>
#include "tutti/tutti.h"
#include "control.pb-c.h"

/* The encoded message in memory that the caller frees; *size is its length.  NULL when out of memory or
 * longer than FRAME_CONTROL_BYTES_MAX. */
uint8_t *control_encode(const Wire__Control *message, size_t *size);

/* NULL and an ERR_PROTOCOL that says what is wrong, for bytes that are no valid message: undecodable, no
 * body, a member id that is not 16 bytes, text over 4096 bytes or with control characters, more than 64
 * addresses or 4096 ranks, a card without a member or cores.  Free with wire__control__free_unpacked(message,
 * NULL). */
Wire__Control *control_decode(const uint8_t *bytes, size_t size, struct tutti_error *error);

/* To and from a failure.  The Abort borrows the strings of `error`; to which instance and generation it
 * belongs the caller adds. */
void control_from_error(const struct tutti_error *error, uint32_t from, Wire__Abort *abort);
void control_to_error(const Wire__Abort *abort, struct tutti_error *error);

#endif
