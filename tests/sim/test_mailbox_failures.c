/* Messages from rank to rank: what is wrong with them, and giving up. */
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

static int close_world(void **state)
{
    memory_is_out = false;
    world_close(*state);
    return 0;
}

/* ---- What is wrong ----------------------------------------------------------------------------- */

/* Rank `rank` turns until it fails, which must not take long. */
static void expect_failure(struct world *w, int rank, int code, int cause, const char *words)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = TUTTI_OK;
    bool moved;
    for (int calls = 0; calls < 1000 && status == TUTTI_OK; calls++) {
        if (cause >= 0 && rank != cause)
            progress(w, cause);
        status = mailbox_progress(w->boxes[rank], &moved, &error);
    }
    assert_int_equal(status, code);
    assert_int_equal(error.code, code);
    assert_int_equal(error.rank, cause);
    if (!strstr(error.message, words))
        fail_msg("the error says \"%s\", expected \"%s\"", error.message, words);
}

static void a_message_that_does_not_fit_its_receive_is_a_mismatch_of_both(void **state)
{
    (void)state;
    for (int early = 0; early < 2; early++) {
        for (int self = 0; self < 2; self++) {
            struct world w;
            int64_t in[16];
            int to = self ? 0 : 1;
            char text[256];
            world_open(&w, 9, 2, SLICE, 1000);
            struct mail receive = receive_of(in, 8, TUTTI_ANY_SOURCE, 7, NULL);
            if (early)
                mailbox_post(w.boxes[to], &receive);
            settle(&w);
            post_message(&w, 0, 0, to, 7, 16);
            if (!early) {
                settle(&w);
                mailbox_post(w.boxes[to], &receive);
            }
            snprintf(text, sizeof text,
                     "rank 0 called send(16 x int64, to rank %d, tag 7), which does not fit recv(8 x int64, "
                     "from any rank, tag 7) of rank %d: a receive needs the type of its message and room for "
                     "all of it",
                     to, to);
            expect_failure(&w, to, TUTTI_ERR_MISMATCH, 0, text);
            mailbox_forget(w.boxes[to], NULL);
            assert_false(mailbox_is_busy(w.boxes[to]));
            world_close(&w);
        }
    }
}

static void another_type_is_a_mismatch_even_of_nothing(void **state)
{
    struct world *w = *state;
    struct mail receive = receive_of(NULL, 0, 0, TUTTI_ANY_TAG, NULL);
    receive.type = TUTTI_FLOAT64;
    mailbox_post(w->boxes[1], &receive);
    post_message(w, 0, 0, 1, 7, 0);
    expect_failure(w, 1, TUTTI_ERR_MISMATCH, 0,
                   "send(0 x int64, to rank 1, tag 7), which does not fit recv(0 x float64, from rank 0, any "
                   "tag)");
}

/* A frame as a peer in order would send it, for the second frame of a message of 16 int64. */
static struct frame sample_frame(int step)
{
    return (struct frame){.type = FRAME_DATA,
                          .channel = 1,
                          .instance = 7,
                          .generation = 2,
                          .sequence = 1,
                          .call = {.operation = TUTTI_SEND, .type = TUTTI_INT64, .root = 7, .count = 16},
                          .step = (uint32_t)step,
                          .length = SLICE};
}

static void put_frame(struct world *w, struct frame *frame)
{
    static const uint8_t payload[4096];
    for (int calls = 0; w->out[0][1]->ops->send(w->out[0][1], frame, payload, NULL) != LINK_DONE; calls++)
        assert_true(calls < 1000);
}

static void frames_that_no_message_has_are_refused(void **state)
{
    (void)state;
    struct frame bad[24];
    const char *words[24];
    int steps[24], count = 0;
#define BAD(first, text, change)                                                                             \
    do {                                                                                                     \
        struct frame frame = sample_frame(first);                                                            \
        change;                                                                                              \
        steps[count] = first;                                                                                \
        words[count] = text;                                                                                 \
        bad[count++] = frame;                                                                                \
    } while (0)
    for (int step = 0; step < 2; step++) {
        BAD(step, "a member of an earlier group is still sending", frame.generation = 1);
        BAD(step, "a member of an earlier group is still sending", frame.instance = 8);
        BAD(step, "that is no message", frame.call.operation = TUTTI_BROADCAST);
        BAD(step, "that is no message", frame.call.type = 200);
        BAD(step, "that is no message", frame.call.root = UINT32_MAX);
        BAD(step, "that is no message", frame.type = FRAME_CONTROL);
        BAD(step, "its length is not that of a slice", frame.length = SLICE - 8);
        BAD(step, "its length is not that of a slice", frame.length = SLICE + 8);
        BAD(step, step ? "has not ended" : "not the beginning", frame.sequence = 2);
        BAD(step, step ? "has not ended" : "not the beginning", frame.step = 2);
    }
    BAD(0, "no memory can hold so much", frame.call.count = UINT64_MAX / 8 + 1);
    BAD(1, "has not ended", frame.call.count = 17);
    BAD(1, "has not ended", frame.call.root = 8);
#undef BAD
    for (int i = 0; i < count; i++) {
        struct world w;
        struct frame first = sample_frame(0);
        world_open(&w, 3, 2, SLICE, 2000);
        if (steps[i] == 1)
            put_frame(&w, &first);
        put_frame(&w, &bad[i]);
        int64_t in[16];
        struct mail receive = receive_of(in, 16, 0, 7, NULL);
        mailbox_post(w.boxes[1], &receive);
        expect_failure(&w, 1, TUTTI_ERR_PROTOCOL, 0, words[i]);
        mailbox_forget(w.boxes[1], NULL);
        assert_false(mailbox_is_busy(w.boxes[1]));
        world_close(&w);
    }
}

static void a_damaged_payload_is_noticed_where_checksums_are_on(void **state)
{
    struct world *w = *state;
    w->groups[0].checksum = true;
    int64_t in[16];
    struct mail receive = receive_of(in, 16, 0, 7, NULL);
    post_message(w, 0, 0, 1, 7, 16);
    while (!pool_mail[0].complete)
        progress(w, 0);
    w->queues[0][1]->bytes[w->queues[0][1]->begin + FRAME_HEADER_BYTES + 3] ^= 1;
    mailbox_post(w->boxes[1], &receive);
    struct tutti_error error = TUTTI_ERROR_INIT;
    bool moved;
    int status = TUTTI_OK;
    for (int calls = 0; calls < 1000 && status == TUTTI_OK; calls++)
        status = mailbox_progress(w->boxes[1], &moved, &error);
    assert_int_equal(status, TUTTI_ERR_PROTOCOL);
    assert_non_null(strstr(error.message, "damaged"));
}

static void memory_that_is_out_is_told_with_the_message(void **state)
{
    struct world *w = *state;
    post_message(w, 0, 0, 1, 7, 16);
    post_message(w, 1, 1, 1, 8, 16);
    memory_is_out = true;
    expect_failure(
        w, 1, TUTTI_ERR_MEMORY, -1,
        "out of memory for a message of 128 bytes from rank 1, tag 8, that no receive has asked for");
}

/* ---- Giving up --------------------------------------------------------------------------------- */

static void the_mails_of_one_owner_are_forgotten_and_no_others(void **state)
{
    struct world *w = *state;
    int64_t in[2][8], out[8] = {0};
    struct tutti_received received;
    int owners[2];
    struct mail receives[2] = {receive_of(in[0], 8, 0, 7, NULL), receive_of(in[1], 8, 0, 7, &received)};
    struct mail send = send_of(out, 8, 0, 7);
    receives[0].owner = send.owner = &owners[0];
    receives[1].owner = &owners[1];
    mailbox_post(w->boxes[1], &receives[0]);
    mailbox_post(w->boxes[1], &receives[1]);
    mailbox_post(w->boxes[1], &send);
    mailbox_forget(w->boxes[1], &owners[0]);
    assert_true(mailbox_is_busy(w->boxes[1]));
    assert_false(mailbox_sends(w->boxes[1], 0));
    post_message(w, 0, 0, 1, 7, 4);
    settle(w);
    check_received(&received, 0, 7, 4);
    check_complete(w, 1, (struct mail *[]){&receives[1]}, 1);
    assert_false(receives[0].complete || send.complete);
}

static void after_a_failure_everything_is_forgotten_wherever_it_was(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 200; seed++) {
        struct world w;
        int64_t in[3][600];
        struct mail receives[3];
        world_open(&w, seed, 2, SLICE, 100);
        for (int i = 0; i < 3; i++) {
            post_message(&w, i, 0, 1, i, 100);
            receives[i] = receive_of(in[i], 600, i == 1 ? 0 : TUTTI_ANY_SOURCE, i, NULL);
        }
        for (uint64_t calls = 0; calls < seed && calls < 130; calls++) { /* each is posted once */
            if (calls % 40 == 10)
                mailbox_post(w.boxes[1], &receives[calls / 40 % 3]);
            progress(&w, (int)(calls % 2));
        }
        for (int rank = 0; rank < 2; rank++) {
            mailbox_forget(w.boxes[rank], NULL);
            assert_false(mailbox_is_busy(w.boxes[rank]));
            assert_null(mailbox_take_complete(w.boxes[rank]));
        }
        world_close(&w); /* and the sanitizer finds what is lost */
    }
}

#define WITH_TWO(test) cmocka_unit_test_setup_teardown(test, open_two, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_that_does_not_fit_its_receive_is_a_mismatch_of_both),
        WITH_TWO(another_type_is_a_mismatch_even_of_nothing),
        cmocka_unit_test(frames_that_no_message_has_are_refused),
        WITH_TWO(a_damaged_payload_is_noticed_where_checksums_are_on),
        WITH_TWO(memory_that_is_out_is_told_with_the_message),
        WITH_TWO(the_mails_of_one_owner_are_forgotten_and_no_others),
        cmocka_unit_test(after_a_failure_everything_is_forgotten_wherever_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
