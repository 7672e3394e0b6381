/* Messages from rank to rank: how they are matched, cut, kept and limited. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include "tests/sim/small_mailbox.h"

static struct world world;

static int open_two(void **state)
{
    world_open(&world, 1, 2, SLICE, 1000);
    *state = &world;
    return 0;
}

static int open_four(void **state)
{
    world_open(&world, 1, 4, SLICE, 1000);
    *state = &world;
    return 0;
}

static int close_world(void **state)
{
    world_close(*state);
    return 0;
}

/* ---- Matching ---------------------------------------------------------------------------------- */

static void a_message_comes_whole_whatever_its_length(void **state)
{
    struct world *w = *state;
    for (size_t count = 0; count < 40; count++) {
        int64_t out[40], in[41];
        struct tutti_received received;
        fill(out, count, (int64_t)count);
        memset(in, 0x55, sizeof in);
        struct mail send = send_of(out, count, 1, 7), receive = receive_of(in, 41, 0, 7, &received);
        mailbox_post(w->boxes[0], &send);
        mailbox_post(w->boxes[1], &receive);
        assert_true(mailbox_is_busy(w->boxes[0]) && mailbox_is_busy(w->boxes[1]));
        settle(w);
        assert_false(mailbox_is_busy(w->boxes[0]) || mailbox_is_busy(w->boxes[1]));
        check_complete(w, 0, (struct mail *[]){&send}, 1);
        check_complete(w, 1, (struct mail *[]){&receive}, 1);
        check_received(&received, 0, 7, count);
        check(in, count, (int64_t)count);
        assert_int_equal(in[count], 0x5555555555555555); /* and nothing beyond it */
        uint64_t frames = count == 0 ? 1 : (count + 7) / 8;
        assert_int_equal(w->out[0][1]->sent_bytes, FRAME_HEADER_BYTES * frames + 8 * count);
        w->out[0][1]->sent_bytes = 0;
    }
}

/* As docs/wire.md has it. */
static void frames_say_to_which_message_they_belong(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 2, 20, 1000); /* two whole elements in a slice */
    w.groups[0].checksum = true;
    post_message(&w, 0, 0, 1, 9, 0);
    post_message(&w, 1, 0, 1, 7, 5);
    static const struct {
        uint64_t sequence;
        uint32_t tag, count, step, length;
    } expected[4] = {{1, 9, 0, 0, 0}, {2, 7, 5, 0, 16}, {2, 7, 5, 1, 16}, {2, 7, 5, 2, 8}};
    for (int i = 0; i < 4; i++) {
        struct frame frame;
        uint8_t payload[16];
        struct link *link = w.in[1][0];
        for (int calls = 0; link->ops->peek(link, &frame, NULL) != LINK_DONE; calls++) {
            assert_true(calls < 1000);
            progress(&w, 0);
        }
        assert_int_equal(frame.type, FRAME_DATA);
        assert_int_equal(frame.flags, FRAME_HAS_PAYLOAD_CRC);
        assert_int_equal(frame.channel, 1);
        assert_int_equal(frame.instance, 7);
        assert_int_equal(frame.generation, 2);
        assert_int_equal(frame.sequence, expected[i].sequence);
        assert_int_equal(frame.step, expected[i].step);
        assert_int_equal(frame.length, expected[i].length);
        const struct fingerprint call = {TUTTI_SEND, TUTTI_INT64, .root = expected[i].tag,
                                         .count = expected[i].count};
        assert_true(fingerprint_equal(&frame.call, &call));
        for (int calls = 0; link->ops->recv(link, &frame, payload, frame.length, NULL) != LINK_DONE;
             calls++) {
            assert_true(calls < 1000);
            progress(&w, 0);
        }
    }
    world_close(&w);
}

static void a_message_without_elements_needs_no_buffer(void **state)
{
    struct world *w = *state;
    struct tutti_received received;
    struct mail send = send_of(NULL, 0, 1, 7), receive = receive_of(NULL, 0, 0, 7, &received);
    mailbox_post(w->boxes[0], &send);
    settle(w);
    mailbox_post(w->boxes[1], &receive);
    settle(w);
    check_received(&received, 0, 7, 0);
}

static void messages_are_matched_in_the_order_of_sending_and_of_posting(void **state)
{
    struct world *w = *state;
    for (int early = 0; early < 2; early++) { /* whether the receives are there first */
        int64_t in[4][8];
        struct tutti_received received[4];
        struct mail receives[4];
        static const int tags[4] = {7, TUTTI_ANY_TAG, 7, 7};
        for (int step = 0; step < 2; step++) {
            for (int i = 0; i < 4 && step == early; i++)
                post_message(w, i, 0, 1, i == 1 ? 5 : 7, (size_t)i + 1);
            for (int i = 0; i < 4 && step != early; i++) {
                receives[i] = receive_of(in[i], 8, i % 2 ? TUTTI_ANY_SOURCE : 0, tags[i], &received[i]);
                mailbox_post(w->boxes[1], &receives[i]);
            }
            settle(w);
        }
        for (int i = 0; i < 4; i++) {
            check_received(&received[i], 0, i == 1 ? 5 : 7, (size_t)i + 1);
            check(in[i], (size_t)i + 1, i);
        }
        while (mailbox_take_complete(w->boxes[0]) || mailbox_take_complete(w->boxes[1]))
            ;
    }
}

static void a_receive_picks_its_tag_among_messages_that_came_earlier(void **state)
{
    struct world *w = *state;
    int64_t in[3][8];
    struct tutti_received received[3];
    struct mail receives[3];
    for (int i = 0; i < 3; i++)
        post_message(w, i, 0, 1, i, 2);
    for (int i = 2; i >= 0; i--) {
        receives[i] = receive_of(in[i], 8, 0, i, &received[i]);
        mailbox_post(w->boxes[1], &receives[i]);
        settle(w);
        check_complete(w, 1, (struct mail *[]){&receives[i]}, 1);
        check(in[i], 2, i);
    }
}

static void from_any_source_the_message_that_came_first_is_taken(void **state)
{
    struct world *w = *state;
    static const int order[3] = {2, 3, 1};
    for (int i = 0; i < 3; i++) {
        post_message(w, i, order[i], 0, 7, 2);
        settle(w);
    }
    for (int i = 0; i < 3; i++) {
        int64_t in[8];
        struct tutti_received received;
        struct mail receive = receive_of(in, 8, TUTTI_ANY_SOURCE, 7, &received);
        mailbox_post(w->boxes[0], &receive);
        settle(w);
        check_received(&received, order[i], 7, 2);
        check_complete(w, 0, (struct mail *[]){&receive}, 1);
    }
}

/* Three ranks that always have something to say to a fourth. */
static void sources_take_turns_where_any_will_do(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 4, SLICE, 5000);
    stop_stutter(&w);
    for (int i = 0; i < 60; i++)
        post_message(&w, i, 1 + i % 3, 0, 7, 1);
    for (int rank = 1; rank < 4; rank++)
        progress(&w, rank);
    for (int turn = 0; turn < 60; turn++) {
        int64_t in[1];
        struct tutti_received received;
        struct mail receive = receive_of(in, 1, TUTTI_ANY_SOURCE, TUTTI_ANY_TAG, &received);
        mailbox_post(w.boxes[0], &receive);
        progress(&w, 0);
        check_received(&received, 1 + turn % 3, 7, 1);
        check_complete(&w, 0, (struct mail *[]){&receive}, 1);
        for (int rank = 1; rank < 4; rank++) /* what the next receive will take is not read before */
            assert_int_equal(w.boxes[0]->peers[rank].kept.messages, 0);
    }
    world_close(&w);
}

static void a_message_that_has_its_receive_goes_before_those_that_have_none(void **state)
{
    (void)state;
    struct world w;
    int64_t in[320];
    world_open(&w, 1, 3, SLICE, 8000);
    stop_stutter(&w);
    post_message(&w, 0, 1, 0, 7, 320);
    for (int i = 1; i < 10; i++)
        post_message(&w, i, 2, 0, 7, 1);
    progress(&w, 1);
    progress(&w, 2);
    struct mail receive = receive_of(in, 320, 1, 7, NULL);
    mailbox_post(w.boxes[0], &receive);
    progress(&w, 0);
    assert_true(receive.complete);
    assert_int_equal(w.boxes[0]->peers[2].kept.messages, 0);
    world_close(&w);
}

static void a_rank_sends_to_itself(void **state)
{
    struct world *w = *state;
    for (int early = 0; early < 2; early++) {
        int64_t out[20], in[20] = {0};
        struct tutti_received received;
        struct mail send = send_of(out, 20, 0, 3),
                    receive = receive_of(in, 20, early ? 0 : -1, -1, &received);
        fill(out, 20, early);
        mailbox_post(w->boxes[0], early ? &receive : &send);
        progress(w, 0);
        assert_false(mailbox_awaits(w->boxes[0], 0) || mailbox_sends(w->boxes[0], 0));
        assert_int_equal(send.complete, !early); /* without a receive it is kept */
        mailbox_post(w->boxes[0], early ? &send : &receive);
        progress(w, 0);
        check_received(&received, 0, 3, 20);
        check(in, 20, early);
        assert_false(mailbox_is_busy(w->boxes[0]));
        while (mailbox_take_complete(w->boxes[0]))
            ;
    }
}

/* ---- What is kept ------------------------------------------------------------------------------ */

static void what_nobody_asks_for_is_kept_until_it_is_too_much(void **state)
{
    struct world *w = *state;
    int64_t in[500];
    struct tutti_received received;
    /* 8 messages of 512 bytes are the limit. */
    for (int i = 0; i < 12; i++)
        post_message(w, i, 0, 1, i, 64);
    settle(w);
    assert_int_equal(w->boxes[1]->peers[0].kept.bytes, MAILBOX_KEPT_BYTES_MAX);
    assert_true(mailbox_sends(w->boxes[0], 1));
    /* A receive of a message that is behind what is too much finds nothing, and its rank does not spin. */
    int64_t last_in[500];
    struct tutti_received last_received;
    struct mail last = receive_of(last_in, 500, 0, 11, &last_received);
    mailbox_post(w->boxes[1], &last);
    settle(w);
    assert_false(last.complete);
    assert_true(mailbox_is_busy(w->boxes[1]));
    assert_false(mailbox_awaits(w->boxes[1], 0));
    /* As soon as there is room the others follow. */
    for (int i = 0; i < 11; i++) {
        struct mail receive = receive_of(in, 500, 0, i, &received);
        mailbox_post(w->boxes[1], &receive);
        settle(w);
        assert_true(receive.complete);
        check_received(&received, 0, i, 64);
        check(in, 64, i);
        while (mailbox_take_complete(w->boxes[1]))
            ;
    }
    assert_true(last.complete);
    check_received(&last_received, 0, 11, 64);
    check(last_in, 64, 11);
    assert_false(mailbox_is_busy(w->boxes[0]) || mailbox_is_busy(w->boxes[1]));
}

static void a_message_that_alone_is_too_much_is_kept_alone(void **state)
{
    struct world *w = *state;
    int64_t in[600];
    struct tutti_received received;
    post_message(w, 0, 0, 1, 0, 600);
    post_message(w, 1, 0, 1, 1, 1);
    settle(w);
    assert_true(pool_mail[0].complete);
    assert_false(pool_mail[1].complete && w->boxes[1]->peers[0].kept.messages > 1);
    struct mail receive = receive_of(in, 600, 0, 0, &received);
    mailbox_post(w->boxes[1], &receive);
    settle(w);
    check_received(&received, 0, 0, 600);
    check(in, 600, 0);
    assert_int_equal(w->boxes[1]->peers[0].kept.messages, 1);
}

static void messages_without_elements_are_limited_too(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < MAILS_MAX; i++)
        post_message(w, i, 0, 1, i, 0);
    settle(w);
    assert_int_equal(w->boxes[1]->peers[0].kept.messages, MAILBOX_KEPT_MESSAGES_MAX);
}

static void a_rank_that_sends_to_itself_too_much_waits(void **state)
{
    struct world *w = *state;
    int64_t in[600];
    struct tutti_received received;
    post_message(w, 0, 0, 0, 0, 500);
    post_message(w, 1, 0, 0, 1, 500);
    settle(w);
    assert_true(pool_mail[0].complete);
    assert_false(pool_mail[1].complete);
    struct mail receive = receive_of(in, 600, 0, 0, &received);
    mailbox_post(w->boxes[0], &receive);
    settle(w);
    assert_true(receive.complete && pool_mail[1].complete);
    check(in, 500, 0);
}

/* The receive comes when exactly so many bytes of the message have. */
static void a_receive_claims_a_message_that_is_still_coming(void **state)
{
    (void)state;
    int between = 0, within = 0;
    for (size_t part = 1; part < 5 * (SLICE + FRAME_HEADER_BYTES); part++) {
        struct world w;
        struct tutti_error error = TUTTI_ERROR_INIT;
        int64_t in[41];
        struct tutti_received received;
        bool moved;
        world_open(&w, part, 2, SLICE, 2000);
        post_message(&w, 3, 0, 1, 7, 40);
        while (!pool_mail[3].complete)
            progress(&w, 0);
        w.queues[0][1]->used = part; /* the rest is there, but not seen yet */
        for (int i = 0; i < IDLE_CALLS; i++)
            assert_int_equal(mailbox_progress(w.boxes[1], &moved, &error), TUTTI_OK);
        const struct arrival *arrival = &w.boxes[1]->peers[0].arrival;
        between += arrival->message_begun && !arrival->frame_begun;
        within += arrival->frame_begun;
        memset(in, 0x55, sizeof in);
        struct mail receive = receive_of(in, 41, TUTTI_ANY_SOURCE, 7, &received);
        mailbox_post(w.boxes[1], &receive);
        progress(&w, 1);
        assert_false(receive.complete);
        if (part >= FRAME_HEADER_BYTES)
            assert_int_equal(w.boxes[1]->peers[0].kept.messages, 0);
        assert_true(mailbox_awaits(w.boxes[1], 0));
        if (part % 4 == 0) { /* and where the rest never comes, nothing is lost */
            world_close(&w);
            continue;
        }
        w.queues[0][1]->used += 5 * (SLICE + FRAME_HEADER_BYTES) - part;
        settle(&w);
        check_received(&received, 0, 7, 40);
        check(in, 40, 3);
        assert_int_equal(in[40], 0x5555555555555555);
        world_close(&w);
    }
    assert_true(between > 10 && within > 10);
}

/* Each rank sends to the next before it receives: nobody asks for what comes, yet it must be read. */
static void ranks_that_send_in_a_circle_get_rid_of_what_they_send(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 5, 4, SLICE, 100);
    for (int rank = 0; rank < 4; rank++)
        post_message(&w, rank, rank, (rank + 1) % 4, 0, 400);
    for (int calls = 0; calls < 20000; calls++)
        progress(&w, calls % 4);
    for (int rank = 0; rank < 4; rank++)
        assert_true(pool_mail[rank].complete);
    world_close(&w);
}

/* ---- Links and names ------------------------------------------------------------------------- */

static void links_that_are_not_open_are_waited_for(void **state)
{
    struct world *w = *state;
    int64_t in[8];
    struct tutti_received received;
    struct link *out = w->out[0][1], *into = w->in[1][0], *back = w->in[0][1];
    w->out[0][1] = w->in[1][0] = NULL;
    struct mail receive = receive_of(in, 8, 0, 7, &received);
    mailbox_post(w->boxes[1], &receive);
    post_message(w, 0, 0, 1, 7, 4);
    progress(w, 0);
    progress(w, 1);
    assert_true(mailbox_awaits(w->boxes[1], 0) && mailbox_sends(w->boxes[0], 1));
    assert_true(mailbox_awaits(w->boxes[0], 1)); /* open, though nothing is asked of it */
    w->in[0][1] = NULL;
    assert_false(mailbox_awaits(w->boxes[0], 1));
    w->in[0][1] = back;
    w->out[0][1] = out;
    w->in[1][0] = into;
    settle(w);
    check_received(&received, 0, 7, 4);
}

static void mails_read_like_calls(void **state)
{
    (void)state;
    char text[128];
    const struct mail send = send_of(NULL, 16, 2, 7);
    struct mail receive = receive_of(NULL, 16, 3, 7, NULL);
    assert_string_equal(mail_print(&send, text, sizeof text), "send(16 x int64, to rank 2, tag 7)");
    assert_string_equal(mail_print(&receive, text, sizeof text), "recv(16 x int64, from rank 3, tag 7)");
    receive.peer = TUTTI_ANY_SOURCE;
    receive.tag = TUTTI_ANY_TAG;
    assert_string_equal(mail_print(&receive, text, sizeof text), "recv(16 x int64, from any rank, any tag)");
}

#define WITH_TWO(test)  cmocka_unit_test_setup_teardown(test, open_two, close_world)
#define WITH_FOUR(test) cmocka_unit_test_setup_teardown(test, open_four, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TWO(a_message_comes_whole_whatever_its_length),
        cmocka_unit_test(frames_say_to_which_message_they_belong),
        WITH_TWO(a_message_without_elements_needs_no_buffer),
        WITH_TWO(messages_are_matched_in_the_order_of_sending_and_of_posting),
        WITH_TWO(a_receive_picks_its_tag_among_messages_that_came_earlier),
        WITH_FOUR(from_any_source_the_message_that_came_first_is_taken),
        cmocka_unit_test(sources_take_turns_where_any_will_do),
        cmocka_unit_test(a_message_that_has_its_receive_goes_before_those_that_have_none),
        WITH_TWO(a_rank_sends_to_itself),
        WITH_TWO(what_nobody_asks_for_is_kept_until_it_is_too_much),
        WITH_TWO(a_message_that_alone_is_too_much_is_kept_alone),
        WITH_TWO(messages_without_elements_are_limited_too),
        WITH_TWO(a_rank_that_sends_to_itself_too_much_waits),
        cmocka_unit_test(a_receive_claims_a_message_that_is_still_coming),
        cmocka_unit_test(ranks_that_send_in_a_circle_get_rid_of_what_they_send),
        WITH_TWO(links_that_are_not_open_are_waited_for),
        cmocka_unit_test(mails_read_like_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
