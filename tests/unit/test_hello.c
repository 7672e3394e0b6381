#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/bytes.h"
#include "base/crc32c.h"
#include "wire/hello.h"

static struct hello sample(void)
{
    struct hello hello = {
        .role = HELLO_CONTROL,
        .verdict = HELLO_WRONG_RANK,
        .channel = 0x0102,
        .instance = 0x1122334455667788,
        .generation = 3,
        .from = 6,
        .to = 7,
    };
    for (int i = 0; i < MEMBER_ID_BYTES; i++)
        hello.member_id[i] = (uint8_t)(0xa0 + i);
    return hello;
}

/* The bytes of sample(), as docs/wire.md shows them.  They never change. */
static const uint8_t sample_bytes[HELLO_BYTES] = {
    'T',  'U',  'T',  'H',  'E',  'L',  'L',  'O',  0x01, 0x02, 0x02, 0x00,         0x02, 0x01, 0x00,
    0x00, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x03, 0x00, 0x00,         0x00, 0x06, 0x00,
    0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa0, 0xa1,         0xa2, 0xa3, 0xa4,
    0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, [124] = 0xd1, 0xb6, 0x17, 0xb9,
};

static void assert_refused(const uint8_t bytes[HELLO_BYTES], int code, const char *expected)
{
    struct hello hello;
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(hello_decode(bytes, &hello, &error), code);
    assert_int_equal(error.code, code);
    if (!strstr(error.message, expected))
        fail_msg("the error says \"%s\", expected \"%s\"", error.message, expected);
}

static void the_layout_is_what_wire_md_says(void **state)
{
    (void)state;
    struct hello hello = sample();
    uint8_t bytes[HELLO_BYTES];
    hello_encode(&hello, bytes);
    assert_memory_equal(bytes, sample_bytes, HELLO_BYTES);
}

static void every_hello_survives_a_round_trip(void **state)
{
    (void)state;
    const char *given = getenv("TUTTI_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : 20250131;
    print_message("TUTTI_TEST_SEED=%u\n", seed);
    unsigned short random[3] = {(unsigned short)seed, (unsigned short)(seed >> 16), 0x330e};
    for (int turn = 0; turn < 1000; turn++) {
        struct hello before, after;
        memset(&before, 0, sizeof before);
        before.role = (uint8_t)(HELLO_DATA + nrand48(random) % 3);
        before.verdict = (uint8_t)(nrand48(random) % (HELLO_UNWANTED + 1));
        before.channel = (uint16_t)nrand48(random);
        before.instance = (uint64_t)jrand48(random) << 32 ^ (uint64_t)jrand48(random);
        before.generation = (uint32_t)jrand48(random);
        before.from = (uint32_t)jrand48(random);
        before.to = (uint32_t)jrand48(random);
        for (size_t i = 0; i < sizeof before.nonce; i++) {
            before.member_id[i % MEMBER_ID_BYTES] = (uint8_t)nrand48(random);
            before.nonce[i] = (uint8_t)nrand48(random);
            before.code[i] = (uint8_t)nrand48(random);
        }
        uint8_t bytes[HELLO_BYTES], again[HELLO_BYTES];
        hello_encode(&before, bytes);
        assert_int_equal(hello_decode(bytes, &after, NULL), TUTTI_OK);
        assert_int_equal(after.role, before.role);
        assert_int_equal(after.verdict, before.verdict);
        assert_int_equal(after.channel, before.channel);
        assert_true(after.instance == before.instance);
        assert_int_equal(after.generation, before.generation);
        assert_int_equal(after.from, before.from);
        assert_int_equal(after.to, before.to);
        assert_memory_equal(after.member_id, before.member_id, sizeof after.member_id);
        assert_memory_equal(after.nonce, before.nonce, sizeof after.nonce);
        assert_memory_equal(after.code, before.code, sizeof after.code);
        hello_encode(&after, again);
        assert_memory_equal(again, bytes, HELLO_BYTES);
    }
}

static void every_single_bit_flip_is_refused(void **state)
{
    (void)state;
    struct hello hello = sample();
    for (int bit = 0; bit < HELLO_BYTES * 8; bit++) {
        uint8_t bytes[HELLO_BYTES];
        hello_encode(&hello, bytes);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (bit / 8 == 8)
            assert_refused(bytes, TUTTI_ERR_VERSION, "version");
        else
            assert_refused(bytes, TUTTI_ERR_PROTOCOL, bit / 8 < 8 ? "expected a tutti hello" : "CRC-32C");
    }
}

static void another_version_is_refused_naming_both(void **state)
{
    (void)state;
    struct hello hello = sample();
    uint8_t bytes[HELLO_BYTES];
    hello_encode(&hello, bytes);
    bytes[8] = 2;
    assert_refused(bytes, TUTTI_ERR_VERSION, "speaks version 2 of the wire protocol, this is version 1");
}

static void intact_hellos_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const struct {
        int offset;
        uint8_t value;
        const char *expected;
    } cases[] = {
        {9, 0, "unknown role 0"},   {9, 4, "unknown role 4"},  {10, 4, "verdict 4"},
        {11, 1, "reserved bytes"},  {14, 1, "reserved bytes"}, {15, 1, "reserved bytes"},
        {36, 1, "reserved bytes"},  {39, 1, "reserved bytes"}, {120, 1, "reserved bytes"},
        {123, 1, "reserved bytes"},
    };
    struct hello hello = sample();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[HELLO_BYTES];
        hello_encode(&hello, bytes);
        bytes[cases[i].offset] = cases[i].value;
        put_u32(bytes + 124, crc32c(0, bytes, 124));
        assert_refused(bytes, TUTTI_ERR_PROTOCOL, cases[i].expected);
    }
}

static void garbage_is_refused_saying_what_it_looks_like(void **state)
{
    (void)state;
    uint8_t bytes[HELLO_BYTES] = "GET /metrics HTTP/1.1\r\n";
    assert_refused(bytes, TUTTI_ERR_PROTOCOL, "\"GET /metrics HTT\", which looks like an HTTP request");
    memcpy(bytes, "TUTI", 4);
    assert_refused(bytes, TUTTI_ERR_PROTOCOL, "which looks like a tutti frame");
}

static void every_verdict_has_a_text(void **state)
{
    (void)state;
    for (int verdict = HELLO_ACCEPTED; verdict <= HELLO_UNWANTED; verdict++)
        assert_string_not_equal(hello_verdict_text(verdict), "unknown verdict");
    assert_string_equal(hello_verdict_text(-1), "unknown verdict");
    assert_string_equal(hello_verdict_text(4), "unknown verdict");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_layout_is_what_wire_md_says),
        cmocka_unit_test(every_hello_survives_a_round_trip),
        cmocka_unit_test(every_single_bit_flip_is_refused),
        cmocka_unit_test(another_version_is_refused_naming_both),
        cmocka_unit_test(intact_hellos_that_make_no_sense_are_refused),
        cmocka_unit_test(garbage_is_refused_saying_what_it_looks_like),
        cmocka_unit_test(every_verdict_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
