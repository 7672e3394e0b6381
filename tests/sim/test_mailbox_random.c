/* Random messages among 2 to 6 ranks over links that stutter, by seeds: each comes to one receive that asked
 * for it, as it was sent, and none overtakes another where the rules forbid it.
 *
 * A rank gets a turn only when mailbox_awaits() and mailbox_sends() say that there is something to do, as if
 * it slept in poll() otherwise.  When nothing moves any more, receives for messages that are left over are
 * posted, and then messages for receives that are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include "tests/sim/small_mailbox.h"

#define MESSAGES_MAX  400
#define ELEMENTS_MAX  700 /* more than may be kept, in bytes */
#define TAGS          3
#define UNIQUE_TAG(i) (1000 + (i)) /* of a message that is empty and so shows in nothing else which it is */
#define CANARY        INT64_C(0x5555555555555555)

/* Two sides of a story that the oracle compares: what was sent, and what a receive says that it got. */
struct sent {
    struct mail mail;
    int from, receive; /* receive: which one got it; -1: none yet */
    int64_t *data;
};

struct posted {
    struct mail mail;
    int at, message; /* message: which one it got; -1: none yet */
    struct tutti_received received;
    int64_t *data;
};

struct story {
    struct world world;
    struct sent sent[MESSAGES_MAX];
    struct posted posted[MESSAGES_MAX];
    int sent_count, posted_count, type;
    bool idle[WORLD_RANKS_MAX]; /* has moved nothing since it was last told of anything */
};

static uint64_t draw(struct story *s, uint64_t below)
{
    return sim_random(&s->world.random) % below;
}

static int64_t element_of(int message, size_t index)
{
    return (int64_t)message << 32 | (int64_t)index;
}

/* ---- Posting ----------------------------------------------------------------------------------- */

static void post_send(struct story *s, int from, int to, int tag, size_t count)
{
    assert_true(s->sent_count < MESSAGES_MAX);
    int index = s->sent_count++;
    struct sent *sent = &s->sent[index];
    sent->from = from;
    sent->receive = -1;
    sent->data = malloc((count + 1) * sizeof *sent->data);
    for (size_t i = 0; i < count; i++)
        sent->data[i] = element_of(index, i);
    sent->mail = (struct mail){.sends = true,
                               .peer = to,
                               .tag = count > 0 ? tag : UNIQUE_TAG(index),
                               .type = s->type,
                               .buffer = sent->data,
                               .count = count,
                               .owner = sent};
    mailbox_post(s->world.boxes[from], &sent->mail);
    s->idle[from] = false;
}

static void post_receive(struct story *s, int at, int from, int tag)
{
    assert_true(s->posted_count < MESSAGES_MAX);
    struct posted *posted = &s->posted[s->posted_count++];
    posted->at = at;
    posted->message = -1;
    posted->data = malloc((ELEMENTS_MAX + 1) * sizeof *posted->data);
    for (size_t i = 0; i <= ELEMENTS_MAX; i++)
        posted->data[i] = CANARY;
    posted->mail = (struct mail){.peer = from,
                                 .tag = tag,
                                 .type = s->type,
                                 .buffer = posted->data,
                                 .count = ELEMENTS_MAX,
                                 .received = &posted->received,
                                 .owner = posted};
    mailbox_post(s->world.boxes[at], &posted->mail);
    s->idle[at] = false;
}

static size_t random_count(struct story *s)
{
    switch (draw(s, 8)) {
    case 0:
        return 0;
    case 1:
        return 1 + draw(s, ELEMENTS_MAX);
    default:
        return 1 + draw(s, 40);
    }
}

static void post_something(struct story *s)
{
    uint64_t size = (uint64_t)s->world.size;
    int rank = (int)draw(s, size), peer = (int)draw(s, size), tag = (int)draw(s, TAGS);
    if (draw(s, 2) == 0) {
        post_send(s, rank, peer, tag, random_count(s));
        return;
    }
    bool any_source = draw(s, 3) == 0, any_tag = draw(s, 3) == 0;
    post_receive(s, rank, any_source ? TUTTI_ANY_SOURCE : peer, any_tag ? TUTTI_ANY_TAG : tag);
}

/* ---- What comes -------------------------------------------------------------------------------- */

/* Which message a receive has got, by what it shows. */
static int message_of(const struct story *s, const struct posted *posted)
{
    const struct tutti_received *received = &posted->received;
    int index = received->count > 0 ? (int)(posted->data[0] >> 32) : received->tag - UNIQUE_TAG(0);
    assert_in_range(index, 0, s->sent_count - 1);
    return index;
}

static void check_receive(struct story *s, struct posted *posted)
{
    const struct tutti_received *received = &posted->received;
    posted->message = message_of(s, posted);
    struct sent *sent = &s->sent[posted->message];
    assert_int_equal(sent->receive, -1); /* each message comes once */
    sent->receive = (int)(posted - s->posted);
    assert_int_equal(sent->mail.peer, posted->at);
    assert_int_equal(received->source, sent->from);
    assert_int_equal(received->tag, sent->mail.tag);
    assert_int_equal(received->count, sent->mail.count);
    assert_true(mail_takes(&posted->mail, sent->from, sent->mail.tag));
    for (size_t i = 0; i < received->count; i++)
        assert_int_equal(posted->data[i], element_of(posted->message, i));
    for (size_t i = received->count; i <= ELEMENTS_MAX; i++)
        assert_int_equal(posted->data[i], CANARY);
}

/* Takes what is complete.  Whose send has ended may use its buffer for something else. */
static void take_complete(struct story *s, int rank)
{
    struct mail *mail;
    while ((mail = mailbox_take_complete(s->world.boxes[rank]))) {
        assert_true(mail->complete);
        if (mail->sends)
            memset(mail->buffer, 0xee, mail->count * sizeof(int64_t));
        else
            check_receive(s, mail->owner);
    }
}

/* ---- Turns ------------------------------------------------------------------------------------- */

/* Would poll() wake that rank? */
static bool is_awake(const struct story *s, int rank)
{
    const struct world *w = &s->world;
    for (int peer = 0; peer < w->size; peer++) {
        if (peer == rank)
            continue;
        const struct virtual_queue *from = w->queues[peer][rank], *to = w->queues[rank][peer];
        if (mailbox_awaits(w->boxes[rank], peer) && from->used > 0)
            return true;
        if (mailbox_sends(w->boxes[rank], peer) && to->used < to->capacity)
            return true;
    }
    return false;
}

static bool has_turn(const struct story *s, int rank)
{
    return mailbox_is_busy(s->world.boxes[rank]) && (!s->idle[rank] || is_awake(s, rank));
}

static void turn(struct story *s, int rank)
{
    if (!has_turn(s, rank))
        return;
    s->idle[rank] = !progress(&s->world, rank);
    take_complete(s, rank);
}

/* Until nobody has anything to do.  That ends: a rank which would be woken again and again without getting
 * anywhere would burn its core. */
static void run_dry(struct story *s)
{
    int size = s->world.size;
    for (long calls = 0;; calls++) {
        bool any = false;
        for (int rank = 0; rank < size && !any; rank++)
            any = has_turn(s, rank);
        if (!any)
            return;
        assert_true(calls < 2000000);
        turn(s, (int)draw(s, (uint64_t)size));
    }
}

/* ---- The end ----------------------------------------------------------------------------------- */

/* Posts a receive for a message that nobody has asked for or, where there is none, a message for a receive
 * that waits.  false: all is done. */
static bool help(struct story *s)
{
    for (int i = 0; i < s->sent_count; i++) {
        if (s->sent[i].receive < 0) {
            post_receive(s, s->sent[i].mail.peer, TUTTI_ANY_SOURCE, TUTTI_ANY_TAG);
            return true;
        }
    }
    for (int i = 0; i < s->posted_count; i++) {
        const struct mail *mail = &s->posted[i].mail;
        if (s->posted[i].message >= 0)
            continue;
        int from = mail->peer == TUTTI_ANY_SOURCE ? (int)draw(s, (uint64_t)s->world.size) : mail->peer;
        post_send(s, from, s->posted[i].at, mail->tag == TUTTI_ANY_TAG ? 0 : mail->tag, 1 + draw(s, 40));
        return true;
    }
    return false;
}

/* Of two messages of one pair the earlier may go to the later receive only if the earlier receive would not
 * have taken it. */
static void check_order(const struct story *s)
{
    for (int late = 0; late < s->sent_count; late++) {
        for (int early = 0; early < late; early++) {
            const struct sent *a = &s->sent[early], *b = &s->sent[late];
            if (a->from != b->from || a->mail.peer != b->mail.peer || a->receive < b->receive)
                continue;
            if (mail_takes(&s->posted[b->receive].mail, a->from, a->mail.tag))
                fail_msg("message %d from rank %d to rank %d was overtaken by message %d", early, a->from,
                         a->mail.peer, late);
        }
    }
}

static void run_story(uint64_t seed)
{
    static struct story story;
    static const int types[] = {TUTTI_INT64, TUTTI_UINT64, TUTTI_FLOAT64, TUTTI_COMPLEX64};
    struct story *s = &story;
    uint64_t random = seed;
    memset(s, 0, sizeof *s);
    int size = 2 + (int)(sim_random(&random) % (WORLD_RANKS_MAX - 1));
    uint32_t slice_bytes = 8 + (uint32_t)(sim_random(&random) % 600);
    world_open(&s->world, seed, size, slice_bytes, 1 + sim_random(&random) % 1500);
    s->type = types[draw(s, 4)];
    bool checksum = draw(s, 2);
    for (int rank = 0; rank < size; rank++)
        s->world.groups[rank].checksum = checksum;
    int posts = 10 + (int)draw(s, 120), calm = 1 + (int)draw(s, 30);
    while (posts > 0) {
        if (draw(s, (uint64_t)calm) == 0) {
            post_something(s);
            posts--;
        }
        turn(s, (int)draw(s, (uint64_t)size));
    }
    do {
        run_dry(s);
    } while (help(s));
    check_order(s);
    for (int rank = 0; rank < size; rank++) {
        assert_false(mailbox_is_busy(s->world.boxes[rank]));
        for (int peer = 0; peer < size; peer++)
            assert_int_equal(s->world.boxes[rank]->peers[peer].kept.messages, 0);
    }
    for (int i = 0; i < s->sent_count; i++)
        free(s->sent[i].data);
    for (int i = 0; i < s->posted_count; i++)
        free(s->posted[i].data);
    world_close(&s->world);
}

static void every_message_comes_once_and_in_order_to_a_receive_that_asked_for_it(void **state)
{
    (void)state;
    const char *text = getenv("TUTTI_TEST_SEED");
    uint64_t first = text ? strtoull(text, NULL, 0) : 1, count = text ? 1 : 300;
    for (uint64_t seed = first; seed < first + count; seed++) {
        print_message("TUTTI_TEST_SEED=%llu\n", (unsigned long long)seed);
        run_story(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_once_and_in_order_to_a_receive_that_asked_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
