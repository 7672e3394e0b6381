#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "group/place.h"

/* Rank 2 of 4, on host "a"; the ranks beside it are 3 (host "b") and 1 (host "a"). */
struct world {
    uint8_t id[4][MEMBER_ID_BYTES];
    Wire__Peer next, previous;
    Wire__Welcome welcome;
    Wire__Reformed reformed;
    struct group_place place;
};

static void peer_of(struct world *w, Wire__Peer *peer, uint32_t rank, const char *host)
{
    wire__peer__init(peer);
    peer->rank = rank;
    peer->member_id = (ProtobufCBinaryData){MEMBER_ID_BYTES, w->id[rank]};
    peer->host = (char *)host;
    peer->host_name = (char *)(*host == 'a' ? "alpha" : "beta");
    peer->pid = 100 + rank;
}

static int set_up(void **state)
{
    static struct world world;
    struct world *w = &world;
    memset(w, 0, sizeof *w);
    for (int rank = 0; rank < 4; rank++)
        memset(w->id[rank], 'A' + rank, MEMBER_ID_BYTES);
    peer_of(w, &w->next, 3, "b");
    peer_of(w, &w->previous, 1, "a");
    wire__reformed__init(&w->reformed);
    wire__welcome__init(&w->welcome);
    w->welcome.instance = 0x1122334455667788;
    w->welcome.generation = 3;
    w->welcome.rank = 2;
    w->welcome.size = 4;
    w->welcome.local_size = 3;
    w->welcome.embedded = true;
    w->welcome.next = &w->next;
    w->welcome.previous = &w->previous;
    w->place = (struct group_place){.rank = -1, .size = -1};
    memcpy(w->place.member_id, w->id[2], MEMBER_ID_BYTES);
    *state = w;
    return 0;
}

static int read_welcome(struct world *w, int size)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = place_from_welcome(&w->place, &w->welcome, "a", size, &error);
    assert_int_equal(status, error.code);
    if (status < 0)
        assert_non_null(strstr(error.message, "a welcome that makes no sense (rank "));
    return status;
}

/* ---- The Welcome ------------------------------------------------------------------------------- */

static void a_welcome_tells_the_place_and_the_neighbours(void **state)
{
    struct world *w = *state;
    assert_int_equal(read_welcome(w, 4), TUTTI_OK);
    assert_int_equal(w->place.rank, 2);
    assert_int_equal(w->place.size, 4);
    assert_int_equal(w->place.local_size, 3);
    assert_true(w->place.instance == 0x1122334455667788);
    assert_int_equal(w->place.generation, 3);
    assert_true(w->place.embedded);
    assert_memory_equal(w->place.member_id, w->id[2], MEMBER_ID_BYTES);
    assert_int_equal(w->place.next.rank, 3);
    assert_memory_equal(w->place.next.member_id, w->id[3], MEMBER_ID_BYTES);
    assert_string_equal(w->place.next.host_name, "beta");
    assert_string_equal(w->place.next.text, "rank 3 (host beta, pid 103)");
    assert_false(w->place.next.same_host);
    assert_int_equal(w->place.previous.rank, 1);
    assert_string_equal(w->place.previous.text, "rank 1 (host alpha, pid 101)");
    assert_true(w->place.previous.same_host);
}

static void the_ring_closes_behind_the_last_rank_and_before_the_first(void **state)
{
    struct world *w = *state;
    w->welcome.rank = 3;
    peer_of(w, &w->next, 0, "a");
    peer_of(w, &w->previous, 2, "a");
    assert_int_equal(read_welcome(w, 4), TUTTI_OK);
    w->welcome.rank = 0;
    peer_of(w, &w->next, 1, "a");
    peer_of(w, &w->previous, 3, "a");
    assert_int_equal(read_welcome(w, 4), TUTTI_OK);
    assert_int_equal(w->place.previous.rank, 3);
}

static void in_a_group_of_two_both_neighbours_are_the_other_rank(void **state)
{
    struct world *w = *state;
    w->welcome.rank = 1;
    w->welcome.size = w->welcome.local_size = 2;
    peer_of(w, &w->next, 0, "a");
    peer_of(w, &w->previous, 0, "a");
    assert_int_equal(read_welcome(w, 2), TUTTI_OK);
    assert_int_equal(w->place.next.rank, 0);
    assert_int_equal(w->place.previous.rank, 0);
}

static void a_group_of_one_has_no_neighbours(void **state)
{
    struct world *w = *state;
    w->welcome.rank = 0;
    w->welcome.size = w->welcome.local_size = 1;
    w->welcome.next = w->welcome.previous = NULL;
    assert_int_equal(read_welcome(w, 1), TUTTI_OK);
    assert_int_equal(w->place.next.rank, -1);
    assert_int_equal(w->place.previous.rank, -1);
}

static void a_group_is_as_large_as_asked_for_unless_it_was_re_formed(void **state)
{
    struct world *w = *state;
    assert_int_equal(read_welcome(w, 5), TUTTI_ERR_PROTOCOL);
    assert_int_equal(read_welcome(w, 3), TUTTI_ERR_PROTOCOL);
    w->welcome.reformed = &w->reformed;
    assert_int_equal(read_welcome(w, 3), TUTTI_ERR_PROTOCOL);
    assert_int_equal(read_welcome(w, 5), TUTTI_OK);
}

static void take_instance(struct world *w)
{
    w->welcome.instance = 0;
}
static void take_next(struct world *w)
{
    w->welcome.next = NULL;
}
static void take_previous(struct world *w)
{
    w->welcome.previous = NULL;
}
static void change_next(struct world *w)
{
    w->next.rank = 1;
}
static void change_previous(struct world *w)
{
    w->previous.rank = 3;
}
static void shorten_id(struct world *w)
{
    w->next.member_id.len = MEMBER_ID_BYTES - 1;
}

static void assert_senseless(struct world *w)
{
    struct group_place before = w->place;
    w->welcome.reformed = &w->reformed; /* so that sizes up to 4 are right */
    assert_int_equal(read_welcome(w, 4), TUTTI_ERR_PROTOCOL);
    assert_memory_equal(&w->place, &before, sizeof before);
}

static void a_welcome_that_makes_no_sense_changes_nothing(void **state)
{
    static const struct {
        size_t offset; /* of a u32 in the Welcome */
        uint32_t value;
    } numbers[] = {
        {offsetof(Wire__Welcome, rank), 4},       {offsetof(Wire__Welcome, size), 0},
        {offsetof(Wire__Welcome, generation), 0}, {offsetof(Wire__Welcome, local_size), 0},
        {offsetof(Wire__Welcome, local_size), 5},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        set_up(state);
        memcpy((uint8_t *)&((struct world *)*state)->welcome + numbers[i].offset, &numbers[i].value, 4);
        assert_senseless(*state);
    }
    void (*const spoil[])(struct world *) = {take_instance, take_next,       take_previous,
                                             change_next,   change_previous, shorten_id};
    for (size_t i = 0; i < sizeof spoil / sizeof *spoil; i++) {
        set_up(state);
        spoil[i](*state);
        assert_senseless(*state);
    }
}

static void long_names_are_cut(void **state)
{
    struct world *w = *state;
    char name[4097];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    w->next.host_name = name;
    w->next.pid = UINT32_MAX;
    assert_int_equal(read_welcome(w, 4), TUTTI_OK);
    assert_int_equal(strlen(w->place.next.host_name), 255);
    assert_non_null(strstr(w->place.next.text, "x, pid 4294967295)"));
}

/* ---- Hellos ------------------------------------------------------------------------------------ */

/* The hello of the previous rank to us. */
static struct hello hello_to_us(const struct world *w)
{
    struct hello hello = {
        .role = HELLO_DATA, .instance = w->welcome.instance, .generation = 3, .from = 1, .to = 2};
    memcpy(hello.member_id, w->id[1], MEMBER_ID_BYTES);
    return hello;
}

static void a_hello_says_who_we_are(void **state)
{
    struct world *w = *state;
    read_welcome(w, 4);
    struct hello hello = place_hello(&w->place, HELLO_CONTROL, 3);
    assert_int_equal(hello.role, HELLO_CONTROL);
    assert_int_equal(hello.verdict, HELLO_ACCEPTED);
    assert_true(hello.instance == w->welcome.instance);
    assert_int_equal(hello.generation, 3);
    assert_int_equal(hello.from, 2);
    assert_int_equal(hello.to, 3);
    assert_memory_equal(hello.member_id, w->id[2], MEMBER_ID_BYTES);
}

static void the_previous_rank_is_let_in(void **state)
{
    struct world *w = *state;
    read_welcome(w, 4);
    struct hello hello = hello_to_us(w);
    assert_int_equal(place_judge_hello(&w->place, &hello), HELLO_ACCEPTED);
}

static void a_stale_member_is_turned_away(void **state)
{
    struct world *w = *state;
    read_welcome(w, 4);
    struct hello hello = hello_to_us(w);
    hello.generation = 2;
    assert_int_equal(place_judge_hello(&w->place, &hello), HELLO_WRONG_GROUP);
    hello = hello_to_us(w);
    hello.instance++;
    assert_int_equal(place_judge_hello(&w->place, &hello), HELLO_WRONG_GROUP);
}

static void another_rank_than_the_previous_is_turned_away(void **state)
{
    struct world *w = *state;
    read_welcome(w, 4);
    struct hello hello = hello_to_us(w);
    hello.from = 3;
    assert_int_equal(place_judge_hello(&w->place, &hello), HELLO_WRONG_RANK);
    hello = hello_to_us(w);
    hello.to = 1;
    assert_int_equal(place_judge_hello(&w->place, &hello), HELLO_WRONG_RANK);
    hello = hello_to_us(w);
    hello.member_id[15] ^= 1;
    assert_int_equal(place_judge_hello(&w->place, &hello), HELLO_WRONG_RANK);
}

static void who_has_no_place_yet_lets_nobody_in(void **state)
{
    struct world *w = *state;
    struct hello hello = {.role = HELLO_DATA, .from = UINT32_MAX, .to = UINT32_MAX};
    assert_int_equal(place_judge_hello(&w->place, &hello), HELLO_WRONG_GROUP);
}

static void a_group_of_one_lets_nobody_in(void **state)
{
    struct world *w = *state;
    a_group_of_one_has_no_neighbours(state);
    struct hello hello = {
        .role = HELLO_DATA, .instance = w->welcome.instance, .generation = 3, .from = UINT32_MAX, .to = 0};
    assert_int_equal(place_judge_hello(&w->place, &hello), HELLO_WRONG_RANK);
}

static void assert_answer(const struct world *w, const struct hello *answer, const char *expected)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = place_check_answer(&w->place, answer, &error);
    assert_int_equal(status, *expected ? TUTTI_ERR_PROTOCOL : TUTTI_OK);
    assert_string_equal(error.message, expected);
}

static void only_the_answer_of_the_next_rank_is_taken(void **state)
{
    struct world *w = *state;
    const char *stranger = "another process than rank 3 (host beta, pid 103) answers at its address";
    read_welcome(w, 4);
    struct hello answer = {
        .role = HELLO_DATA, .instance = w->welcome.instance, .generation = 3, .from = 3, .to = 2};
    memcpy(answer.member_id, w->id[3], MEMBER_ID_BYTES);
    assert_answer(w, &answer, "");
    const struct hello good = answer;
    answer.instance++;
    assert_answer(w, &answer, stranger);
    answer = good;
    answer.generation++;
    assert_answer(w, &answer, stranger);
    answer = good;
    answer.from = 1;
    assert_answer(w, &answer, stranger);
    answer = good;
    answer.to = 0;
    assert_answer(w, &answer, stranger);
    answer = good;
    answer.member_id[0] ^= 1;
    assert_answer(w, &answer, stranger);
}

static void a_link_beyond_the_ring_takes_the_answer_of_the_rank_that_was_dialled(void **state)
{
    struct world *w = *state;
    struct tutti_error error = TUTTI_ERROR_INIT;
    struct neighbour dialled = {.rank = 0, .text = "rank 0 (host gamma, pid 100)"};
    memcpy(dialled.member_id, w->id[0], MEMBER_ID_BYTES);
    read_welcome(w, 4);
    struct hello answer = {
        .role = HELLO_DATA, .instance = w->welcome.instance, .generation = 3, .from = 0, .to = 2};
    memcpy(answer.member_id, w->id[0], MEMBER_ID_BYTES);
    assert_int_equal(place_check_answer_of(&w->place, &dialled, &answer, &error), TUTTI_OK);
    answer.from = 3; /* the next rank is another one */
    memcpy(answer.member_id, w->id[3], MEMBER_ID_BYTES);
    assert_int_equal(place_check_answer_of(&w->place, &dialled, &answer, &error), TUTTI_ERR_PROTOCOL);
    assert_string_equal(error.message,
                        "another process than rank 0 (host gamma, pid 100) answers at its address");
    answer.verdict = HELLO_WRONG_RANK;
    assert_int_equal(place_check_answer_of(&w->place, &dialled, &answer, &error), TUTTI_ERR_PROTOCOL);
    assert_string_equal(error.message,
                        "rank 0 (host gamma, pid 100) refused the data connection: it is another "
                        "rank than the one that was called");
}

static void a_refusal_is_told_with_its_reason(void **state)
{
    struct world *w = *state;
    read_welcome(w, 4);
    struct hello answer = {.role = HELLO_DATA, .verdict = HELLO_WRONG_GROUP};
    assert_answer(w, &answer,
                  "rank 3 (host beta, pid 103) refused the data connection: it belongs to another group or "
                  "generation");
    answer = (struct hello){.role = HELLO_CONTROL, .verdict = HELLO_UNWANTED};
    assert_answer(w, &answer,
                  "rank 3 (host beta, pid 103) refused the control connection: it does not expect this "
                  "connection");
}

#define PLACE(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE(a_welcome_tells_the_place_and_the_neighbours),
        PLACE(the_ring_closes_behind_the_last_rank_and_before_the_first),
        PLACE(in_a_group_of_two_both_neighbours_are_the_other_rank),
        PLACE(a_group_of_one_has_no_neighbours),
        PLACE(a_group_is_as_large_as_asked_for_unless_it_was_re_formed),
        PLACE(a_welcome_that_makes_no_sense_changes_nothing),
        PLACE(long_names_are_cut),
        PLACE(a_hello_says_who_we_are),
        PLACE(the_previous_rank_is_let_in),
        PLACE(a_stale_member_is_turned_away),
        PLACE(another_rank_than_the_previous_is_turned_away),
        PLACE(who_has_no_place_yet_lets_nobody_in),
        PLACE(a_group_of_one_lets_nobody_in),
        PLACE(only_the_answer_of_the_next_rank_is_taken),
        PLACE(a_link_beyond_the_ring_takes_the_answer_of_the_rank_that_was_dialled),
        PLACE(a_refusal_is_told_with_its_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
