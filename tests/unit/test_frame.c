#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "wire/frame.h"

#define PAYLOAD_MAX 4096

static const struct frame sample = {
    .type = FRAME_DATA,
    .flags = FRAME_HAS_PAYLOAD_CRC,
    .channel = 0x0102,
    .generation = 3,
    .instance = 0x1122334455667788,
    .sequence = 42,
    .call = {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 0, 0, 2048},
    .step = 5,
    .length = 8192,
    .payload_crc = 0xcafef00d,
};

/* The bytes of `sample`, as docs/wire.md shows them.  They never change. */
static const uint8_t sample_bytes[FRAME_HEADER_BYTES] = {
    'T',  'U',  'T',  'I',  0x01, 0x01, 0x01, 0x00, 0x02, 0x01, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x2a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x05, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x0d, 0xf0, 0xfe, 0xca, 0x53, 0x50, 0xcf, 0x1e,
};

static void assert_frames_equal(const struct frame *a, const struct frame *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->channel, b->channel);
    assert_int_equal(a->generation, b->generation);
    assert_true(a->instance == b->instance);
    assert_true(a->sequence == b->sequence);
    assert_true(fingerprint_equal(&a->call, &b->call));
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->length, b->length);
    assert_int_equal(a->payload_crc, b->payload_crc);
}

/* Makes the header CRC right again after a change. */
static void reseal(uint8_t bytes[FRAME_HEADER_BYTES])
{
    put_u32(bytes + 60, crc32c(0, bytes, 60));
}

static void assert_refused(const uint8_t bytes[FRAME_HEADER_BYTES], int code, const char *expected)
{
    struct frame frame;
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(frame_decode(bytes, &frame, &error), code);
    assert_int_equal(error.code, code);
    if (!strstr(error.message, expected))
        fail_msg("the error says \"%s\", expected \"%s\"", error.message, expected);
}

static uint64_t random_u64(unsigned short state[3])
{
    return (uint64_t)jrand48(state) << 48 ^ (uint64_t)jrand48(state) << 24 ^ (uint64_t)jrand48(state);
}

static void random_start(unsigned short state[3])
{
    const char *given = getenv("TUTTI_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : 20250131;
    print_message("TUTTI_TEST_SEED=%u\n", seed);
    state[0] = (unsigned short)seed;
    state[1] = (unsigned short)(seed >> 16);
    state[2] = 0x330e;
}

static struct frame random_frame(unsigned short state[3])
{
    struct frame frame = {
        .type = (uint8_t)(FRAME_DATA + random_u64(state) % 3),
        .flags = (uint16_t)(random_u64(state) % 2),
        .channel = (uint16_t)random_u64(state),
        .generation = (uint32_t)random_u64(state),
        .instance = random_u64(state),
        .sequence = random_u64(state),
        .call = {(uint8_t)random_u64(state), (uint8_t)random_u64(state), (uint8_t)random_u64(state),
                 (uint8_t)random_u64(state), (uint32_t)random_u64(state), random_u64(state)},
        .step = (uint32_t)random_u64(state),
        .payload_crc = (uint32_t)random_u64(state),
    };
    const uint32_t limits[] = {[FRAME_DATA] = FRAME_DATA_BYTES_MAX,
                               [FRAME_CONTROL] = FRAME_CONTROL_BYTES_MAX,
                               [FRAME_HEARTBEAT] = 0};
    frame.length = (uint32_t)(random_u64(state) % ((uint64_t)limits[frame.type] + 1));
    return frame;
}

/* ---- The header -------------------------------------------------------------------------------- */

static void the_layout_is_what_wire_md_says(void **state)
{
    (void)state;
    uint8_t bytes[FRAME_HEADER_BYTES];
    frame_encode(&sample, bytes);
    assert_memory_equal(bytes, sample_bytes, FRAME_HEADER_BYTES);
}

/* The later examples of docs/wire.md: fused calls, by an algorithm, of an all_gather_v, of a message. */
static void the_other_examples_of_wire_md_are_right_too(void **state)
{
    (void)state;
    struct frame fused = sample, by_algorithm = sample, of_counts = sample, message = sample;
    fused.call.fused = 2;
    fused.call.fused_counts = 0x07cdbc8a;
    by_algorithm.call.algorithm = 2;
    const uint64_t counts[3] = {2000, 0, 48};
    uint8_t counts_bytes[sizeof counts];
    for (int i = 0; i < 3; i++)
        put_u64(counts_bytes + 8 * i, counts[i]);
    of_counts.call = (struct fingerprint){.operation = TUTTI_ALL_GATHER_V,
                                          .type = TUTTI_FLOAT32,
                                          .algorithm = 1,
                                          .root = crc32c(0, counts_bytes, sizeof counts_bytes),
                                          .count = 2048};
    message.channel = 1;
    message.sequence = 3;
    message.call = (struct fingerprint){TUTTI_SEND, TUTTI_FLOAT32, .root = 7, .count = 2048};
    message.step = 1;
    message.length = 4096;
    const struct {
        struct frame frame;
        uint8_t call[16], tail[16]; /* bytes 32 to 47 and 48 to 63 */
    } cases[] = {
        {fused,
         {0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x8a, 0xbc, 0xcd, 0x07},
         {0x05, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x0d, 0xf0, 0xfe, 0xca, 0x5c, 0x90, 0x1c, 0xc0}},
        {by_algorithm,
         {0x01, 0x01, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08},
         {0x05, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x0d, 0xf0, 0xfe, 0xca, 0x69, 0xc7, 0xa6, 0x42}},
        {of_counts,
         {0x0a, 0x01, 0x00, 0x01, 0xf3, 0x26, 0x6c, 0xe3, 0x00, 0x08},
         {0x05, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x0d, 0xf0, 0xfe, 0xca, 0x17, 0xde, 0xe8, 0x32}},
        {message,
         {0x0f, 0x01, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x00, 0x08},
         {0x01, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x0d, 0xf0, 0xfe, 0xca, 0x82, 0x7e, 0x09, 0xa3}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[FRAME_HEADER_BYTES];
        struct frame decoded;
        frame_encode(&cases[i].frame, bytes);
        assert_memory_equal(bytes + 32, cases[i].call, 16);
        assert_memory_equal(bytes + 48, cases[i].tail, 16); /* with the CRC of all that is before */
        assert_int_equal(frame_decode(bytes, &decoded, NULL), TUTTI_OK);
        assert_frames_equal(&cases[i].frame, &decoded);
    }
}

static void every_frame_survives_a_round_trip(void **state)
{
    (void)state;
    unsigned short random[3];
    random_start(random);
    for (int i = 0; i < 2000; i++) {
        struct frame before = random_frame(random), after;
        uint8_t bytes[FRAME_HEADER_BYTES];
        frame_encode(&before, bytes);
        assert_int_equal(frame_decode(bytes, &after, NULL), TUTTI_OK);
        assert_frames_equal(&before, &after);
    }
}

static void every_single_bit_flip_is_refused(void **state)
{
    (void)state;
    for (int bit = 0; bit < FRAME_HEADER_BYTES * 8; bit++) {
        uint8_t bytes[FRAME_HEADER_BYTES];
        frame_encode(&sample, bytes);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (bit / 8 == 4)
            assert_refused(bytes, TUTTI_ERR_VERSION, "version");
        else
            assert_refused(bytes, TUTTI_ERR_PROTOCOL, bit / 8 < 4 ? "expected a tutti frame" : "CRC-32C");
    }
}

static void another_version_is_refused_naming_both(void **state)
{
    (void)state;
    uint8_t bytes[FRAME_HEADER_BYTES];
    frame_encode(&sample, bytes);
    bytes[4] = 7;
    assert_refused(bytes, TUTTI_ERR_VERSION,
                   "the peer speaks version 7 of the wire protocol, this is version 1");
}

static void intact_headers_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const struct {
        int offset;
        uint32_t value; /* written as one byte, or as four at the offset of the length */
        const char *expected;
    } cases[] = {
        {5, 0, "unknown type 0"},
        {5, 4, "unknown type 4"},
        {5, 255, "unknown type 255"},
        {6, 2, "unknown flags 0002"},
        {7, 0x80, "unknown flags 8001"},
        {52, FRAME_DATA_BYTES_MAX + 1, "announces 1073741825 bytes of payload, at most 1073741824"},
        {52, UINT32_MAX, "announces 4294967295 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[FRAME_HEADER_BYTES];
        frame_encode(&sample, bytes);
        if (cases[i].offset == 52)
            put_u32(bytes + 52, cases[i].value);
        else
            bytes[cases[i].offset] = (uint8_t)cases[i].value;
        reseal(bytes);
        assert_refused(bytes, TUTTI_ERR_PROTOCOL, cases[i].expected);
    }
}

static void each_type_has_its_own_longest_payload(void **state)
{
    (void)state;
    const struct {
        uint8_t type;
        uint32_t length_max;
    } cases[] = {
        {FRAME_DATA, FRAME_DATA_BYTES_MAX}, {FRAME_CONTROL, FRAME_CONTROL_BYTES_MAX}, {FRAME_HEARTBEAT, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[FRAME_HEADER_BYTES];
        struct frame frame = {.type = cases[i].type, .length = cases[i].length_max};
        frame_encode(&frame, bytes);
        assert_int_equal(frame_decode(bytes, &frame, NULL), TUTTI_OK);
        put_u32(bytes + 52, cases[i].length_max + 1);
        reseal(bytes);
        assert_refused(bytes, TUTTI_ERR_PROTOCOL, "announces");
    }
}

static void foreign_protocols_are_recognised(void **state)
{
    (void)state;
    const struct {
        const char *bytes, *expected;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
         "\"GET / HTTP/1.1\\x0d\\x0a\", which looks like an HTTP request"},
        {"HTTP/1.1 400 Bad Request\r\n\r\n", "which looks like an HTTP response"},
        {
            "\x16\x03\x01\x02",
            "\"\\x16\\x03\\x01\\x02",
        },
        {"\x16\x03\x01\x02", "which looks like a TLS handshake"},
        {"SSH-2.0-OpenSSH_9.2\r\n", "\"SSH-2.0-OpenSSH_\", which looks like an SSH banner"},
        {"TUTHELLO", "which looks like a tutti hello"},
        {"\"quoted\\\"", "\"\\x22quoted\\x5c\\x22"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[FRAME_HEADER_BYTES] = {0};
        memcpy(bytes, cases[i].bytes, strlen(cases[i].bytes));
        assert_refused(bytes, TUTTI_ERR_PROTOCOL, cases[i].expected);
    }
}

/* ---- Fingerprints ------------------------------------------------------------------------------ */

static void fingerprints_read_like_calls(void **state)
{
    (void)state;
    const struct {
        struct fingerprint call;
        const char *expected;
    } cases[] = {
        {{TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 0, 0, 2048}, "all_reduce(sum, 2048 x float32)"},
        {{TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 3, 0, 2048}, "all_reduce(sum, 2048 x float32)"},
        {{TUTTI_BROADCAST, TUTTI_FLOAT32, 0, 0, 0, 1024}, "broadcast(root 0, 1024 x float32)"},
        {{TUTTI_GATHER, TUTTI_INT8, 0, 0, 3, 0}, "gather(root 3, 0 x int8)"},
        {{TUTTI_ALL_GATHER, TUTTI_BFLOAT16, 0, 0, 0, 7}, "all_gather(7 x bfloat16)"},
        {{TUTTI_REDUCE_SCATTER, TUTTI_INT64, TUTTI_MAX, 0, 0, 1}, "reduce_scatter(max, 1 x int64)"},
        {{TUTTI_REDUCE, TUTTI_FLOAT64, TUTTI_MIN, 0, 1, 5}, "reduce(min, root 1, 5 x float64)"},
        {{TUTTI_ALL_TO_ALL, TUTTI_INT32, 0, 0, 0, 3}, "all_to_all(3 x int32)"},
        {{TUTTI_ALL_GATHER_V, TUTTI_FLOAT32, 0, 0, 0x1b2c3d4e, 96},
         "all_gather_v(96 x float32 in all, counts 1b2c3d4e)"},
        {{TUTTI_ALL_GATHER_V, TUTTI_FLOAT32, 0, 0, 0xc, 0},
         "all_gather_v(0 x float32 in all, counts 0000000c)"},
        {{TUTTI_REDUCE_SCATTER_V, TUTTI_FLOAT32, TUTTI_SUM, 0, 1, 9},
         "reduce_scatter_v(sum, 9 x float32 in all, counts 00000001)"},
        {{TUTTI_GATHER_V, TUTTI_FLOAT32, 0, 0, 2, 0}, "gather_v(root 2, float32)"},
        {{TUTTI_SCATTER_V, TUTTI_FLOAT32, 0, 0, 0, 4}, "scatter_v(root 0, 4 x float32)"},
        {{TUTTI_ALL_TO_ALL_V, TUTTI_INT8, 0, 0, 0, 0}, "all_to_all_v(int8)"},
        {{TUTTI_SEND, TUTTI_FLOAT32, 0, 0, 7, 16}, "send(16 x float32, tag 7)"},
        {{TUTTI_SEND, TUTTI_FLOAT32, 0, 0, 0, 0}, "send(0 x float32, tag 0)"},
        {{TUTTI_BARRIER, 0, 0, 0, 0, 0}, "barrier()"},
        {{TUTTI_BARRIER, 0, 0, 0, 0, 1}, "finalize()"},
        {{TUTTI_BARRIER, 0, 0, 2, 0, 1}, "finalize()"},
        {{TUTTI_BARRIER, 0, 0, 0, 0, 2}, "barrier(2 x type 0)"},
        {{TUTTI_BARRIER, 0, 0, 0, 3, 1}, "barrier(root 3, 1 x type 0)"},
        {{0, 0, 0, 0, 0, 0}, "operation 0()"},
        {{TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 0, 0, 8, 2, 0x0b2c3d4e},
         "all_reduce(sum, 8 x float32 in 2 fused calls, counts 0b2c3d4e)"},
        {{200, 201, 202, 1, 203, UINT64_MAX},
         "operation 200(reduction 202, root 203, 18446744073709551615 x type 201)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[128];
        assert_string_equal(fingerprint_print(&cases[i].call, text, sizeof text), cases[i].expected);
    }
}

static void the_barrier_of_finalize_has_a_name_of_its_own(void **state)
{
    (void)state;
    assert_string_equal(fingerprint_name(&(struct fingerprint){TUTTI_BARRIER, 0, 0, 2, 0, 1}), "finalize");
    assert_string_equal(fingerprint_name(&(struct fingerprint){.operation = TUTTI_BARRIER}), "barrier");
    assert_string_equal(fingerprint_name(&sample.call), "all_reduce");
    assert_string_equal(fingerprint_name(&(struct fingerprint){.operation = 200}), "unknown operation");
}

static void fingerprints_differ_in_every_field(void **state)
{
    (void)state;
    const struct fingerprint call = {1, 2, 3, 4, 5, 6, 7, 8};
    const struct fingerprint others[] = {
        {9, 2, 3, 4, 5, 6, 7, 8}, {1, 9, 3, 4, 5, 6, 7, 8}, {1, 2, 9, 4, 5, 6, 7, 8},
        {1, 2, 3, 9, 5, 6, 7, 8}, {1, 2, 3, 4, 9, 6, 7, 8}, {1, 2, 3, 4, 5, 9, 7, 8},
        {1, 2, 3, 4, 5, 6, 9, 8}, {1, 2, 3, 4, 5, 6, 7, 9},
    };
    assert_true(fingerprint_equal(&call, &call));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(fingerprint_equal(&call, &others[i]));
}

static void the_counts_of_fused_calls_travel_with_their_sum(void **state)
{
    (void)state;
    struct frame frame = sample, decoded;
    frame.call.count = UINT32_MAX;
    frame.call.fused = 65535;
    frame.call.fused_counts = 0xfedcba98;
    uint8_t bytes[FRAME_HEADER_BYTES];
    frame_encode(&frame, bytes);
    assert_int_equal(get_u16(bytes + 10), 65535);
    assert_true(get_u64(bytes + 40) == 0xfedcba98ffffffffu);
    assert_int_equal(frame_decode(bytes, &decoded, NULL), TUTTI_OK);
    assert_frames_equal(&frame, &decoded);
}

static void a_heartbeat_carries_the_call_that_its_sender_is_in(void **state)
{
    (void)state;
    struct frame frame = {.type = FRAME_HEARTBEAT,
                          .generation = 3,
                          .instance = 7,
                          .sequence = 20,
                          .call = {TUTTI_ALL_REDUCE, TUTTI_FLOAT32, TUTTI_SUM, 0, 0, 2048, 2, 0x07cdbc8a},
                          .step = 3};
    struct frame decoded;
    uint8_t bytes[FRAME_HEADER_BYTES];
    frame_encode(&frame, bytes);
    assert_int_equal(frame_decode(bytes, &decoded, NULL), TUTTI_OK);
    assert_frames_equal(&frame, &decoded);
}

/* ---- The reader -------------------------------------------------------------------------------- */

/* Three frames as a stream: without payload, with payload, with payload and its CRC. */
#define STREAM_BYTES (3 * FRAME_HEADER_BYTES + 100 + 7)

static void stream_write(uint8_t stream[STREAM_BYTES])
{
    uint8_t *out = stream;
    struct frame frame = {.type = FRAME_HEARTBEAT, .sequence = 1};
    frame_encode(&frame, out);
    out += FRAME_HEADER_BYTES;

    frame = (struct frame){.type = FRAME_CONTROL, .sequence = 2, .length = 100};
    frame_encode(&frame, out);
    out += FRAME_HEADER_BYTES;
    memset(out, 'a', 100);
    out += 100;

    frame = (struct frame){.type = FRAME_CONTROL,
                           .sequence = 3,
                           .length = 7,
                           .flags = FRAME_HAS_PAYLOAD_CRC,
                           .payload_crc = crc32c(0, "payload", 7)};
    frame_encode(&frame, out);
    memcpy(out + FRAME_HEADER_BYTES, "payload", 7);
}

/* Feeds a piece, which must bring frames numbered on from *seen. */
static void feed(struct frame_reader *reader, const uint8_t *bytes, size_t size, uint64_t *seen)
{
    const uint8_t *payload;
    int result;
    while ((result = frame_reader_next(reader, &bytes, &size, &payload, NULL)) == 1) {
        assert_true(reader->frame.sequence == ++*seen);
        if (*seen == 2)
            assert_true(payload[0] == 'a' && payload[99] == 'a');
        if (*seen == 3)
            assert_memory_equal(payload, "payload", 7);
    }
    assert_int_equal(result, 0);
    assert_int_equal(size, 0);
}

static void a_stream_is_read_however_it_is_cut(void **state)
{
    (void)state;
    static struct frame_reader reader;
    uint8_t stream[STREAM_BYTES];
    stream_write(stream);
    for (size_t first = 0; first <= STREAM_BYTES; first++) {
        for (size_t second = first; second <= STREAM_BYTES; second += 5) {
            uint64_t seen = 0;
            frame_reader_init(&reader, PAYLOAD_MAX);
            feed(&reader, stream, first, &seen);
            feed(&reader, stream + first, second - first, &seen);
            feed(&reader, stream + second, STREAM_BYTES - second, &seen);
            assert_int_equal(seen, 3);
        }
    }
}

static void a_stream_is_read_byte_by_byte(void **state)
{
    (void)state;
    static struct frame_reader reader;
    uint8_t stream[STREAM_BYTES];
    stream_write(stream);
    uint64_t seen = 0;
    frame_reader_init(&reader, PAYLOAD_MAX);
    for (size_t i = 0; i < STREAM_BYTES; i++)
        feed(&reader, stream + i, 1, &seen);
    assert_int_equal(seen, 3);
}

static void assert_reader_refuses(const uint8_t *bytes, size_t size, int code, const char *expected)
{
    static struct frame_reader reader;
    struct tutti_error error = TUTTI_ERROR_INIT;
    const uint8_t *payload;
    frame_reader_init(&reader, PAYLOAD_MAX);
    assert_int_equal(frame_reader_next(&reader, &bytes, &size, &payload, &error), code);
    if (!strstr(error.message, expected))
        fail_msg("the error says \"%s\", expected \"%s\"", error.message, expected);
}

static void a_stranger_is_refused_before_a_whole_header_has_come(void **state)
{
    (void)state;
    assert_reader_refuses((const uint8_t *)"GET /\r\n\r\n", 9, TUTTI_ERR_PROTOCOL, "an HTTP request");
    assert_reader_refuses((const uint8_t *)"SSH-", 4, TUTTI_ERR_PROTOCOL, "an SSH banner");
    assert_reader_refuses((const uint8_t *)"TUTI\x02", 5, TUTTI_ERR_VERSION, "version 2");
}

static void a_payload_longer_than_the_connection_takes_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[FRAME_HEADER_BYTES];
    struct frame frame = {.type = FRAME_CONTROL, .length = PAYLOAD_MAX + 1};
    frame_encode(&frame, bytes);
    assert_reader_refuses(bytes, sizeof bytes, TUTTI_ERR_PROTOCOL, "announces 4097 bytes");
}

static void a_damaged_payload_is_refused_where_it_has_a_crc(void **state)
{
    (void)state;
    uint8_t bytes[FRAME_HEADER_BYTES + 4] = {0};
    struct frame frame = {.type = FRAME_CONTROL,
                          .length = 4,
                          .flags = FRAME_HAS_PAYLOAD_CRC,
                          .payload_crc = crc32c(0, "good", 4)};
    frame_encode(&frame, bytes);
    memcpy(bytes + FRAME_HEADER_BYTES, "goof", 4);
    assert_reader_refuses(bytes, sizeof bytes, TUTTI_ERR_PROTOCOL, "a payload of 4 bytes arrived damaged");
}

static void an_empty_payload_can_have_a_crc(void **state)
{
    (void)state;
    uint8_t bytes[FRAME_HEADER_BYTES];
    struct frame frame = {.type = FRAME_HEARTBEAT, .flags = FRAME_HAS_PAYLOAD_CRC, .payload_crc = 1};
    frame_encode(&frame, bytes);
    assert_reader_refuses(bytes, sizeof bytes, TUTTI_ERR_PROTOCOL, "a payload of 0 bytes arrived damaged");

    frame = (struct frame){.type = FRAME_HEARTBEAT, .flags = FRAME_HAS_PAYLOAD_CRC, .sequence = 1};
    frame_encode(&frame, bytes);
    static struct frame_reader reader;
    uint64_t seen = 0;
    frame_reader_init(&reader, PAYLOAD_MAX);
    feed(&reader, bytes, sizeof bytes, &seen);
    assert_int_equal(seen, 1);
}

/* Whole frames with some damage, random bytes, cut anywhere: the reader eats them or refuses them, and its
 * sentence is never empty. */
static void random_streams_never_crash_the_reader(void **state)
{
    (void)state;
    unsigned short random[3];
    random_start(random);
    static struct frame_reader reader;
    static uint8_t stream[8 * (FRAME_HEADER_BYTES + 256)];
    int complete = 0, refused = 0;
    for (int turn = 0; turn < 3000; turn++) {
        size_t size = 0;
        for (int i = 0; i < 8; i++) {
            struct frame frame = random_frame(random);
            frame.flags = 0;
            frame.length = frame.type == FRAME_HEARTBEAT ? 0 : frame.length % 256;
            frame_encode(&frame, stream + size);
            if (random_u64(random) % 16 == 0) {
                stream[size + random_u64(random) % 60] ^= (uint8_t)random_u64(random);
                if (random_u64(random) % 2)
                    reseal(stream + size);
            }
            size += FRAME_HEADER_BYTES;
            for (uint32_t k = 0; k < frame.length; k++)
                stream[size++] = (uint8_t)random_u64(random);
        }
        frame_reader_init(&reader, (uint32_t)(random_u64(random) % 300));
        for (size_t at = 0; at < size;) {
            size_t piece = 1 + random_u64(random) % 200;
            const uint8_t *bytes = stream + at, *payload;
            size_t left = piece < size - at ? piece : size - at;
            at += left;
            struct tutti_error error = TUTTI_ERROR_INIT;
            int result;
            while ((result = frame_reader_next(&reader, &bytes, &left, &payload, &error)) == 1)
                complete++;
            if (result < 0) {
                assert_true(error.code == result && error.message[0] != '\0');
                refused++;
                break;
            }
        }
    }
    assert_true(complete > 1000);
    assert_true(refused > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_layout_is_what_wire_md_says),
        cmocka_unit_test(the_other_examples_of_wire_md_are_right_too),
        cmocka_unit_test(every_frame_survives_a_round_trip),
        cmocka_unit_test(every_single_bit_flip_is_refused),
        cmocka_unit_test(another_version_is_refused_naming_both),
        cmocka_unit_test(intact_headers_that_make_no_sense_are_refused),
        cmocka_unit_test(each_type_has_its_own_longest_payload),
        cmocka_unit_test(foreign_protocols_are_recognised),
        cmocka_unit_test(fingerprints_read_like_calls),
        cmocka_unit_test(the_barrier_of_finalize_has_a_name_of_its_own),
        cmocka_unit_test(fingerprints_differ_in_every_field),
        cmocka_unit_test(the_counts_of_fused_calls_travel_with_their_sum),
        cmocka_unit_test(a_heartbeat_carries_the_call_that_its_sender_is_in),
        cmocka_unit_test(a_stream_is_read_however_it_is_cut),
        cmocka_unit_test(a_stream_is_read_byte_by_byte),
        cmocka_unit_test(a_stranger_is_refused_before_a_whole_header_has_come),
        cmocka_unit_test(a_payload_longer_than_the_connection_takes_is_refused),
        cmocka_unit_test(a_damaged_payload_is_refused_where_it_has_a_crc),
        cmocka_unit_test(an_empty_payload_can_have_a_crc),
        cmocka_unit_test(random_streams_never_crash_the_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
