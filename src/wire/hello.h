/* The hello: 128 bytes that each side of a ring connection sends first.  The connector speaks first, the
 * acceptor answers.  docs/wire.md describes it byte by byte; this layout is final. */
#ifndef TUTTI_WIRE_HELLO_H
#define TUTTI_WIRE_HELLO_H

#include <stdint.h>
#include "tutti/tutti.h"

#define HELLO_BYTES     128
#define MEMBER_ID_BYTES 16

enum hello_role { HELLO_DATA = 1, HELLO_CONTROL = 2, HELLO_ARENA = 3 };
enum hello_verdict { HELLO_ACCEPTED = 0, HELLO_WRONG_GROUP = 1, HELLO_WRONG_RANK = 2, HELLO_UNWANTED = 3 };

struct hello {
    uint8_t role;     /* enum hello_role */
    uint8_t verdict;  /* enum hello_verdict, in an answer */
    uint16_t channel; /* of a data connection: 0 collectives, 1 messages */
    uint64_t instance;
    uint32_t generation;
    uint32_t from, to;                  /* ranks */
    uint8_t member_id[MEMBER_ID_BYTES]; /* of the sender */
    uint8_t nonce[32];                  /* for authentication; zero now */
    uint8_t code[32];                   /* likewise */
};

/*  0 "TUTHELLO" | 8 version u8 | 9 role u8 | 10 verdict u8 | 11 zero u8 | 12 channel u16 | 14 zero u16
 * 16 instance u64 | 24 generation u32 | 28 from u32 | 32 to u32 | 36 zero u32
 * 40 member id [16] | 56 nonce [32] | 88 code [32] | 120 zero u32 | 124 CRC-32C of bytes 0 to 123 */
void hello_encode(const struct hello *hello, uint8_t bytes[HELLO_BYTES]);
int hello_decode(const uint8_t bytes[HELLO_BYTES], struct hello *hello, struct tutti_error *error);
const char *hello_verdict_text(int verdict);

#endif
