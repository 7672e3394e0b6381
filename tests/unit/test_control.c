#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/error.h"
#include "wire/control.h"
#include "wire/frame.h"

static uint8_t id_bytes[17] = "member-id-of-16b";
static char *addresses[65];

static Wire__Join sample_join(void)
{
    Wire__Join join = WIRE__JOIN__INIT;
    join.job = (char *)"train";
    join.member_id = (ProtobufCBinaryData){16, id_bytes};
    join.rank = -1;
    join.size = 4;
    join.host = (char *)"boot-id";
    join.host_name = (char *)"n\xc3\xb6"
                             "de1"; /* UTF-8 is text too */
    join.pid = 4711;
    join.addresses = addresses;
    join.n_addresses = 2;
    join.slice_bytes = 262144;
    join.checksum = true;
    join.join_timeout_ms = 60000;
    join.missing_after_ms = 10000;
    return join;
}

static Wire__Peer sample_peer(uint32_t rank)
{
    Wire__Peer peer = WIRE__PEER__INIT;
    peer.rank = rank;
    peer.member_id = (ProtobufCBinaryData){16, id_bytes};
    peer.host = (char *)"boot-id";
    peer.host_name = (char *)"node1";
    peer.pid = 4711;
    peer.addresses = addresses;
    peer.n_addresses = 1;
    return peer;
}

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        addresses[i] = (char *)"10.0.0.1:4711";
    return 0;
}

/* Encodes and decodes; both must succeed, and encoding once more must give the same bytes. */
static Wire__Control *round_trip(const Wire__Control *before)
{
    size_t size, again_size;
    uint8_t *bytes = control_encode(before, &size);
    assert_non_null(bytes);
    struct tutti_error error = TUTTI_ERROR_INIT;
    Wire__Control *after = control_decode(bytes, size, &error);
    if (!after)
        fail_msg("not decoded: %s", error.message);
    assert_int_equal(after->body_case, before->body_case);
    uint8_t *again = control_encode(after, &again_size);
    assert_non_null(again);
    assert_int_equal(again_size, size);
    assert_memory_equal(again, bytes, size);
    free(again);
    free(bytes);
    return after;
}

/* What passes protobuf but not the limits: control_encode() does not enforce them, control_decode() must. */
static void assert_refused(const Wire__Control *message, const char *expected)
{
    size_t size;
    uint8_t *bytes = control_encode(message, &size);
    assert_non_null(bytes);
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_null(control_decode(bytes, size, &error));
    free(bytes);
    assert_int_equal(error.code, TUTTI_ERR_PROTOCOL);
    if (!strstr(error.message, expected))
        fail_msg("the error says \"%s\", expected \"%s\"", error.message, expected);
}

static Wire__Control control_of_join(Wire__Join *join)
{
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_JOIN;
    message.join = join;
    return message;
}

/* ---- Round trips ------------------------------------------------------------------------------- */

static void a_join_survives_a_round_trip(void **state)
{
    (void)state;
    Wire__Join join = sample_join();
    Wire__Control message = control_of_join(&join);
    Wire__Control *after = round_trip(&message);
    assert_string_equal(after->join->job, "train");
    assert_int_equal(after->join->member_id.len, 16);
    assert_memory_equal(after->join->member_id.data, id_bytes, 16);
    assert_int_equal(after->join->rank, -1);
    assert_int_equal(after->join->size, 4);
    assert_string_equal(after->join->host, "boot-id");
    assert_string_equal(after->join->host_name, join.host_name);
    assert_int_equal(after->join->n_addresses, 2);
    assert_string_equal(after->join->addresses[1], "10.0.0.1:4711");
    assert_int_equal(after->join->slice_bytes, 262144);
    assert_true(after->join->checksum);
    assert_int_equal(after->join->join_timeout_ms, 60000);
    assert_int_equal(after->join->missing_after_ms, 10000);
    wire__control__free_unpacked(after, NULL);
}

static void a_welcome_survives_a_round_trip_with_and_without_neighbours(void **state)
{
    (void)state;
    Wire__Peer next = sample_peer(3), previous = sample_peer(1);
    Wire__Welcome welcome = WIRE__WELCOME__INIT;
    welcome.instance = UINT64_MAX;
    welcome.generation = 1;
    welcome.rank = 2;
    welcome.size = 4;
    welcome.local_size = 4;
    welcome.host_count = 1;
    welcome.next = &next;
    welcome.previous = &previous;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_WELCOME;
    message.welcome = &welcome;
    Wire__Control *after = round_trip(&message);
    assert_true(after->welcome->instance == UINT64_MAX);
    assert_int_equal(after->welcome->next->rank, 3);
    assert_int_equal(after->welcome->previous->rank, 1);
    wire__control__free_unpacked(after, NULL);

    welcome.next = welcome.previous = NULL;
    after = round_trip(&message);
    assert_null(after->welcome->next);
    wire__control__free_unpacked(after, NULL);
}

static void a_waiting_a_refused_and_a_goodbye_survive_a_round_trip(void **state)
{
    (void)state;
    Wire__Waiting waiting = WIRE__WAITING__INIT;
    waiting.text = (char *)"missing: rank 2";
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_WAITING;
    message.waiting = &waiting;
    Wire__Control *after = round_trip(&message);
    assert_string_equal(after->waiting->text, "missing: rank 2");
    wire__control__free_unpacked(after, NULL);

    Wire__Refused refused = WIRE__REFUSED__INIT;
    refused.status = TUTTI_ERR_REFUSED;
    refused.reason = (char *)"rank 2 is taken";
    message.body_case = WIRE__CONTROL__BODY_REFUSED;
    message.refused = &refused;
    after = round_trip(&message);
    assert_int_equal(after->refused->status, TUTTI_ERR_REFUSED);
    assert_string_equal(after->refused->reason, "rank 2 is taken");
    wire__control__free_unpacked(after, NULL);

    Wire__Goodbye goodbye = WIRE__GOODBYE__INIT;
    message.body_case = WIRE__CONTROL__BODY_GOODBYE;
    message.goodbye = &goodbye;
    wire__control__free_unpacked(round_trip(&message), NULL);
}

/* ---- Failures ---------------------------------------------------------------------------------- */

static void a_failure_travels_whole(void **state)
{
    (void)state;
    struct tutti_error before = TUTTI_ERROR_INIT, after;
    error_set(&before, TUTTI_ERR_PEER_LOST, "lost the connection to rank 3");
    before.rank = 3;
    before.sequence = 17;
    strcpy(before.host, "node1");
    strcpy(before.operation, "all_reduce");
    Wire__Abort abort;
    control_from_error(&before, 2, &abort);
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &abort;
    Wire__Control *received = round_trip(&message);
    assert_int_equal(received->abort->from, 2);
    control_to_error(received->abort, &after);
    wire__control__free_unpacked(received, NULL);
    assert_int_equal(after.struct_size, sizeof after);
    assert_int_equal(after.code, TUTTI_ERR_PEER_LOST);
    assert_int_equal(after.rank, 3);
    assert_int_equal(after.sequence, 17);
    assert_string_equal(after.host, "node1");
    assert_string_equal(after.operation, "all_reduce");
    assert_string_equal(after.message, "lost the connection to rank 3");
}

static void the_reason_of_an_abort_may_have_several_lines(void **state)
{
    (void)state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    error_set(&error, TUTTI_ERR_ABORTED, "rank 2: ValueError: shapes\n\t(3,) and (4,)");
    Wire__Abort abort;
    control_from_error(&error, 2, &abort);
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &abort;
    Wire__Control *received = round_trip(&message);
    assert_string_equal(received->abort->message, "rank 2: ValueError: shapes  (3,) and (4,)");
    wire__control__free_unpacked(received, NULL);
}

static void an_abort_always_becomes_a_failure(void **state)
{
    (void)state;
    char host[1000], text[4001];
    memset(host, 'h', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    memset(text, 'm', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    Wire__Abort abort = WIRE__ABORT__INIT;
    abort.rank = -7;
    abort.host = host;
    abort.message = text;
    const int odd[] = {TUTTI_OK, TUTTI_PENDING, TUTTI_ERR_INTERNAL - 1, 12345, INT32_MIN};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct tutti_error error;
        abort.status = odd[i];
        control_to_error(&abort, &error);
        assert_int_equal(error.code, TUTTI_ERR_ABORTED);
        assert_int_equal(error.rank, -1);
        assert_int_equal(strlen(error.host), sizeof error.host - 1);
        assert_int_equal(strlen(error.message), sizeof error.message - 1);
    }
}

/* ---- Limits ------------------------------------------------------------------------------------ */

static void a_member_id_must_have_16_bytes(void **state)
{
    (void)state;
    const size_t lengths[] = {0, 15, 17};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        Wire__Join join = sample_join();
        join.member_id.len = lengths[i];
        Wire__Control message = control_of_join(&join);
        assert_refused(&message, "the member id is not 16 bytes long");

        Wire__Peer peer = sample_peer(1);
        peer.member_id.len = lengths[i];
        Wire__Welcome welcome = WIRE__WELCOME__INIT;
        welcome.previous = &peer;
        message.body_case = WIRE__CONTROL__BODY_WELCOME;
        message.welcome = &welcome;
        assert_refused(&message, "the member id is not 16 bytes long");
    }
}

static void text_may_have_4096_bytes_and_no_more(void **state)
{
    (void)state;
    char text[4098];
    memset(text, 'x', sizeof text);
    text[4096] = '\0';
    Wire__Join join = sample_join();
    join.job = text;
    Wire__Control message = control_of_join(&join);
    wire__control__free_unpacked(round_trip(&message), NULL);
    text[4096] = 'x';
    text[4097] = '\0';
    assert_refused(&message, "the job name is longer than 4096 bytes");
}

static void control_characters_are_refused_in_every_text(void **state)
{
    (void)state;
    char *bad[] = {(char *)"two\nlines", (char *)"\x1b[31m", (char *)"\x7f"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Wire__Join join = sample_join();
        Wire__Control message = control_of_join(&join);
        join.job = bad[i];
        assert_refused(&message, "the job name contains control characters");
        join = sample_join();
        join.host = bad[i];
        assert_refused(&message, "the host identity contains control characters");
        join = sample_join();
        join.host_name = bad[i];
        assert_refused(&message, "the host name contains control characters");
        join = sample_join();
        join.addresses = &bad[i];
        join.n_addresses = 1;
        assert_refused(&message, "an address contains control characters");

        Wire__Waiting waiting = WIRE__WAITING__INIT;
        waiting.text = bad[i];
        message.body_case = WIRE__CONTROL__BODY_WAITING;
        message.waiting = &waiting;
        assert_refused(&message, "the text contains control characters");

        Wire__Refused refused = WIRE__REFUSED__INIT;
        refused.reason = bad[i];
        message.body_case = WIRE__CONTROL__BODY_REFUSED;
        message.refused = &refused;
        assert_refused(&message, "the reason contains control characters");
    }
}

/* Not by control_encode(), which mends it: by the bytes of a peer that does not. */
static void control_characters_are_refused_in_an_abort(void **state)
{
    (void)state;
    char *bad = (char *)"two\nlines";
    for (int field = 0; field < 3; field++) {
        Wire__Abort abort = WIRE__ABORT__INIT;
        *(field == 0 ? &abort.host : field == 1 ? &abort.operation : &abort.message) = bad;
        Wire__Control message = WIRE__CONTROL__INIT;
        message.body_case = WIRE__CONTROL__BODY_ABORT;
        message.abort = &abort;
        uint8_t bytes[64];
        struct tutti_error error = TUTTI_ERROR_INIT;
        assert_null(control_decode(bytes, wire__control__pack(&message, bytes), &error));
        assert_non_null(strstr(error.message, "contains control characters"));
    }
}

static void a_member_has_at_most_64_addresses(void **state)
{
    (void)state;
    Wire__Join join = sample_join();
    Wire__Control message = control_of_join(&join);
    join.n_addresses = 64;
    wire__control__free_unpacked(round_trip(&message), NULL);
    join.n_addresses = 65;
    assert_refused(&message, "the addresses are more than 64");
}

static void a_message_longer_than_a_control_frame_is_not_encoded(void **state)
{
    (void)state;
    static char text[FRAME_CONTROL_BYTES_MAX + 1];
    memset(text, 'x', sizeof text - 1);
    Wire__Refused refused = WIRE__REFUSED__INIT;
    refused.reason = text;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_REFUSED;
    message.refused = &refused;
    size_t size;
    assert_null(control_encode(&message, &size));
}

static void bytes_that_are_no_message_are_refused(void **state)
{
    (void)state;
    static const uint8_t long_bytes[FRAME_CONTROL_BYTES_MAX + 1];
    const struct {
        const uint8_t *bytes;
        size_t size;
        const char *expected;
    } cases[] = {
        {NULL, 0, "its body is missing or of an unknown kind"},
        {(const uint8_t *)"\x7a\x00", 2, "its body is missing or of an unknown kind"}, /* field 15 */
        {(const uint8_t *)"\x0a\x05x", 3, "its content cannot be decoded"},            /* cut short */
        {(const uint8_t *)"GET / HTTP/1.1", 14, "its content cannot be decoded"},
        {long_bytes, sizeof long_bytes, "it is longer than 65536 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tutti_error error = TUTTI_ERROR_INIT;
        assert_null(control_decode(cases[i].bytes, cases[i].size, &error));
        assert_int_equal(error.code, TUTTI_ERR_PROTOCOL);
        if (!strstr(error.message, cases[i].expected))
            fail_msg("the error says \"%s\", expected \"%s\"", error.message, cases[i].expected);
    }
}

/* Damaged messages and random bytes are refused or give a message within the limits. */
static void random_bytes_never_crash_the_decoder(void **state)
{
    (void)state;
    const char *given = getenv("TUTTI_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : 20250131;
    print_message("TUTTI_TEST_SEED=%u\n", seed);
    unsigned short random[3] = {(unsigned short)seed, (unsigned short)(seed >> 16), 0x330e};
    Wire__Peer peer = sample_peer(1);
    Wire__Welcome welcome = WIRE__WELCOME__INIT;
    welcome.next = welcome.previous = &peer;
    Wire__Join join = sample_join();
    Wire__Control messages[2] = {control_of_join(&join), WIRE__CONTROL__INIT};
    messages[1].body_case = WIRE__CONTROL__BODY_WELCOME;
    messages[1].welcome = &welcome;
    int decoded = 0;
    for (int turn = 0; turn < 20000; turn++) {
        size_t size;
        uint8_t *bytes = control_encode(&messages[turn % 2], &size);
        assert_non_null(bytes);
        if (turn % 5 == 0) {
            for (size_t i = 0; i < size; i++)
                bytes[i] = (uint8_t)nrand48(random);
        }
        for (long damage = nrand48(random) % 4; damage > 0; damage--)
            bytes[(size_t)nrand48(random) % size] = (uint8_t)nrand48(random);
        size -= nrand48(random) % 4 == 0 ? (size_t)nrand48(random) % size : 0;
        struct tutti_error error = TUTTI_ERROR_INIT;
        Wire__Control *message = control_decode(bytes, size, &error);
        assert_true(message != NULL || (error.code == TUTTI_ERR_PROTOCOL && error.message[0] != '\0'));
        if (message) {
            decoded++;
            wire__control__free_unpacked(message, NULL);
        }
        free(bytes);
    }
    assert_in_range(decoded, 1000, 19000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_join_survives_a_round_trip),
        cmocka_unit_test(a_welcome_survives_a_round_trip_with_and_without_neighbours),
        cmocka_unit_test(a_waiting_a_refused_and_a_goodbye_survive_a_round_trip),
        cmocka_unit_test(a_failure_travels_whole),
        cmocka_unit_test(the_reason_of_an_abort_may_have_several_lines),
        cmocka_unit_test(an_abort_always_becomes_a_failure),
        cmocka_unit_test(a_member_id_must_have_16_bytes),
        cmocka_unit_test(text_may_have_4096_bytes_and_no_more),
        cmocka_unit_test(control_characters_are_refused_in_every_text),
        cmocka_unit_test(control_characters_are_refused_in_an_abort),
        cmocka_unit_test(a_member_has_at_most_64_addresses),
        cmocka_unit_test(a_message_longer_than_a_control_frame_is_not_encoded),
        cmocka_unit_test(bytes_that_are_no_message_are_refused),
        cmocka_unit_test(random_bytes_never_crash_the_decoder),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
