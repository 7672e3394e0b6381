/* Control connections: one end is a struct connection on a loop, the other a plain socket in the hands of the
 * test. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/crc32c.h"
#include "engine/connection.h"

#define TURNS_MAX 20000 /* of the loop, before a test gives up; the loop waits up to 1 ms in each */

struct fixture {
    uv_loop_t loop;
    uv_timer_t tick; /* bounds the wait of a turn */
    int peer;        /* the plain end */
    struct connection *connection;
    int frames, closes, frees;
    int close_at_frame; /* 0: never */
    bool flush;
    struct frame last;
    uint8_t payload[FRAME_CONTROL_BYTES_MAX];
    struct tutti_error why;
    int frames_before_close;
};

static void on_frame(struct connection *connection, const struct frame *frame, const uint8_t *payload)
{
    struct fixture *f = connection_context(connection);
    f->frames++;
    f->last = *frame;
    if (frame->length > 0)
        memcpy(f->payload, payload, frame->length);
    if (f->frames == f->close_at_frame)
        connection_close(connection, f->flush);
}

static void on_closed(struct connection *connection, const struct tutti_error *why)
{
    struct fixture *f = connection_context(connection);
    f->closes++;
    f->why = *why;
    f->frames_before_close = f->frames;
}

static void on_freed(void *context)
{
    struct fixture *f = context;
    f->frees++;
}

static const struct connection_events events = {.frame = on_frame, .closed = on_closed, .freed = on_freed};

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void open_on(struct fixture *f, int fd)
{
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->tick);
    uv_timer_start(&f->tick, on_tick, 1, 1);
    struct tutti_error error;
    f->connection = connection_new(&f->loop, fd, &events, f, &error);
    assert_non_null(f->connection);
}

static struct fixture *fixture_unix(void)
{
    int fds[2];
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    f->peer = fds[1];
    open_on(f, fds[0]);
    return f;
}

static struct fixture *fixture_tcp(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    f->peer = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(f->peer, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(fcntl(f->peer, F_SETFL, O_NONBLOCK), 0);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(fd >= 0);
    close(listener);
    open_on(f, fd);
    return f;
}

/* The connection must have freed itself. */
static void fixture_free(struct fixture *f)
{
    if (f->peer >= 0)
        close(f->peer);
    uv_close((uv_handle_t *)&f->tick, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(f->frees, 1);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    free(f);
}

static void turn(struct fixture *f)
{
    uv_run(&f->loop, UV_RUN_ONCE);
}

static void run_until(struct fixture *f, const int *counter, int value)
{
    for (int i = 0; i < TURNS_MAX && *counter < value; i++)
        turn(f);
    assert_int_equal(*counter, value);
}

static size_t encode(const char *text, uint8_t *bytes)
{
    struct frame frame = {.type = FRAME_CONTROL,
                          .flags = FRAME_HAS_PAYLOAD_CRC,
                          .sequence = 7,
                          .length = (uint32_t)strlen(text),
                          .payload_crc = crc32c(0, text, strlen(text))};
    frame_encode(&frame, bytes);
    memcpy(bytes + FRAME_HEADER_BYTES, text, strlen(text));
    return FRAME_HEADER_BYTES + strlen(text);
}

static void peer_writes(struct fixture *f, const void *bytes, size_t size)
{
    assert_int_equal(send(f->peer, bytes, size, MSG_NOSIGNAL), size);
}

/* Reads exactly `size` bytes at the plain end, turning the loop meanwhile. */
static void peer_reads(struct fixture *f, uint8_t *bytes, size_t size)
{
    size_t done = 0;
    for (int i = 0; i < TURNS_MAX && done < size; i++) {
        ssize_t n = recv(f->peer, bytes + done, size - done, 0);
        if (n < 0)
            assert_int_equal(errno, EAGAIN);
        else
            assert_true(n > 0);
        done += n > 0 ? (size_t)n : 0;
        turn(f);
    }
    assert_int_equal(done, size);
}

/* ---- Frames ------------------------------------------------------------------------------------ */

static void a_frame_is_delivered_however_it_is_cut(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    uint8_t bytes[256];
    size_t size = encode("to be or not to be", bytes);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(f->frames, 0);
        peer_writes(f, bytes + i, 1);
        turn(f);
    }
    run_until(f, &f->frames, 1);
    assert_int_equal(f->last.sequence, 7);
    assert_int_equal(f->last.length, 18);
    assert_memory_equal(f->payload, "to be or not to be", 18);
    connection_close(f->connection, false);
    fixture_free(f);
}

static void frames_that_come_together_are_delivered_one_by_one(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    uint8_t bytes[512];
    size_t size = encode("one", bytes);
    size += encode("", bytes + size);
    size += encode("three", bytes + size);
    peer_writes(f, bytes, size);
    run_until(f, &f->frames, 3);
    assert_memory_equal(f->payload, "three", 5);
    connection_close(f->connection, false);
    assert_int_equal(f->closes, 0);
    fixture_free(f);
}

static void drain_delivers_what_has_arrived_without_the_loop(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    uint8_t bytes[256];
    peer_writes(f, bytes, encode("now", bytes));
    connection_drain(f->connection);
    assert_int_equal(f->frames, 1);
    connection_drain(f->connection);
    assert_int_equal(f->frames, 1);
    connection_close(f->connection, false);
    fixture_free(f);
}

static void what_is_sent_arrives_as_frames_with_a_checked_payload(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    Wire__Waiting body = WIRE__WAITING__INIT;
    Wire__Control message = WIRE__CONTROL__INIT;
    char text[] = "2 of 4 ranks have joined";
    body.text = text;
    message.body_case = WIRE__CONTROL__BODY_WAITING;
    message.waiting = &body;
    connection_send_control(f->connection, NULL, &message);
    uint8_t header[FRAME_HEADER_BYTES], payload[256];
    struct frame frame;
    struct tutti_error error;
    peer_reads(f, header, sizeof header);
    assert_int_equal(frame_decode(header, &frame, &error), TUTTI_OK);
    assert_int_equal(frame.type, FRAME_CONTROL);
    assert_true(frame.flags & FRAME_HAS_PAYLOAD_CRC);
    peer_reads(f, payload, frame.length);
    assert_int_equal(crc32c(0, payload, frame.length), frame.payload_crc);
    Wire__Control *got = control_decode(payload, frame.length, &error);
    assert_non_null(got);
    assert_string_equal(got->waiting->text, text);
    wire__control__free_unpacked(got, NULL);
    connection_close(f->connection, false);
    fixture_free(f);
}

/* ---- Ends -------------------------------------------------------------------------------------- */

static void the_close_of_the_peer_is_no_error(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    close(f->peer);
    f->peer = -1;
    run_until(f, &f->closes, 1);
    assert_int_equal(f->why.code, TUTTI_OK);
    run_until(f, &f->frees, 1);
    assert_int_equal(f->closes, 1);
    fixture_free(f);
}

static void an_end_in_the_middle_of_a_message_is_a_lost_peer(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    uint8_t bytes[256];
    size_t size = encode("unfinished", bytes);
    peer_writes(f, bytes, size - 1);
    close(f->peer);
    f->peer = -1;
    run_until(f, &f->closes, 1);
    assert_int_equal(f->why.code, TUTTI_ERR_PEER_LOST);
    assert_int_equal(f->frames, 0);
    fixture_free(f);
}

static void garbage_ends_the_connection_and_is_described(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    peer_writes(f, "GET / HTTP/1.0\r\n\r\n", 18);
    run_until(f, &f->closes, 1);
    assert_int_equal(f->why.code, TUTTI_ERR_PROTOCOL);
    assert_non_null(strstr(f->why.message, "HTTP"));
    fixture_free(f);
}

static void a_damaged_payload_ends_the_connection(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    uint8_t bytes[256];
    size_t size = encode("payload", bytes);
    bytes[size - 1] ^= 1;
    peer_writes(f, bytes, size);
    run_until(f, &f->closes, 1);
    assert_int_equal(f->why.code, TUTTI_ERR_PROTOCOL);
    assert_int_equal(f->frames, 0);
    fixture_free(f);
}

static void a_handler_that_closes_gets_nothing_more(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    uint8_t bytes[256];
    size_t size = encode("first", bytes);
    size += encode("second", bytes + size);
    f->close_at_frame = 1;
    peer_writes(f, bytes, size);
    run_until(f, &f->frees, 1);
    assert_int_equal(f->frames, 1);
    assert_int_equal(f->closes, 0);
    fixture_free(f);
}

/* What the peer said before it went may be the cause, and must be heard before the loss is reported. */
static void a_failed_send_is_reported_from_the_loop_after_the_last_words_of_the_peer(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    struct frame heartbeat = {.type = FRAME_HEARTBEAT};
    uint8_t bytes[256];
    peer_writes(f, bytes, encode("last words", bytes));
    close(f->peer);
    f->peer = -1;
    connection_send(f->connection, &heartbeat, NULL);
    connection_send(f->connection, &heartbeat, NULL);
    assert_int_equal(f->closes, 0);
    assert_int_equal(f->frames, 0);
    run_until(f, &f->closes, 1);
    assert_int_equal(f->frames_before_close, 1);
    assert_memory_equal(f->payload, "last words", 10);
    fixture_free(f);
}

static void a_peer_that_reads_nothing_is_dropped_when_too_much_has_piled_up(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    static const uint8_t payload[FRAME_CONTROL_BYTES_MAX];
    struct frame frame = {.type = FRAME_CONTROL, .length = sizeof payload};
    size_t most = 0;
    for (int i = 0; i < 1000; i++) {
        connection_send(f->connection, &frame, payload);
        size_t queued = connection_queued_bytes(f->connection);
        most = queued > most ? queued : most;
    }
    assert_true(most > CONNECTION_QUEUE_BYTES_MAX / 2 && most <= CONNECTION_QUEUE_BYTES_MAX);
    assert_int_equal(f->closes, 0);
    run_until(f, &f->closes, 1);
    assert_int_equal(f->why.code, TUTTI_ERR_PEER_LOST);
    fixture_free(f);
}

/* ---- Flushing ---------------------------------------------------------------------------------- */

static void a_flushing_close_sends_the_whole_queue_first(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    static uint8_t payload[FRAME_CONTROL_BYTES_MAX], received[FRAME_HEADER_BYTES + sizeof payload];
    struct frame frame = {.type = FRAME_CONTROL, .length = sizeof payload};
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 7);
    int sent = 0;
    for (; connection_queued_bytes(f->connection) < CONNECTION_QUEUE_BYTES_MAX / 2; sent++)
        connection_send(f->connection, &frame, payload);
    connection_close(f->connection, true);
    assert_int_equal(f->frees, 0);
    for (int i = 0; i < sent; i++) {
        peer_reads(f, received, sizeof received);
        assert_memory_equal(received + FRAME_HEADER_BYTES, payload, sizeof payload);
    }
    run_until(f, &f->frees, 1);
    assert_int_equal(recv(f->peer, received, 1, 0), 0);
    assert_int_equal(f->closes, 0);
    fixture_free(f);
}

static void a_flushing_close_gives_up_on_a_peer_that_does_not_read(void **state)
{
    (void)state;
    struct fixture *f = fixture_unix();
    static const uint8_t payload[FRAME_CONTROL_BYTES_MAX];
    struct frame frame = {.type = FRAME_CONTROL, .length = sizeof payload};
    while (connection_queued_bytes(f->connection) == 0)
        connection_send(f->connection, &frame, payload);
    uint64_t start = uv_now(&f->loop);
    connection_close(f->connection, true);
    run_until(f, &f->frees, 1);
    uint64_t taken_ms = uv_now(&f->loop) - start;
    assert_true(taken_ms >= 1900 && taken_ms < 10000);
    fixture_free(f);
}

/* A close with unread input makes TCP reset the connection, and the refusal on its way may be lost. */
static void over_tcp_the_last_message_survives_input_that_nobody_reads(void **state)
{
    (void)state;
    struct fixture *f = fixture_tcp();
    uint8_t bytes[256], byte;
    size_t size = encode("please", bytes);
    for (int i = 0; i < 100; i++)
        peer_writes(f, bytes, size);
    struct frame frame = {.type = FRAME_CONTROL, .length = 7};
    connection_send(f->connection, &frame, "refused");
    connection_close(f->connection, true);
    for (int i = 0; i < 5; i++)
        turn(f);
    peer_writes(f, bytes, size); /* and some that comes after the close */
    uint8_t received[FRAME_HEADER_BYTES + 7];
    peer_reads(f, received, sizeof received);
    assert_memory_equal(received + FRAME_HEADER_BYTES, "refused", 7);
    assert_int_equal(recv(f->peer, &byte, 1, 0), 0);
    close(f->peer);
    f->peer = -1;
    run_until(f, &f->frees, 1);
    assert_int_equal(f->frames, 0);
    fixture_free(f);
}

static void a_reset_is_reported_after_what_came_before_it(void **state)
{
    (void)state;
    struct fixture *f = fixture_tcp();
    uint8_t bytes[256];
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    peer_writes(f, bytes, encode("before", bytes));
    run_until(f, &f->frames, 1);
    assert_int_equal(setsockopt(f->peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(f->peer);
    f->peer = -1;
    run_until(f, &f->closes, 1);
    assert_int_equal(f->why.code, TUTTI_ERR_PEER_LOST);
    fixture_free(f);
}

static void a_descriptor_that_cannot_be_watched_is_an_error(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct tutti_error error;
    assert_int_equal(uv_loop_init(&loop), 0);
    int file = open("/proc/self/exe", O_RDONLY);
    assert_true(file >= 0);
    assert_null(connection_new(&loop, file, &events, NULL, &error));
    assert_int_equal(error.code, TUTTI_ERR_SYSTEM);
    assert_int_equal(fcntl(file, F_GETFD), -1); /* closed */
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_delivered_however_it_is_cut),
        cmocka_unit_test(frames_that_come_together_are_delivered_one_by_one),
        cmocka_unit_test(drain_delivers_what_has_arrived_without_the_loop),
        cmocka_unit_test(what_is_sent_arrives_as_frames_with_a_checked_payload),
        cmocka_unit_test(the_close_of_the_peer_is_no_error),
        cmocka_unit_test(an_end_in_the_middle_of_a_message_is_a_lost_peer),
        cmocka_unit_test(garbage_ends_the_connection_and_is_described),
        cmocka_unit_test(a_damaged_payload_ends_the_connection),
        cmocka_unit_test(a_handler_that_closes_gets_nothing_more),
        cmocka_unit_test(a_failed_send_is_reported_from_the_loop_after_the_last_words_of_the_peer),
        cmocka_unit_test(a_peer_that_reads_nothing_is_dropped_when_too_much_has_piled_up),
        cmocka_unit_test(a_flushing_close_sends_the_whole_queue_first),
        cmocka_unit_test(a_flushing_close_gives_up_on_a_peer_that_does_not_read),
        cmocka_unit_test(over_tcp_the_last_message_survives_input_that_nobody_reads),
        cmocka_unit_test(a_reset_is_reported_after_what_came_before_it),
        cmocka_unit_test(a_descriptor_that_cannot_be_watched_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
