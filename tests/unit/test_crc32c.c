#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "base/crc32c.h"

#define BYTES_MAX 4096

static unsigned short random_state[3];

static int seed_random(void **state)
{
    (void)state;
    const char *given = getenv("TUTTI_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    print_message("TUTTI_TEST_SEED=%u\n", seed);
    memcpy(random_state, &seed, sizeof seed);
    return 0;
}

/* RFC 3720, B.4, and the check value of the catalogues of CRCs. */
static void crc32c_gives_the_values_of_rfc_3720(void **state)
{
    (void)state;
    static const uint8_t read_command[48] = {
        0x01, 0xC0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, 0x28, [40] = 0x02};
    uint8_t zeros[32] = {0}, ones[32], rising[32], falling[32];
    memset(ones, 0xFF, sizeof ones);
    for (uint8_t i = 0; i < 32; i++) {
        rising[i] = i;
        falling[i] = (uint8_t)(31 - i);
    }
    const struct {
        const void *bytes;
        size_t size;
        uint32_t crc;
    } vectors[] = {
        {zeros, 32, 0x8A9136AA},
        {ones, 32, 0x62A8AB43},
        {rising, 32, 0x46DD794E},
        {falling, 32, 0x113FDB5C},
        {read_command, 48, 0xD9963A56},
        {"123456789", 9, 0xE3069283},
        {"", 0, 0},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        assert_int_equal(crc32c(0, vectors[i].bytes, vectors[i].size), vectors[i].crc);
        assert_int_equal(crc32c_portable(0, vectors[i].bytes, vectors[i].size), vectors[i].crc);
    }
}

static void crc32c_agrees_with_the_table_on_random_bytes_of_any_alignment(void **state)
{
    (void)state;
    static uint8_t bytes[BYTES_MAX + 16];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)nrand48(random_state);
    for (int round = 0; round < 2000; round++) {
        size_t size = (size_t)nrand48(random_state) % (round % 2 ? BYTES_MAX : 64);
        const uint8_t *start = bytes + (size_t)nrand48(random_state) % 16;
        uint32_t crc = (uint32_t)jrand48(random_state);
        assert_int_equal(crc32c(crc, start, size), crc32c_portable(crc, start, size));
    }
}

static void crc32c_of_parts_is_that_of_the_whole(void **state)
{
    (void)state;
    uint8_t bytes[100];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)nrand48(random_state);
    uint32_t whole = crc32c(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++)
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof bytes - cut), whole);
}

static void crc32c_notices_every_single_flipped_bit(void **state)
{
    (void)state;
    uint8_t bytes[64] = "a header";
    uint32_t crc = crc32c(0, bytes, sizeof bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(crc32c(0, bytes, sizeof bytes), crc);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_gives_the_values_of_rfc_3720),
        cmocka_unit_test(crc32c_agrees_with_the_table_on_random_bytes_of_any_alignment),
        cmocka_unit_test(crc32c_of_parts_is_that_of_the_whole),
        cmocka_unit_test(crc32c_notices_every_single_flipped_bit),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
