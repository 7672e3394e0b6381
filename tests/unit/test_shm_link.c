/* Frames through shared memory: both ends over a real socket pair and a real memfd. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include "tests/unit/shm_pair.h"

#define SLOTS SHM_RING_SLOTS

static int open_links(void **state)
{
    struct shm_pair *pair = calloc(1, sizeof *pair);
    assert_non_null(pair);
    pair_open(pair);
    *state = pair;
    return 0;
}

static int close_links(void **state)
{
    pair_close(*state);
    free(*state);
    return 0;
}

static int peek(const struct shm_pair *pair, struct frame *frame, struct tutti_error *error)
{
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    return pair->receiver->ops->peek(pair->receiver, frame, error);
}

static int recv_loan(const struct shm_pair *pair, struct frame *frame, const void **loan, uint32_t length,
                     struct tutti_error *error)
{
    *error = (struct tutti_error)TUTTI_ERROR_INIT;
    return pair->receiver->ops->recv_loan(pair->receiver, frame, loan, length, error);
}

/* ---- Framing ----------------------------------------------------------------------------------- */

static void frames_of_every_length_come_whole_and_are_counted(void **state)
{
    const struct shm_pair *pair = *state;
    static const uint32_t shm_lengths[] = {
        0,
        1,
        64,
        511,
        512,
        513,
        SLOT_BYTES - 1,
        SLOT_BYTES,
        SLOT_BYTES + 1,
        SLOTS * SLOT_BYTES - 1,
        SLOTS * SLOT_BYTES,
        SLOTS * SLOT_BYTES + 1,
        LONG_BYTES,
    };
    uint64_t total = 0, sequence = 0;
    for (int round = 0; round < 5; round++) /* so that each length begins in each slot */
        for (size_t i = 0; i < sizeof shm_lengths / sizeof *shm_lengths; i++) {
            pair_pass(pair, shm_lengths[i], ++sequence);
            total += FRAME_HEADER_BYTES + shm_lengths[i];
            assert_int_equal(pair->sender->sent_bytes, total);
            assert_int_equal(pair->receiver->received_bytes, total);
        }
    assert_string_equal(pair->sender->ops->transport, "shm");
    assert_string_equal(pair->receiver->ops->transport, "shm");
}

static void a_sender_fills_all_slots_before_its_receiver_has_looked(void **state)
{
    const struct shm_pair *pair = *state;
    uint8_t bytes[100];
    struct frame frame;
    struct tutti_error error;
    for (uint32_t i = 0; i < SLOTS; i++) {
        fill(bytes, sizeof bytes, i);
        assert_int_equal(pair_send(pair, bytes, sizeof bytes, i, &error), LINK_DONE);
    }
    assert_int_equal(pair_send(pair, bytes, sizeof bytes, SLOTS, &error), LINK_AGAIN);
    for (uint32_t i = 0; i < SLOTS; i++) {
        assert_int_equal(pair_recv(pair, &frame, bytes, sizeof bytes, &error), LINK_DONE);
        check_frame(&frame, bytes, sizeof bytes, i);
    }
    assert_int_equal(pair_recv(pair, &frame, bytes, sizeof bytes, &error), LINK_AGAIN);
}

static void another_length_than_was_asked_for_is_told_with_the_header(void **state)
{
    const struct shm_pair *pair = *state;
    uint8_t bytes[100] = {0};
    struct frame frame;
    const void *loan;
    struct tutti_error error;
    assert_int_equal(pair_send(pair, bytes, 60, 8, &error), LINK_DONE);
    assert_int_equal(pair_recv(pair, &frame, bytes, 100, &error), LINK_UNEXPECTED);
    assert_int_equal(frame.length, 60);
    assert_int_equal(recv_loan(pair, &frame, &loan, 20, &error), LINK_UNEXPECTED);
    assert_int_equal(frame.sequence, 8);
}

static void a_header_is_peeked_before_its_payload_has_come(void **state)
{
    const struct shm_pair *pair = *state;
    static uint8_t bytes[6 * SLOT_BYTES], received[6 * SLOT_BYTES];
    struct frame frame;
    struct tutti_error error;
    assert_int_equal(peek(pair, &frame, &error), LINK_AGAIN);
    fill(bytes, sizeof bytes, 4);
    assert_int_equal(pair_send(pair, bytes, sizeof bytes, 4, &error), LINK_AGAIN);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(peek(pair, &frame, &error), LINK_DONE);
        assert_int_equal(frame.length, sizeof bytes);
        assert_int_equal(pair->receiver->received_bytes, FRAME_HEADER_BYTES);
    }
    assert_int_equal(pair_recv(pair, &frame, received, sizeof received, &error), LINK_AGAIN);
    assert_int_equal(peek(pair, &frame, &error), LINK_DONE); /* in the middle of the payload */
    assert_int_equal(frame.sequence, 4);
    assert_int_equal(pair_send(pair, bytes, sizeof bytes, 4, &error), LINK_DONE);
    assert_int_equal(pair_recv(pair, &frame, received, sizeof received, &error), LINK_DONE);
    check_frame(&frame, received, sizeof received, 4);
}

/* ---- Loans ------------------------------------------------------------------------------------- */

static void a_loan_stays_as_it_is_until_the_next_frame_is_received(void **state)
{
    const struct shm_pair *pair = *state;
    static uint8_t bytes[SLOT_BYTES], received[SLOT_BYTES];
    struct frame frame;
    const void *loan = NULL;
    struct tutti_error error;
    for (uint64_t round = 0; round < 3 * SLOTS; round++) {
        uint64_t sequence = round * 10;
        fill(bytes, SLOT_BYTES, (uint32_t)sequence);
        assert_int_equal(pair_send(pair, bytes, SLOT_BYTES, sequence, &error), LINK_DONE);
        assert_int_equal(recv_loan(pair, &frame, &loan, SLOT_BYTES, &error), LINK_DONE);
        uint64_t more = 0; /* than the loan leaves room for */
        do {
            fill(bytes, SLOT_BYTES, (uint32_t)(sequence + ++more));
        } while (pair_send(pair, bytes, SLOT_BYTES, sequence + more, &error) == LINK_DONE);
        assert_int_equal(more, SLOTS);
        struct frame ahead;
        assert_int_equal(peek(pair, &ahead, &error), LINK_DONE);
        assert_int_equal(ahead.sequence, sequence + 1);
        check_frame(&frame, loan, SLOT_BYTES, sequence);
        for (uint64_t i = 1; i <= more; i++) {
            assert_int_equal(pair_recv(pair, &frame, received, SLOT_BYTES, &error), LINK_DONE);
            check_frame(&frame, received, SLOT_BYTES, sequence + i);
            if (i == 1) /* the loan has ended */
                assert_int_equal(pair_send(pair, bytes, SLOT_BYTES, sequence + more, &error), LINK_DONE);
        }
    }
}

static void a_longer_frame_that_is_peeked_while_a_loan_is_held_comes_whole(void **state)
{
    const struct shm_pair *pair = *state;
    static uint8_t bytes[3 * SLOT_BYTES], received[3 * SLOT_BYTES];
    struct frame frame;
    const void *loan = NULL;
    struct tutti_error error;
    fill(bytes, 64, 1);
    assert_int_equal(pair_send(pair, bytes, 64, 1, &error), LINK_DONE);
    fill(bytes, sizeof bytes, 2);
    assert_int_equal(pair_send(pair, bytes, sizeof bytes, 2, &error), LINK_DONE);
    assert_int_equal(recv_loan(pair, &frame, &loan, 64, &error), LINK_DONE);
    assert_int_equal(peek(pair, &frame, &error), LINK_DONE);
    check_frame(&(struct frame){.sequence = 1, .length = 64, .call.root = 2, .step = 5}, loan, 64, 1);
    assert_int_equal(pair_recv(pair, &frame, received, sizeof received, &error), LINK_DONE);
    check_frame(&frame, received, sizeof received, 2);
}

static void a_loan_that_spans_slots_is_put_together(void **state)
{
    const struct shm_pair *pair = *state;
    static uint8_t bytes[10 * SLOT_BYTES + 7];
    struct frame frame;
    const void *loan = NULL;
    struct tutti_error error;
    fill(bytes, sizeof bytes, 1);
    int sending = LINK_AGAIN, receiving = LINK_AGAIN;
    for (int turn = 0; turn < 100 && receiving == LINK_AGAIN; turn++) {
        if (sending == LINK_AGAIN)
            sending = pair_send(pair, bytes, sizeof bytes, 1, &error);
        receiving = recv_loan(pair, &frame, &loan, sizeof bytes, &error);
    }
    assert_int_equal(receiving, LINK_DONE);
    check_frame(&frame, loan, sizeof bytes, 1);
    pair_pass(pair, 100, 2);
}

/* ---- Waking ------------------------------------------------------------------------------------ */

static void nobody_rings_who_need_not_and_nobody_twice(void **state)
{
    const struct shm_pair *pair = *state;
    uint8_t bytes[8] = {0};
    struct frame frame;
    struct tutti_error error;
    struct link *sender = pair->sender, *receiver = pair->receiver;
    int out = sender->ops->descriptor(sender), in = receiver->ops->descriptor(receiver);
    pair_pass(pair, 100000, 1);
    assert_int_equal(bytes_in(in), 0);
    assert_int_equal(bytes_in(out), 0);
    assert_false(receiver->ops->arm(receiver));
    for (uint32_t i = 0; i < SLOTS; i++)
        assert_int_equal(pair_send(pair, bytes, sizeof bytes, i, &error), LINK_DONE);
    assert_int_equal(bytes_in(in), 1);
    assert_true(receiver->ops->arm(receiver)); /* takes the bell in, and there is something */
    assert_int_equal(bytes_in(in), 0);
    assert_false(sender->ops->arm(sender));
    for (uint32_t i = 0; i < SLOTS; i++)
        assert_int_equal(pair_recv(pair, &frame, bytes, sizeof bytes, &error), LINK_DONE);
    assert_int_equal(bytes_in(out), 1);
    assert_true(sender->ops->arm(sender));
    assert_int_equal(bytes_in(out), 0);
}

/* One end of a long exchange, in a thread of its own. */
struct end {
    const struct shm_pair *pair;
    uint64_t seed;
    int frames;
    uint32_t length_max;
    uint64_t sleeps;
    const char *complaint; /* NULL: all is well */
    uint8_t *bytes;
};

static uint64_t draw(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* Mostly short ones, so that a ring is both full and empty often. */
static uint32_t draw_length(uint64_t *seed, uint32_t max)
{
    uint64_t kind = draw(seed) % 8;
    uint32_t most = kind < 5 ? 200 : kind < 7 ? 3 * SLOT_BYTES : max;
    return (uint32_t)(draw(seed) % ((most < max ? most : max) + 1u));
}

/* Nothing went: looks again, lets others run, or sleeps until the bell rings.  false: it never did. */
static bool wait_for_peer(struct end *end, struct link *link, uint64_t *seed)
{
    uint64_t way = draw(seed) % 4;
    if (way == 0)
        return true;
    if (way == 1) {
        sched_yield();
        return true;
    }
    if (link->ops->arm(link))
        return true;
    end->sleeps++;
    struct pollfd fd = {.fd = link->ops->descriptor(link), .events = POLLIN};
    return poll(&fd, 1, 20000) == 1;
}

static void *send_frames(void *context)
{
    struct end *end = context;
    struct tutti_error error = TUTTI_ERROR_INIT;
    uint64_t seed = end->seed, own = ~end->seed;
    for (int i = 0; i < end->frames && !end->complaint; i++) {
        uint32_t length = draw_length(&seed, end->length_max);
        fill(end->bytes, length, (uint32_t)i);
        int result;
        while ((result = pair_send(end->pair, end->bytes, length, (uint64_t)i, &error)) == LINK_AGAIN)
            if (!wait_for_peer(end, end->pair->sender, &own)) {
                end->complaint = "the sender was never woken";
                return NULL;
            }
        if (result != LINK_DONE)
            end->complaint = "a frame could not be sent";
    }
    return NULL;
}

static bool is_right(const struct frame *frame, const uint8_t *payload, uint32_t length, uint64_t sequence)
{
    uint32_t i = 0;
    while (i < length && payload[i] == byte_at((uint32_t)sequence, i))
        i++;
    return frame->sequence == sequence && frame->length == length && i == length;
}

static int receive_somehow(struct end *end, struct frame *frame, const uint8_t **payload, uint32_t length,
                           bool loaned)
{
    struct tutti_error error;
    const void *loan = end->bytes;
    int result = loaned ? recv_loan(end->pair, frame, &loan, length, &error)
                        : pair_recv(end->pair, frame, end->bytes, length, &error);
    *payload = loan;
    return result;
}

static void *receive_frames(void *context)
{
    struct end *end = context;
    uint64_t seed = end->seed, own = end->seed + 1;
    for (int i = 0; i < end->frames && !end->complaint; i++) {
        uint32_t length = draw_length(&seed, end->length_max);
        struct frame frame;
        const uint8_t *payload;
        bool loaned = draw(&own) % 2;
        int result;
        while ((result = receive_somehow(end, &frame, &payload, length, loaned)) == LINK_AGAIN)
            if (!wait_for_peer(end, end->pair->receiver, &own)) {
                end->complaint = "the receiver was never woken";
                return NULL;
            }
        if (result != LINK_DONE)
            end->complaint = "a frame could not be received";
        else if (!is_right(&frame, payload, length, (uint64_t)i))
            end->complaint = "a frame came wrong";
    }
    return NULL;
}

static uint64_t draw_seed(void)
{
    const char *given = getenv("TUTTI_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("TUTTI_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static void exchange(const struct shm_pair *pair, int frames, uint32_t length_max)
{
    uint64_t seed = draw_seed();
    struct end out = {.pair = pair, .seed = seed, .frames = frames, .length_max = length_max}, in = out;
    out.bytes = malloc(LONG_BYTES);
    in.bytes = malloc(LONG_BYTES);
    assert_true(out.bytes && in.bytes);
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, send_frames, &out), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, receive_frames, &in), 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    free(out.bytes);
    free(in.bytes);
    if (out.complaint || in.complaint)
        fail_msg("%s", out.complaint ? out.complaint : in.complaint);
    assert_int_equal(pair->sender->sent_bytes, pair->receiver->received_bytes);
    assert_true(out.sleeps > 0 && in.sleeps > 0);
}

static void two_threads_exchange_frames_of_any_length_and_no_bell_is_lost(void **state)
{
    exchange(*state, 1000, LONG_BYTES);
}

static void two_threads_exchange_short_frames_and_no_bell_is_lost(void **state)
{
    exchange(*state, 50000, 64);
}

/* A frame there and one back, again and again: a bell that is lost is lost for good, for nobody sends more.
 */
struct player {
    struct shm_pair *there, *back;
    bool serves;
    uint64_t seed;
    struct end end;
};

static bool play_receive(struct player *player, uint64_t round)
{
    struct frame frame;
    struct tutti_error error;
    uint8_t bytes[8];
    int result;
    while ((result = pair_recv(player->back, &frame, bytes, sizeof bytes, &error)) == LINK_AGAIN) {
        for (uint64_t delay = draw(&player->seed) % 256; delay > 0; delay--)
            atomic_signal_fence(memory_order_seq_cst);
        if (!wait_for_peer(&player->end, player->back->receiver, &player->seed))
            return false;
    }
    return result == LINK_DONE && is_right(&frame, bytes, sizeof bytes, round);
}

static void *play(void *context)
{
    struct player *player = context;
    struct tutti_error error;
    uint8_t bytes[8];
    for (uint64_t round = 0; round < 40000 && !player->end.complaint; round++) {
        fill(bytes, sizeof bytes, (uint32_t)round);
        if (!player->serves && !play_receive(player, round))
            player->end.complaint = "no frame came back";
        else if (pair_send(player->there, bytes, sizeof bytes, round, &error) != LINK_DONE)
            player->end.complaint = "no frame could be sent";
        else if (player->serves && !play_receive(player, round))
            player->end.complaint = "no frame came back";
    }
    return NULL;
}

static void two_threads_pass_a_frame_to_and_fro_and_no_bell_is_lost(void **state)
{
    struct shm_pair back;
    uint64_t seed = draw_seed();
    pair_open(&back);
    struct player first = {.there = *state, .back = &back, .serves = true, .seed = seed};
    struct player second = {.there = &back, .back = *state, .seed = ~seed};
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, play, &first), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, play, &second), 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    pair_close(&back);
    if (first.end.complaint || second.end.complaint)
        fail_msg("%s", first.end.complaint ? first.end.complaint : second.end.complaint);
}

/* ---- Closing ----------------------------------------------------------------------------------- */

static void what_a_peer_sent_before_it_closed_is_received_first(void **state)
{
    struct shm_pair *pair = *state;
    uint8_t bytes[8];
    struct frame frame;
    struct tutti_error error;
    fill(bytes, sizeof bytes, 2);
    assert_int_equal(pair_send(pair, bytes, sizeof bytes, 2, &error), LINK_DONE);
    assert_int_equal(pair_send(pair, bytes, sizeof bytes, 2, &error), LINK_DONE);
    pair->sender->ops->free(pair->sender);
    pair->sender = NULL;
    for (int i = 0; i < 2; i++) {
        assert_true(pair->receiver->ops->arm(pair->receiver));
        assert_int_equal(pair_recv(pair, &frame, bytes, sizeof bytes, &error), LINK_DONE);
        check_frame(&frame, bytes, sizeof bytes, 2);
    }
    assert_true(pair->receiver->ops->arm(pair->receiver));
    for (int again = 0; again < 2; again++)
        check_error(&error, pair_recv(pair, &frame, bytes, sizeof bytes, &error), TUTTI_ERR_PEER_LOST,
                    "it was closed there");
}

static void a_receiver_that_only_looks_finds_out_that_its_peer_is_gone(void **state)
{
    struct shm_pair *pair = *state;
    struct frame frame;
    struct tutti_error error;
    pair_pass(pair, 10, 1);
    pair->sender->ops->free(pair->sender);
    pair->sender = NULL;
    int looks = 0, result;
    while ((result = peek(pair, &frame, &error)) == LINK_AGAIN)
        assert_true(++looks < 2000);
    check_error(&error, result, TUTTI_ERR_PEER_LOST, "lost the shm connection to " PEER_TEXT);
}

static void a_peer_that_closed_in_the_middle_of_a_frame_is_lost(void **state)
{
    struct shm_pair *pair = *state;
    static uint8_t bytes[8 * SLOT_BYTES];
    struct frame frame;
    struct tutti_error error;
    assert_int_equal(pair_send(pair, bytes, sizeof bytes, 2, &error), LINK_AGAIN);
    pair->sender->ops->free(pair->sender);
    pair->sender = NULL;
    assert_int_equal(pair_recv(pair, &frame, bytes, sizeof bytes, &error), LINK_AGAIN);
    assert_int_equal(pair->receiver->received_bytes, FRAME_HEADER_BYTES + SLOTS * SLOT_BYTES);
    assert_true(pair->receiver->ops->arm(pair->receiver));
    check_error(&error, pair_recv(pair, &frame, bytes, sizeof bytes, &error), TUTTI_ERR_PEER_LOST,
                "receiving");
}

static void a_sender_whose_receiver_is_gone_finds_out_by_looking_or_by_sleeping(void **state)
{
    struct shm_pair *pair = *state;
    static uint8_t bytes[8 * SLOT_BYTES];
    struct tutti_error error;
    assert_int_equal(pair_send(pair, bytes, sizeof bytes, 2, &error), LINK_AGAIN);
    pair->receiver->ops->free(pair->receiver);
    pair->receiver = NULL;
    int looks = 0, result;
    while ((result = pair_send(pair, bytes, sizeof bytes, 2, &error)) == LINK_AGAIN)
        assert_true(++looks < 2000);
    check_error(&error, result, TUTTI_ERR_PEER_LOST, "sending");
    assert_true(pair->sender->ops->arm(pair->sender));
}

/* ---- Faults on demand -------------------------------------------------------------------------- */

#ifdef TUTTI_FAILPOINTS

static struct failpoints failpoints;

static void misbehave_at_second_frame(struct shm_pair *pair, enum failpoint_action action)
{
    memset(&failpoints, 0, sizeof failpoints);
    failpoints.points[FAILPOINT_frame_sent].action = action;
    failpoints.points[FAILPOINT_frame_sent].countdown = 2;
    pair->sender->failpoints = &failpoints;
    pair_pass(pair, 100, 1);
}

static void damage_that_a_test_asks_for_is_found_by_the_receiver(void **state)
{
    struct shm_pair *pair = *state;
    static const struct {
        enum failpoint_action action;
        const char *word;
    } cases[] = {{FAIL_corrupt_header, "cannot read what"}, {FAIL_corrupt_payload, "damaged"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[100] = {0};
        struct frame frame;
        struct tutti_error error;
        misbehave_at_second_frame(pair, cases[i].action);
        assert_int_equal(pair_send(pair, bytes, sizeof bytes, 3, &error), LINK_DONE);
        check_error(&error, pair_recv(pair, &frame, bytes, sizeof bytes, &error), TUTTI_ERR_PROTOCOL,
                    cases[i].word);
        pair_close(pair);
        pair_open(pair);
    }
}

static void one_frame_carries_the_generation_before_and_the_next_its_own(void **state)
{
    struct shm_pair *pair = *state;
    uint8_t bytes[100];
    struct frame frame;
    struct tutti_error error;
    misbehave_at_second_frame(pair, FAIL_stale);
    assert_int_equal(pair_send(pair, bytes, sizeof bytes, 3, &error), LINK_DONE);
    assert_int_equal(pair_recv(pair, &frame, bytes, sizeof bytes, &error), LINK_DONE);
    assert_int_equal(frame.generation, 2);
    pair_pass(pair, 100, 4);
}

static void a_connection_that_a_test_breaks_is_lost_at_both_ends(void **state)
{
    struct shm_pair *pair = *state;
    static const enum failpoint_action actions[] = {FAIL_truncate, FAIL_reset, FAIL_half_close};
    static const uint32_t broken_lengths[] = {0, 100, 3 * SLOT_BYTES};
    static uint8_t bytes[3 * SLOT_BYTES];
    for (size_t i = 0; i < 9; i++) {
        struct frame frame;
        struct tutti_error error;
        uint32_t length = broken_lengths[i % 3];
        misbehave_at_second_frame(pair, actions[i / 3]);
        uint64_t before = pair->receiver->received_bytes;
        for (int again = 0; again < 2; again++)
            check_error(&error, pair_send(pair, bytes, length, 3, &error), TUTTI_ERR_PEER_LOST, "sending");
        int result = LINK_AGAIN;
        for (int looks = 0; looks < 2000 && result == LINK_AGAIN; looks++)
            result = pair_recv(pair, &frame, bytes, length, &error);
        check_error(&error, result, TUTTI_ERR_PEER_LOST, "closed");
        bool half = actions[i / 3] == FAIL_truncate && length > SLOT_BYTES;
        assert_int_equal(pair->receiver->received_bytes - before, half ? FRAME_HEADER_BYTES + SLOT_BYTES : 0);
        pair_close(pair);
        pair_open(pair);
    }
}

#endif

#define LINK_TEST(name) cmocka_unit_test_setup_teardown(name, open_links, close_links)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LINK_TEST(frames_of_every_length_come_whole_and_are_counted),
        LINK_TEST(a_sender_fills_all_slots_before_its_receiver_has_looked),
        LINK_TEST(another_length_than_was_asked_for_is_told_with_the_header),
        LINK_TEST(a_header_is_peeked_before_its_payload_has_come),
        LINK_TEST(a_loan_stays_as_it_is_until_the_next_frame_is_received),
        LINK_TEST(a_longer_frame_that_is_peeked_while_a_loan_is_held_comes_whole),
        LINK_TEST(a_loan_that_spans_slots_is_put_together),
        LINK_TEST(nobody_rings_who_need_not_and_nobody_twice),
        LINK_TEST(two_threads_exchange_frames_of_any_length_and_no_bell_is_lost),
        LINK_TEST(two_threads_exchange_short_frames_and_no_bell_is_lost),
        LINK_TEST(two_threads_pass_a_frame_to_and_fro_and_no_bell_is_lost),
        LINK_TEST(what_a_peer_sent_before_it_closed_is_received_first),
        LINK_TEST(a_receiver_that_only_looks_finds_out_that_its_peer_is_gone),
        LINK_TEST(a_peer_that_closed_in_the_middle_of_a_frame_is_lost),
        LINK_TEST(a_sender_whose_receiver_is_gone_finds_out_by_looking_or_by_sleeping),
#ifdef TUTTI_FAILPOINTS
        LINK_TEST(damage_that_a_test_asks_for_is_found_by_the_receiver),
        LINK_TEST(one_frame_carries_the_generation_before_and_the_next_its_own),
        LINK_TEST(a_connection_that_a_test_breaks_is_lost_at_both_ends),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
