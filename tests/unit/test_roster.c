/* The roster: the cards go round the ring, and every rank ends with the same picture of the group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "algorithm/select.h"
#include "base/error.h"
#include "group/roster.h"

#define SIZE_MAX_TESTED 9

/* What each member says of itself, whatever the size of the group. */
struct world {
    uint8_t id[SIZE_MAX_TESTED][MEMBER_ID_BYTES];
    char address_text[SIZE_MAX_TESTED][2][40];
    char *addresses[SIZE_MAX_TESTED][2];
    Wire__Peer peer[SIZE_MAX_TESTED];
    Wire__Card card[SIZE_MAX_TESTED];
    struct roster roster[SIZE_MAX_TESTED];
    int size;
};

/* `hosts`: a letter for each rank. */
static void world_of(struct world *w, const char *hosts)
{
    memset(w, 0, sizeof *w);
    w->size = (int)strlen(hosts);
    for (int rank = 0; rank < w->size; rank++) {
        memset(w->id[rank], 'A' + rank, MEMBER_ID_BYTES);
        for (int i = 0; i < 2; i++) {
            snprintf(w->address_text[rank][i], sizeof w->address_text[rank][i], "10.0.%d.%d:4711", i, rank);
            w->addresses[rank][i] = w->address_text[rank][i];
        }
        wire__peer__init(&w->peer[rank]);
        w->peer[rank].rank = (uint32_t)rank;
        w->peer[rank].member_id = (ProtobufCBinaryData){MEMBER_ID_BYTES, w->id[rank]};
        w->peer[rank].host = (char *)(hosts[rank] == 'a' ? "boot-a" : hosts[rank] == 'b' ? "boot-b" : "c");
        w->peer[rank].host_name = (char *)(hosts[rank] == 'a' ? "alpha" : "beta");
        w->peer[rank].pid = 100 + (uint32_t)rank;
        w->peer[rank].addresses = w->addresses[rank];
        w->peer[rank].n_addresses = 2;
        wire__card__init(&w->card[rank]);
        w->card[rank].generation = 3;
        w->card[rank].peer = &w->peer[rank];
        w->card[rank].cores = 4 + (uint32_t)rank;
        w->card[rank].uds = rank % 2 == 0;
        w->card[rank].shm = rank % 3 == 0;
    }
    w->card[0].tuning = (char *)"tutti tuning 1\n";
}

static void open_rank(struct world *w, int rank)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(roster_open(&w->roster[rank], rank, w->size, &w->card[rank], &error), TUTTI_OK);
}

static void close_all(struct world *w)
{
    for (int rank = 0; rank < w->size; rank++)
        roster_close(&w->roster[rank]);
}

/* Hands the card of `of` to `rank`; what roster_receive() says. */
static int receive(struct world *w, int rank, int of)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    int result = roster_receive(&w->roster[rank], &w->card[of], &error);
    if (result < 0)
        fail_msg("rank %d refused the card of rank %d: %s", rank, of, error.message);
    return result;
}

/* Every rank sends its own card and what it is to pass on, in rounds, until nobody has anything to send;
 * returns how many cards were sent. */
static int circulate(struct world *w)
{
    int sent = 0, carried[SIZE_MAX_TESTED];
    for (int rank = 0; rank < w->size; rank++) {
        open_rank(w, rank);
        carried[rank] = w->size > 1 ? rank : -1;
    }
    for (int round = 0; round < w->size; round++) {
        int arrived[SIZE_MAX_TESTED];
        for (int rank = 0; rank < w->size; rank++) {
            arrived[rank] = carried[(rank + w->size - 1) % w->size];
            sent += arrived[rank] >= 0;
        }
        for (int rank = 0; rank < w->size; rank++)
            carried[rank] = arrived[rank] >= 0 && receive(w, rank, arrived[rank]) == 1 ? arrived[rank] : -1;
    }
    return sent;
}

/* ---- Circulation ------------------------------------------------------------------------------- */

static void every_rank_ends_with_the_cards_of_all(void **state)
{
    (void)state;
    struct world w;
    for (int size = 1; size <= SIZE_MAX_TESTED; size++) {
        char hosts[SIZE_MAX_TESTED + 1] = "";
        memset(hosts, 'a', (size_t)size);
        world_of(&w, hosts);
        /* Each card goes to all others, once. */
        assert_int_equal(circulate(&w), size * (size - 1));
        for (int rank = 0; rank < size; rank++) {
            const struct roster *roster = &w.roster[rank];
            assert_true(roster_is_complete(roster));
            assert_string_equal(roster->tuning, "tutti tuning 1\n");
            for (int other = 0; other < size; other++) {
                const struct roster_member *member = &roster->members[other];
                char text[64], address[40];
                assert_true(member->known);
                assert_memory_equal(member->member_id, w.id[other], MEMBER_ID_BYTES);
                snprintf(text, sizeof text, "rank %d (host alpha, pid %d)", other, 100 + other);
                assert_string_equal(member->text, text);
                assert_string_equal(member->host_name, "alpha");
                assert_string_equal(member->identity, "boot-a");
                assert_int_equal(member->cores, 4 + other);
                assert_int_equal(member->uds, other % 2 == 0);
                assert_int_equal(member->shm, other % 3 == 0);
                assert_int_equal(member->address_count, 2);
                snprintf(address, sizeof address, "10.0.1.%d:4711", other);
                assert_string_equal(member->addresses[1], address);
            }
        }
        close_all(&w);
    }
}

static void a_card_is_passed_on_unless_it_is_that_of_the_next_rank(void **state)
{
    (void)state;
    struct world w;
    world_of(&w, "aaaa");
    open_rank(&w, 1);
    assert_false(roster_is_complete(&w.roster[1]));
    assert_int_equal(receive(&w, 1, 0), 1);
    assert_int_equal(receive(&w, 1, 3), 1);
    assert_false(roster_is_complete(&w.roster[1]));
    assert_int_equal(receive(&w, 1, 2), 0);
    assert_true(roster_is_complete(&w.roster[1]));
    close_all(&w);
}

static void the_tuning_is_that_of_rank_0_alone(void **state)
{
    (void)state;
    struct world w;
    world_of(&w, "aaa");
    w.card[0].tuning = (char *)"";
    w.card[1].tuning = w.card[2].tuning = (char *)"of another rank";
    circulate(&w);
    for (int rank = 0; rank < 3; rank++)
        assert_null(w.roster[rank].tuning);
    close_all(&w);
}

/* ---- Hosts -------------------------------------------------------------------------------------- */

static void hosts_are_numbered_in_the_order_of_their_lowest_ranks(void **state)
{
    (void)state;
    static const struct {
        const char *hosts;
        int host_of[SIZE_MAX_TESTED], host_count, local_min, local_max;
        bool consecutive;
    } cases[] = {
        {"a", {0}, 1, 1, 1, true},
        {"bbaa", {0, 0, 1, 1}, 2, 2, 2, true},
        {"bbbac", {0, 0, 0, 1, 2}, 3, 1, 3, true},
        {"bab", {0, 1, 0}, 2, 1, 2, false},
        {"abcabc", {0, 1, 2, 0, 1, 2}, 3, 2, 2, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        world_of(&w, cases[i].hosts);
        circulate(&w);
        for (int rank = 0; rank < w.size; rank++) {
            const struct roster *roster = &w.roster[rank];
            assert_int_equal(roster->host_count, cases[i].host_count);
            struct select_group group = {.size = w.size};
            select_count_hosts(&group, &(struct host_map){roster->host_count, roster->host_of});
            assert_int_equal(group.local_min, cases[i].local_min);
            assert_int_equal(group.local_max, cases[i].local_max);
            assert_int_equal(group.hosts_consecutive, cases[i].consecutive);
            for (int other = 0; other < w.size; other++) {
                assert_int_equal(roster->host_of[other], cases[i].host_of[other]);
                assert_int_equal(roster->members[other].host, cases[i].host_of[other]);
            }
        }
        close_all(&w);
    }
}

/* ---- Refusals ----------------------------------------------------------------------------------- */

/* Rank 1 of 4, which has the card of rank 0, refuses `card`, and goes on as if it had not come. */
static void assert_refused(struct world *w, const Wire__Card *card, const char *expected)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(roster_receive(&w->roster[1], card, &error), TUTTI_ERR_PROTOCOL);
    assert_int_equal(error.code, TUTTI_ERR_PROTOCOL);
    if (!strstr(error.message, expected))
        fail_msg("the error says \"%s\", expected \"%s\"", error.message, expected);
    assert_int_equal(w->roster[1].known, 2);
}

static void a_card_out_of_order_or_malformed_is_refused(void **state)
{
    (void)state;
    struct world w;
    world_of(&w, "aaaa");
    open_rank(&w, 1);
    receive(&w, 1, 0);
    assert_refused(&w, &w.card[0], "the card of rank 0 where that of rank 3 was due");
    assert_refused(&w, &w.card[1], "the card of rank 1 where that of rank 3 was due");
    assert_refused(&w, &w.card[2], "the card of rank 2 where that of rank 3 was due");

    Wire__Peer peer = w.peer[3];
    Wire__Card card = w.card[3];
    card.peer = &peer;
    peer.rank = UINT32_MAX;
    assert_refused(&w, &card, "the card of rank 4294967295 where that of rank 3 was due");
    peer = w.peer[3];
    peer.member_id.len = 15;
    assert_refused(&w, &card, "a card without a member");
    peer.member_id = w.peer[0].member_id;
    assert_refused(&w, &card, "the card of rank 3 has the member id of rank 0");
    peer = w.peer[3];
    peer.n_addresses = ROSTER_ADDRESSES_MAX + 1;
    assert_refused(&w, &card, "the card of rank 3 has 10 addresses, and 9 are the most");
    card.peer = NULL;
    assert_refused(&w, &card, "a card without a member where that of rank 3 was due");

    assert_int_equal(receive(&w, 1, 3), 1);
    assert_int_equal(receive(&w, 1, 2), 0);
    close_all(&w);
}

static void a_card_too_many_is_refused(void **state)
{
    (void)state;
    struct world w;
    world_of(&w, "aa");
    circulate(&w);
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(roster_receive(&w.roster[0], &w.card[1], &error), TUTTI_ERR_PROTOCOL);
    assert_non_null(strstr(error.message, "another card when those of all 2 ranks were here"));
    close_all(&w);
    world_of(&w, "a");
    open_rank(&w, 0);
    assert_int_equal(roster_receive(&w.roster[0], &w.card[0], &error), TUTTI_ERR_PROTOCOL);
    close_all(&w);
}

static void names_of_any_length_are_cut_to_their_room(void **state)
{
    (void)state;
    char name[4097], host[4097];
    struct world w;
    world_of(&w, "aa");
    memset(name, 'n', sizeof name - 1);
    memset(host, 'h', sizeof host - 1);
    name[sizeof name - 1] = host[sizeof host - 1] = '\0';
    w.peer[0].host_name = name;
    w.peer[0].host = host;
    circulate(&w);
    const struct roster_member *member = &w.roster[1].members[0];
    assert_int_equal(strlen(member->host_name), sizeof member->host_name - 1);
    assert_int_equal(strlen(member->identity), 4096);
    assert_non_null(strstr(member->text, ", pid 100)"));
    close_all(&w);
}

static void a_zeroed_roster_may_be_closed(void **state)
{
    (void)state;
    struct roster roster = {0};
    roster_close(&roster);
    assert_null(roster.members);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_ends_with_the_cards_of_all),
        cmocka_unit_test(a_card_is_passed_on_unless_it_is_that_of_the_next_rank),
        cmocka_unit_test(the_tuning_is_that_of_rank_0_alone),
        cmocka_unit_test(hosts_are_numbered_in_the_order_of_their_lowest_ranks),
        cmocka_unit_test(a_card_out_of_order_or_malformed_is_refused),
        cmocka_unit_test(a_card_too_many_is_refused),
        cmocka_unit_test(names_of_any_length_are_cut_to_their_room),
        cmocka_unit_test(a_zeroed_roster_may_be_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
