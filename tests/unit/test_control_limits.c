/* What is no valid control message. */
#include "control_samples.h"

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

        Wire__Present present = WIRE__PRESENT__INIT;
        present.call = bad[i];
        message.body_case = WIRE__CONTROL__BODY_PRESENT;
        message.present = &present;
        assert_refused(&message, "the call contains control characters");

        Wire__Missing missing = WIRE__MISSING__INIT;
        missing.text = bad[i];
        message.body_case = WIRE__CONTROL__BODY_MISSING;
        message.missing = &missing;
        assert_refused(&message, "the text contains control characters");

        Wire__Reformed reformed = WIRE__REFORMED__INIT;
        reformed.lost = bad[i];
        Wire__Welcome welcome = WIRE__WELCOME__INIT;
        welcome.reformed = &reformed;
        message.body_case = WIRE__CONTROL__BODY_WELCOME;
        message.welcome = &welcome;
        assert_refused(&message, "the list of lost ranks contains control characters");
    }
}

static void at_most_4096_ranks_are_missing(void **state)
{
    (void)state;
    static uint32_t ranks[4097];
    Wire__Missing missing = WIRE__MISSING__INIT;
    missing.ranks = ranks;
    missing.n_ranks = 4096;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_MISSING;
    message.missing = &missing;
    wire__control__free_unpacked(round_trip(&message), NULL);
    missing.n_ranks = 4097;
    assert_refused(&message, "the missing ranks are more than 4096");
}

/* A card within the limits, of the member `peer`. */
static Wire__Card sample_card(Wire__Peer *peer)
{
    Wire__Card card = WIRE__CARD__INIT;
    card.generation = 5;
    card.peer = peer;
    card.cores = 8;
    card.uds = true;
    return card;
}

static Wire__Control control_of_card(Wire__Card *card)
{
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_CARD;
    message.card = card;
    return message;
}

static void a_card_has_a_member_with_a_rank_below_4096(void **state)
{
    (void)state;
    Wire__Peer peer = sample_peer(4095);
    Wire__Card card = sample_card(&peer);
    Wire__Control message = control_of_card(&card);
    wire__control__free_unpacked(round_trip(&message), NULL);
    peer.rank = 4096;
    assert_refused(&message, "the rank of a card is more than 4095");
    peer = sample_peer(1);
    peer.member_id.len = 15;
    assert_refused(&message, "the member id is not 16 bytes long");
    peer = sample_peer(1);
    peer.n_addresses = 65;
    assert_refused(&message, "the addresses are more than 64");
    peer = sample_peer(1);
    peer.host_name = (char *)"two\nlines";
    assert_refused(&message, "the host name contains control characters");
    card.peer = NULL;
    assert_refused(&message, "the member of a card is missing");
}

static void a_card_has_1_to_65536_cores(void **state)
{
    (void)state;
    static const struct {
        uint32_t cores;
        bool valid;
    } cases[] = {{0, false}, {1, true}, {65536, true}, {65537, false}, {UINT32_MAX, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Wire__Peer peer = sample_peer(1);
        Wire__Card card = sample_card(&peer);
        Wire__Control message = control_of_card(&card);
        card.cores = cases[i].cores;
        if (cases[i].valid)
            wire__control__free_unpacked(round_trip(&message), NULL);
        else
            assert_refused(&message, "the cores of a card are none or more than 65536");
    }
}

static void a_tuning_has_lines_and_at_most_4096_bytes(void **state)
{
    (void)state;
    char text[4098];
    Wire__Peer peer = sample_peer(0);
    Wire__Card card = sample_card(&peer);
    Wire__Control message = control_of_card(&card);
    memset(text, '\n', sizeof text);
    text[0] = '\t';
    text[4096] = '\0';
    card.tuning = text;
    wire__control__free_unpacked(round_trip(&message), NULL);
    text[4096] = '\n';
    text[4097] = '\0';
    assert_refused(&message, "the tuning is longer than 4096 bytes");
    char *bad[] = {(char *)"\x1b[31m", (char *)"\x7f", (char *)"a\rb"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        card.tuning = bad[i];
        assert_refused(&message, "the tuning contains control characters");
    }
}

static void the_agreement_of_a_join_is_a_text_like_others(void **state)
{
    (void)state;
    char text[4098];
    Wire__Join join = sample_join();
    Wire__Control message = control_of_join(&join);
    memset(text, 'x', sizeof text);
    text[4096] = '\0';
    join.agreement = text;
    wire__control__free_unpacked(round_trip(&message), NULL);
    text[4096] = 'x';
    text[4097] = '\0';
    assert_refused(&message, "the agreement is longer than 4096 bytes");
    join.agreement = (char *)"two\nlines";
    assert_refused(&message, "the agreement contains control characters");
}

/* Not by control_encode(), which mends it: by the bytes of a peer that does not. */
static void assert_bytes_refused(const Wire__Control *message)
{
    uint8_t bytes[256];
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_true(wire__control__get_packed_size(message) <= sizeof bytes);
    assert_null(control_decode(bytes, wire__control__pack(message, bytes), &error));
    assert_non_null(strstr(error.message, "contains control characters"));
}

static void control_characters_are_refused_in_a_failure_wherever_it_is(void **state)
{
    (void)state;
    char *bad = (char *)"two\nlines";
    for (int field = 0; field < 3; field++) {
        Wire__Abort abort = WIRE__ABORT__INIT;
        *(field == 0 ? &abort.host : field == 1 ? &abort.operation : &abort.message) = bad;
        Wire__Control message = WIRE__CONTROL__INIT;
        message.body_case = WIRE__CONTROL__BODY_ABORT;
        message.abort = &abort;
        assert_bytes_refused(&message);

        Wire__Previous previous = WIRE__PREVIOUS__INIT;
        Wire__Join join = sample_join();
        previous.cause = &abort;
        join.previous = &previous;
        message = control_of_join(&join);
        assert_bytes_refused(&message);

        Wire__Reformed reformed = WIRE__REFORMED__INIT;
        Wire__Welcome welcome = WIRE__WELCOME__INIT;
        reformed.cause = &abort;
        welcome.reformed = &reformed;
        message.body_case = WIRE__CONTROL__BODY_WELCOME;
        message.welcome = &welcome;
        assert_bytes_refused(&message);
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
    Wire__Abort cause = sample_abort();
    Wire__Previous before = WIRE__PREVIOUS__INIT;
    Wire__Reformed reformed = WIRE__REFORMED__INIT;
    before.cause = reformed.cause = &cause;
    welcome.reformed = &reformed;
    Wire__Join join = sample_join();
    join.previous = &before;
    Wire__Card card = sample_card(&peer);
    card.tuning = (char *)"tutti tuning 1\n";
    Wire__Control messages[] = {control_of_join(&join), WIRE__CONTROL__INIT, control_of_card(&card)};
    messages[1].body_case = WIRE__CONTROL__BODY_WELCOME;
    messages[1].welcome = &welcome;
    int decoded = 0;
    for (int turn = 0; turn < 20000; turn++) {
        size_t size;
        uint8_t *bytes = control_encode(&messages[turn % 3], &size);
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
        cmocka_unit_test(a_member_id_must_have_16_bytes),
        cmocka_unit_test(text_may_have_4096_bytes_and_no_more),
        cmocka_unit_test(control_characters_are_refused_in_every_text),
        cmocka_unit_test(control_characters_are_refused_in_a_failure_wherever_it_is),
        cmocka_unit_test(at_most_4096_ranks_are_missing),
        cmocka_unit_test(a_member_has_at_most_64_addresses),
        cmocka_unit_test(a_card_has_a_member_with_a_rank_below_4096),
        cmocka_unit_test(a_card_has_1_to_65536_cores),
        cmocka_unit_test(a_tuning_has_lines_and_at_most_4096_bytes),
        cmocka_unit_test(the_agreement_of_a_join_is_a_text_like_others),
        cmocka_unit_test(a_message_longer_than_a_control_frame_is_not_encoded),
        cmocka_unit_test(bytes_that_are_no_message_are_refused),
        cmocka_unit_test(random_bytes_never_crash_the_decoder),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
