/* Control messages survive a round trip through bytes, and failures a round trip through an Abort. */
#include "control_samples.h"

/* ---- Round trips ------------------------------------------------------------------------------- */

static void a_join_survives_a_round_trip(void **state)
{
    (void)state;
    Wire__Join join = sample_join();
    join.agreement = (char *)"algorithm=all_reduce:ring";
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
    assert_string_equal(after->join->agreement, "algorithm=all_reduce:ring");
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

static void a_join_that_re_forms_survives_a_round_trip(void **state)
{
    (void)state;
    Wire__Join join = sample_join();
    Wire__Abort cause = sample_abort();
    Wire__Previous previous = WIRE__PREVIOUS__INIT;
    previous.instance = UINT64_MAX;
    previous.generation = 5;
    previous.rank = 1;
    previous.size = 4;
    previous.completed = 16;
    previous.cause = &cause;
    join.previous = &previous;
    Wire__Control message = control_of_join(&join);
    Wire__Control *after = round_trip(&message);
    assert_true(after->join->previous->instance == UINT64_MAX);
    assert_int_equal(after->join->previous->generation, 5);
    assert_int_equal(after->join->previous->rank, 1);
    assert_int_equal(after->join->previous->size, 4);
    assert_int_equal(after->join->previous->completed, 16);
    assert_string_equal(after->join->previous->cause->message, "rank 2 lost rank 3");
    assert_int_equal(after->join->previous->cause->generation, 5);
    assert_int_equal(after->join->previous->cause->moved_bytes, 65536);
    wire__control__free_unpacked(after, NULL);

    previous.cause = NULL;
    after = round_trip(&message);
    assert_non_null(after->join->previous);
    assert_null(after->join->previous->cause);
    wire__control__free_unpacked(after, NULL);
}

static void a_welcome_to_a_group_that_was_re_formed_survives_a_round_trip(void **state)
{
    (void)state;
    Wire__Abort cause = sample_abort();
    Wire__Reformed reformed = WIRE__REFORMED__INIT;
    reformed.previous_generation = 5;
    reformed.previous_rank = 1;
    reformed.previous_size = 4;
    reformed.completed_everywhere = 16;
    reformed.completed_anywhere = 17;
    reformed.lost = (char *)"ranks 2-3";
    reformed.cause = &cause;
    Wire__Welcome welcome = WIRE__WELCOME__INIT;
    welcome.embedded = true;
    welcome.reformed = &reformed;
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_WELCOME;
    message.welcome = &welcome;
    Wire__Control *after = round_trip(&message);
    assert_true(after->welcome->embedded);
    assert_int_equal(after->welcome->reformed->previous_generation, 5);
    assert_int_equal(after->welcome->reformed->previous_rank, 1);
    assert_int_equal(after->welcome->reformed->previous_size, 4);
    assert_int_equal(after->welcome->reformed->completed_everywhere, 16);
    assert_int_equal(after->welcome->reformed->completed_anywhere, 17);
    assert_string_equal(after->welcome->reformed->lost, "ranks 2-3");
    assert_int_equal(after->welcome->reformed->cause->rank, 3);
    wire__control__free_unpacked(after, NULL);
}

static void a_card_survives_a_round_trip(void **state)
{
    (void)state;
    Wire__Peer peer = sample_peer(3);
    Wire__Card card = WIRE__CARD__INIT;
    card.generation = 5;
    card.peer = &peer;
    card.cores = 8;
    card.uds = true;
    card.shm = true;
    card.tuning = (char *)"tutti tuning 1\nuds.latency_us 2.1\n";
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_CARD;
    message.card = &card;
    Wire__Control *after = round_trip(&message);
    assert_int_equal(after->card->generation, 5);
    assert_int_equal(after->card->peer->rank, 3);
    assert_memory_equal(after->card->peer->member_id.data, id_bytes, 16);
    assert_string_equal(after->card->peer->addresses[0], "10.0.0.1:4711");
    assert_int_equal(after->card->cores, 8);
    assert_true(after->card->uds);
    assert_true(after->card->shm);
    assert_string_equal(after->card->tuning, "tutti tuning 1\nuds.latency_us 2.1\n");
    wire__control__free_unpacked(after, NULL);
}

static void what_belongs_to_a_roll_call_survives_a_round_trip(void **state)
{
    (void)state;
    Wire__Control message = WIRE__CONTROL__INIT;
    Wire__Late late = WIRE__LATE__INIT;
    late.sequence = 17;
    message.body_case = WIRE__CONTROL__BODY_LATE;
    message.late = &late;
    Wire__Control *after = round_trip(&message);
    assert_int_equal(after->late->sequence, 17);
    wire__control__free_unpacked(after, NULL);

    Wire__RollCall roll_call = WIRE__ROLL_CALL__INIT;
    roll_call.generation = 2;
    message.body_case = WIRE__CONTROL__BODY_ROLL_CALL;
    message.roll_call = &roll_call;
    after = round_trip(&message);
    assert_int_equal(after->roll_call->generation, 2);
    wire__control__free_unpacked(after, NULL);

    Wire__Present present = WIRE__PRESENT__INIT;
    present.sequence = 16;
    present.call = (char *)"barrier()";
    message.body_case = WIRE__CONTROL__BODY_PRESENT;
    message.present = &present;
    after = round_trip(&message);
    assert_int_equal(after->present->sequence, 16);
    assert_string_equal(after->present->call, "barrier()");
    wire__control__free_unpacked(after, NULL);

    uint32_t ranks[] = {3, 4095};
    Wire__Missing missing = WIRE__MISSING__INIT;
    missing.ranks = ranks;
    missing.n_ranks = 2;
    missing.text = (char *)"rank 3";
    message.body_case = WIRE__CONTROL__BODY_MISSING;
    message.missing = &missing;
    after = round_trip(&message);
    assert_int_equal(after->missing->n_ranks, 2);
    assert_int_equal(after->missing->ranks[1], 4095);
    assert_string_equal(after->missing->text, "rank 3");
    wire__control__free_unpacked(after, NULL);

    Wire__Wired wired = WIRE__WIRED__INIT;
    wired.generation = 2;
    message.body_case = WIRE__CONTROL__BODY_WIRED;
    message.wired = &wired;
    after = round_trip(&message);
    assert_int_equal(after->wired->generation, 2);
    wire__control__free_unpacked(after, NULL);
}

/* ---- Failures ---------------------------------------------------------------------------------- */

static void a_failure_travels_whole(void **state)
{
    (void)state;
    struct tutti_error before = TUTTI_ERROR_INIT, after;
    error_set(&before, TUTTI_ERR_PEER_LOST, "lost the connection to rank 3");
    before.rank = 3;
    before.sequence = 17;
    before.moved_bytes = 65536;
    strcpy(before.host, "node1");
    strcpy(before.operation, "all_reduce");
    Wire__Abort abort;
    control_from_error(&before, 2, &abort);
    Wire__Control message = WIRE__CONTROL__INIT;
    message.body_case = WIRE__CONTROL__BODY_ABORT;
    message.abort = &abort;
    Wire__Control *received = round_trip(&message);
    assert_int_equal(received->abort->from, 2);
    assert_int_equal(received->abort->generation, 0); /* is for the caller to say */
    control_to_error(received->abort, &after);
    wire__control__free_unpacked(received, NULL);
    assert_int_equal(after.struct_size, sizeof after);
    assert_int_equal(after.code, TUTTI_ERR_PEER_LOST);
    assert_int_equal(after.rank, 3);
    assert_int_equal(after.sequence, 17);
    assert_int_equal(after.moved_bytes, 65536);
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

static void so_may_that_of_a_failure_within_another_message(void **state)
{
    (void)state;
    char text[4001], *lines = (char *)"two\nlines";
    memset(text, 'm', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    Wire__Abort cause = sample_abort();
    cause.host = cause.operation = lines;
    cause.message = text;
    Wire__Previous previous = WIRE__PREVIOUS__INIT;
    previous.cause = &cause;
    Wire__Join join = sample_join();
    join.previous = &previous;
    Wire__Control message = control_of_join(&join);
    Wire__Control *after = round_trip(&message);
    assert_string_equal(after->join->job, "train");
    assert_string_equal(after->join->previous->cause->host, "two lines");
    assert_int_equal(strlen(after->join->previous->cause->message), 1023);
    wire__control__free_unpacked(after, NULL);

    Wire__Reformed reformed = WIRE__REFORMED__INIT;
    reformed.cause = &cause;
    Wire__Welcome welcome = WIRE__WELCOME__INIT;
    welcome.rank = 2;
    welcome.reformed = &reformed;
    message.body_case = WIRE__CONTROL__BODY_WELCOME;
    message.welcome = &welcome;
    after = round_trip(&message);
    assert_int_equal(after->welcome->rank, 2);
    assert_string_equal(after->welcome->reformed->cause->operation, "two lines");
    wire__control__free_unpacked(after, NULL);
    assert_ptr_equal(cause.message, text); /* what was lent is as it was */
    assert_ptr_equal(previous.cause, &cause);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_join_survives_a_round_trip),
        cmocka_unit_test(a_welcome_survives_a_round_trip_with_and_without_neighbours),
        cmocka_unit_test(a_waiting_a_refused_and_a_goodbye_survive_a_round_trip),
        cmocka_unit_test(a_join_that_re_forms_survives_a_round_trip),
        cmocka_unit_test(a_welcome_to_a_group_that_was_re_formed_survives_a_round_trip),
        cmocka_unit_test(a_card_survives_a_round_trip),
        cmocka_unit_test(what_belongs_to_a_roll_call_survives_a_round_trip),
        cmocka_unit_test(a_failure_travels_whole),
        cmocka_unit_test(the_reason_of_an_abort_may_have_several_lines),
        cmocka_unit_test(so_may_that_of_a_failure_within_another_message),
        cmocka_unit_test(an_abort_always_becomes_a_failure),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
