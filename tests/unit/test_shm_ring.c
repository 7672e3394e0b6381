/* The ring of slots by itself: counts, loans that hold a slot, what the other end may write, and who wakes
 * whom. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "transport/shm_ring.h"

#define SLOTS 4

struct ends {
    void *memory;
    struct shm_ring sender, receiver;
};

static int open_ends(void **state)
{
    struct ends *ends = calloc(1, sizeof *ends);
    size_t bytes = shm_ring_bytes(SLOTS, SHM_RING_SLOT_BYTES_MIN);
    assert_non_null(ends);
    ends->memory = aligned_alloc(4096, bytes);
    assert_non_null(ends->memory);
    memset(ends->memory, 0, bytes);
    shm_ring_format(ends->memory, 5);
    shm_ring_open(&ends->sender, ends->memory, SLOTS, SHM_RING_SLOT_BYTES_MIN);
    shm_ring_open(&ends->receiver, ends->memory, SLOTS, SHM_RING_SLOT_BYTES_MIN);
    *state = ends;
    return 0;
}

static int close_ends(void **state)
{
    struct ends *ends = *state;
    free(ends->memory);
    free(ends);
    return 0;
}

static void a_ring_is_full_after_its_slots_and_empty_after_as_many(void **state)
{
    struct ends *e = *state;
    for (int lap = 0; lap < 3; lap++) {
        for (int i = 0; i < SLOTS; i++) {
            assert_int_equal(shm_ring_has_room(&e->sender), 1);
            assert_false(shm_ring_fill(&e->sender));
        }
        assert_int_equal(shm_ring_has_room(&e->sender), 0);
        for (int i = 0; i < SLOTS; i++) {
            assert_int_equal(shm_ring_has_slot(&e->receiver, 0), 1);
            assert_false(shm_ring_free(&e->receiver));
            assert_int_equal(shm_ring_has_room(&e->sender), 1);
        }
        assert_int_equal(shm_ring_has_slot(&e->receiver, 0), 0);
    }
}

static void a_slot_that_is_held_is_not_taken_for_the_next(void **state)
{
    struct ends *e = *state;
    shm_ring_fill(&e->sender);
    assert_int_equal(shm_ring_has_slot(&e->receiver, 0), 1);
    assert_int_equal(shm_ring_has_slot(&e->receiver, 1), 0);
    assert_false(shm_ring_receiver_sleeps(&e->receiver, 1));
    assert_true(shm_ring_fill(&e->sender));
    assert_int_equal(shm_ring_has_slot(&e->receiver, 1), 1);
    assert_true(shm_ring_receiver_sleeps(&e->receiver, 1));
}

static void slots_and_headers_lie_apart_and_within_the_memory(void **state)
{
    struct ends *e = *state;
    const uint8_t *memory = e->memory, *end = memory + shm_ring_bytes(SLOTS, SHM_RING_SLOT_BYTES_MIN);
    for (uint64_t i = 0; i < SLOTS; i++) {
        const uint8_t *slot = shm_ring_slot(&e->sender, i), *header = shm_ring_header(&e->sender, i);
        assert_true(slot == memory + SHM_RING_CONTROL_BYTES + i * SHM_RING_SLOT_BYTES_MIN);
        assert_true(slot + SHM_RING_SLOT_BYTES_MIN <= end);
        assert_true(header + SHM_RING_HEADER_BYTES <= memory + SHM_RING_CONTROL_BYTES);
        assert_true(header >= (const uint8_t *)&e->sender.control->receiver_asleep + 64);
        assert_ptr_equal(slot, shm_ring_slot(&e->receiver, i + SLOTS));
        assert_ptr_equal(header, shm_ring_header(&e->receiver, i + SLOTS));
    }
}

/* What one end writes shares no cache line with what the other writes. */
static void each_end_writes_lines_of_its_own(void **state)
{
    (void)state;
    size_t filled = offsetof(struct shm_ring_control, filled),
           freed = offsetof(struct shm_ring_control, freed),
           sender = offsetof(struct shm_ring_control, sender_asleep),
           receiver = offsetof(struct shm_ring_control, receiver_asleep),
           headers = offsetof(struct shm_ring_control, headers);
    assert_true(filled / 64 < freed / 64 && freed / 64 < sender / 64);
    assert_true(sender / 64 < receiver / 64 && receiver / 64 < headers / 64);
    assert_int_equal(headers % 64, 0);
}

static void counts_of_the_other_end_that_cannot_be_are_told(void **state)
{
    struct ends *e = *state;
    shm_ring_fill(&e->sender);
    shm_ring_fill(&e->sender);
    assert_int_equal(shm_ring_has_slot(&e->receiver, 0), 1);
    for (int i = 0; i < 2; i++)
        shm_ring_free(&e->receiver);
    static const uint64_t filled[] = {0, 1, 2 + SLOTS + 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof filled / sizeof *filled; i++) {
        atomic_store(&e->receiver.control->filled, filled[i]);
        assert_int_equal(shm_ring_has_slot(&e->receiver, 0), -1);
        assert_true(shm_ring_receiver_sleeps(&e->receiver, 0));
    }
    atomic_store(&e->receiver.control->filled, 2 + SLOTS);
    assert_int_equal(shm_ring_has_slot(&e->receiver, 0), 1);
    for (int i = 0; i < 2; i++)
        shm_ring_fill(&e->sender);
    assert_int_equal(shm_ring_has_room(&e->sender), 1); /* 4 are filled, 2 of them free */
    for (int i = 0; i < 2; i++)
        shm_ring_fill(&e->sender);
    static const uint64_t freed[] = {1, 0, 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof freed / sizeof *freed; i++) {
        atomic_store(&e->sender.control->freed, freed[i]);
        assert_int_equal(shm_ring_has_room(&e->sender), -1);
        assert_true(shm_ring_sender_sleeps(&e->sender));
    }
}

static void a_sleeper_is_woken_once_and_not_where_there_is_something(void **state)
{
    struct ends *e = *state;
    assert_false(shm_ring_receiver_sleeps(&e->receiver, 0));
    assert_true(shm_ring_fill(&e->sender));
    assert_false(shm_ring_fill(&e->sender));
    assert_true(shm_ring_receiver_sleeps(&e->receiver, 0));
    while (shm_ring_has_room(&e->sender))
        shm_ring_fill(&e->sender);
    assert_false(shm_ring_sender_sleeps(&e->sender));
    assert_true(shm_ring_free(&e->receiver));
    assert_false(shm_ring_free(&e->receiver));
    assert_true(shm_ring_sender_sleeps(&e->sender));
}

static void shapes_that_no_ring_has_are_known(void **state)
{
    (void)state;
    assert_true(shm_ring_is_valid(SHM_RING_SLOTS, SHM_RING_SLOT_BYTES));
    assert_true(shm_ring_is_valid(SHM_RING_SLOTS_MAX, SHM_RING_SLOT_BYTES_MAX));
    assert_true(shm_ring_is_valid(2, SHM_RING_SLOT_BYTES_MIN));
    assert_false(shm_ring_is_valid(1, SHM_RING_SLOT_BYTES));
    assert_false(shm_ring_is_valid(SHM_RING_SLOTS_MAX + 1, SHM_RING_SLOT_BYTES));
    assert_false(shm_ring_is_valid(2, SHM_RING_SLOT_BYTES_MIN - 1));
    assert_false(shm_ring_is_valid(2, SHM_RING_SLOT_BYTES_MIN + 1));
    assert_false(shm_ring_is_valid(2, SHM_RING_SLOT_BYTES_MAX + SHM_RING_SLOT_BYTES_MIN));
}

#define PASSED 200000

static void *fill_all(void *context)
{
    struct shm_ring *ring = context;
    for (uint32_t i = 0; i < PASSED;) {
        int room = shm_ring_has_room(ring);
        if (room < 0)
            return (void *)"the sender saw a count that cannot be";
        if (room == 0) {
            sched_yield();
            continue;
        }
        memcpy(shm_ring_header(ring, ring->own), &i, sizeof i);
        memset(shm_ring_slot(ring, ring->own), (int)(i % 251), 40);
        shm_ring_fill(ring);
        i++;
    }
    return NULL;
}

static void *empty_all(void *context)
{
    struct shm_ring *ring = context;
    for (uint32_t i = 0; i < PASSED;) {
        int there = shm_ring_has_slot(ring, 0);
        if (there < 0)
            return (void *)"the receiver saw a count that cannot be";
        if (there == 0) {
            sched_yield();
            continue;
        }
        uint32_t number;
        memcpy(&number, shm_ring_header(ring, ring->own), sizeof number);
        const uint8_t *slot = shm_ring_slot(ring, ring->own);
        if (number != i || slot[0] != i % 251 || slot[39] != i % 251)
            return (void *)"a slot came wrong";
        shm_ring_free(ring);
        i++;
    }
    return NULL;
}

static void what_is_filled_is_seen_whole_by_another_thread(void **state)
{
    struct ends *e = *state;
    pthread_t threads[2];
    void *complaints[2];
    assert_int_equal(pthread_create(&threads[0], NULL, fill_all, &e->sender), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, empty_all, &e->receiver), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], &complaints[i]);
    for (int i = 0; i < 2; i++)
        if (complaints[i])
            fail_msg("%s", (const char *)complaints[i]);
}

/* In each round one end passes a slot on at about the moment at which the other falls asleep. */
#define ROUNDS 300000

struct duel {
    struct ends *ends;
    bool sender_sleeps;        /* else the receiver does */
    atomic_uint begun, passed; /* rounds */
    atomic_bool rang;          /* in this round */
    unsigned other_delay;
};

static void delay(unsigned turns)
{
    while (turns-- > 0)
        atomic_signal_fence(memory_order_seq_cst);
}

static void *pass_slots(void *context)
{
    struct duel *duel = context;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        while (atomic_load(&duel->begun) < round)
            sched_yield();
        delay(duel->other_delay);
        bool wakes =
            duel->sender_sleeps ? shm_ring_free(&duel->ends->receiver) : shm_ring_fill(&duel->ends->sender);
        atomic_store(&duel->rang, wakes);
        atomic_store(&duel->passed, round);
    }
    return NULL;
}

static unsigned fight(struct duel *duel)
{
    struct shm_ring *sender = &duel->ends->sender, *receiver = &duel->ends->receiver;
    unsigned lost = 0, random = 1;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        random = random * 1103515245 + 12345;
        unsigned sleeper_delay = random >> 16 & 63;
        duel->other_delay = random >> 24 & 63;
        atomic_store(&duel->begun, round);
        delay(sleeper_delay);
        bool there =
            duel->sender_sleeps ? shm_ring_sender_sleeps(sender) : shm_ring_receiver_sleeps(receiver, 0);
        while (atomic_load(&duel->passed) < round)
            sched_yield();
        lost += !there && !atomic_load(&duel->rang);
        if (duel->sender_sleeps) {
            assert_int_equal(shm_ring_has_room(sender), 1);
            shm_ring_fill(sender);
        } else {
            assert_int_equal(shm_ring_has_slot(receiver, 0), 1);
            shm_ring_free(receiver);
        }
    }
    return lost;
}

static void who_falls_asleep_sees_the_slot_or_is_woken(void **state)
{
    for (int sender_sleeps = 0; sender_sleeps < 2; sender_sleeps++) {
        struct duel duel = {.ends = *state, .sender_sleeps = sender_sleeps};
        pthread_t thread;
        for (int i = 0; sender_sleeps && i < SLOTS; i++)
            shm_ring_fill(&duel.ends->sender);
        assert_int_equal(pthread_create(&thread, NULL, pass_slots, &duel), 0);
        unsigned lost = fight(&duel);
        pthread_join(thread, NULL);
        assert_int_equal(lost, 0);
    }
}

#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, open_ends, close_ends)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(a_ring_is_full_after_its_slots_and_empty_after_as_many),
        RING_TEST(a_slot_that_is_held_is_not_taken_for_the_next),
        RING_TEST(slots_and_headers_lie_apart_and_within_the_memory),
        cmocka_unit_test(each_end_writes_lines_of_its_own),
        RING_TEST(counts_of_the_other_end_that_cannot_be_are_told),
        RING_TEST(a_sleeper_is_woken_once_and_not_where_there_is_something),
        cmocka_unit_test(shapes_that_no_ring_has_are_known),
        RING_TEST(what_is_filled_is_seen_whole_by_another_thread),
        RING_TEST(who_falls_asleep_sees_the_slot_or_is_woken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
