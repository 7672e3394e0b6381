/* The frame header: 64 bytes before every payload on every link and control connection.  docs/wire.md
 * describes it byte by byte; this layout is final. */
#ifndef TUTTI_WIRE_FRAME_H
#define TUTTI_WIRE_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include "tutti/tutti.h"

#define WIRE_VERSION            1
#define FRAME_MAGIC             0x49545554u /* "TUTI" in the order of the bytes */
#define FRAME_HEADER_BYTES      64
#define FRAME_CONTROL_BYTES_MAX 65536 /* payload of a control frame */
#define FRAME_DATA_BYTES_MAX    (1u << 30)

enum frame_type {
    FRAME_DATA = 1,     /* a slice of a tensor, on a data link */
    FRAME_CONTROL = 2,  /* payload: a Wire__Control message, on a control or rendezvous connection */
    FRAME_HEARTBEAT = 3 /* no payload, on a control connection; says in which call its sender is */
};

enum frame_flag { FRAME_HAS_PAYLOAD_CRC = 1 };

/* What a rank called: two ranks that differ here made different calls. */
struct fingerprint {
    uint8_t operation; /* enum tutti_operation */
    uint8_t type;      /* enum tutti_type; 0 for a barrier */
    uint8_t reduction; /* enum tutti_reduction; 0 where there is none */
    uint8_t algorithm; /* its number within the operation; 0: there is none, or it is not known */
    uint32_t root;     /* 0 where there is none; of all_gather_v and reduce_scatter_v the CRC-32C of their
                        * counts, each as a u64, in order; of a message its tag */
    uint64_t count;    /* as in the call; of fused calls and of all_gather_v and reduce_scatter_v the sum; of
                        * gather_v, scatter_v and all_to_all_v, whose ranks know only their own parts, 0; but
                        * their frames have that of the part that goes between the two ranks */
    uint16_t fused;    /* calls that were fused into this operation; 0 for a single one */
    uint32_t fused_counts; /* then: CRC-32C of their counts, each as a u64, in order */
};

struct frame {
    uint8_t type; /* enum frame_type */
    uint16_t flags;
    uint16_t channel;
    uint32_t generation; /* of the group */
    uint64_t instance;   /* of the group: random, from the rendezvous */
    uint64_t sequence;   /* of the operation */
    struct fingerprint call;
    uint32_t step;   /* index in the sender's schedule, for diagnosis */
    uint32_t length; /* bytes of payload that follow */
    uint32_t payload_crc;
};

/*  0 magic u32 | 4 version u8 | 5 type u8 | 6 flags u16 | 8 channel u16 | 10 fused u16 | 12 generation u32
 * 16 instance u64 | 24 sequence u64
 * 32 operation u8 | 33 type u8 | 34 reduction u8 | 35 algorithm u8 | 36 root u32 | 40 count u64
 *    (of fused calls: their sum in the lower 32 bits, the CRC-32C of the counts in the upper)
 * 48 step u32 | 52 length u32 | 56 payload CRC-32C u32 | 60 CRC-32C of bytes 0 to 59 u32 */
void frame_encode(const struct frame *frame, uint8_t bytes[FRAME_HEADER_BYTES]);

/* TUTTI_OK, or an error for the first thing wrong, in this order: magic (ERR_PROTOCOL, shows the first bytes
 * and, where they look like HTTP, TLS or SSH, says so), version (ERR_VERSION, names both), CRC, type, length
 * beyond the maximum of the type, unknown flags (all ERR_PROTOCOL). */
int frame_decode(const uint8_t bytes[FRAME_HEADER_BYTES], struct frame *frame, struct tutti_error *error);

bool fingerprint_equal(const struct fingerprint *a, const struct fingerprint *b);

/* "all_reduce"; "finalize" for the barrier of tutti_finalize(), whose count is 1; takes any bytes. */
const char *fingerprint_name(const struct fingerprint *call);

/* "all_reduce(sum, 2048 x float32)", "all_reduce(sum, 8 x float32 in 2 fused calls, counts 1b2c3d4e)",
 * "broadcast(root 0, 1024 x float32)", "all_gather_v(96 x float32 in all, counts 1b2c3d4e)",
 * "gather_v(root 2, float32)", "send(16 x float32, tag 7)", "barrier()", "finalize()"; takes any bytes.  Says
 * nothing of the algorithm. */
const char *fingerprint_print(const struct fingerprint *call, char *text, size_t text_size);

/* What bytes that are not ours look like, for an error: "\"GET / HT\", which looks like an HTTP request".
 * Shows the first 16. */
const char *wire_describe(const uint8_t *bytes, size_t size, char *text, size_t text_size);

/* Takes a byte stream apart, however it is cut.  For control connections, whose payloads are small. */
struct frame_reader {
    uint32_t payload_max; /* a longer payload is ERR_PROTOCOL; at most FRAME_CONTROL_BYTES_MAX */
    uint32_t have;        /* bytes of `buffer` that are filled */
    bool header_done;
    struct frame frame;
    uint8_t buffer[FRAME_HEADER_BYTES + FRAME_CONTROL_BYTES_MAX];
};

void frame_reader_init(struct frame_reader *reader, uint32_t payload_max);

/* Eats from *bytes (advancing it and *size).  1: a frame is complete in reader->frame, with its payload at
 * *payload, valid until the next call; call again for the rest.  0: all bytes eaten, no complete frame.
 * Negative: an error, the stream is unusable.  A payload CRC that is flagged is checked; a wrong magic or
 * version is refused as soon as its bytes are there, not only when a header is full. */
int frame_reader_next(struct frame_reader *reader, const uint8_t **bytes, size_t *size,
                      const uint8_t **payload, struct tutti_error *error);

#endif
