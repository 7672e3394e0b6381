/* States: OPEN -> (connection_close with flush) FLUSHING -> LINGERING -> CLOSING, or straight to CLOSING when
 * the peer closes, when something fails, or at an unflushed close.
 *
 * One timer serves three purposes, which exclude one another: in OPEN it reports a failed send from the loop,
 * because connection_send() must not call back; in FLUSHING and LINGERING it is the limit. */
#include "engine/connection.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/crc32c.h"
#include "base/error.h"
#include "transport/descriptor.h"

#define FLUSH_MS      2000
#define LINGER_MS     200
#define READ_BYTES    16384
#define READS_MAX     4  /* in one turn of the loop, so that one peer cannot keep the others waiting */
#define DRAIN_READS   64 /* where everything that has arrived is wanted; more is the next turn's */
#define QUEUE_INITIAL 4096u

enum connection_state { CONNECTION_OPEN, CONNECTION_FLUSHING, CONNECTION_LINGERING, CONNECTION_CLOSING };

struct connection {
    uv_poll_t poll;
    uv_timer_t timer;
    int open_handles;
    int fd;
    enum connection_state state;
    const struct connection_events *events;
    void *context;
    bool delivering;            /* inside read_some() */
    struct tutti_error failure; /* of a send, not reported yet */

    uint8_t *queue; /* unsent bytes begin at `queue_head` */
    size_t queue_head, queue_tail, queue_capacity;

    struct frame_reader reader;
};

static void on_poll(uv_poll_t *poll, int status, int events);

/* ---- Closing ----------------------------------------------------------------------------------- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    if (--connection->open_handles > 0)
        return;
    if (connection->events->freed)
        connection->events->freed(connection->context);
    free(connection->queue);
    free(connection);
}

static void begin_close(struct connection *connection)
{
    assert(connection->state != CONNECTION_CLOSING);
    connection->state = CONNECTION_CLOSING;
    uv_close((uv_handle_t *)&connection->poll, on_handle_closed);
    uv_close((uv_handle_t *)&connection->timer, on_handle_closed);
    descriptor_close(connection->fd);
    connection->fd = -1;
}

static void report_closed(struct connection *connection, const struct tutti_error *why)
{
    begin_close(connection);
    connection->events->closed(connection, why);
}

static void on_timer(uv_timer_t *timer);

static bool is_tcp(int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    return getsockname(fd, (struct sockaddr *)&address, &length) == 0 && address.ss_family != AF_UNIX;
}

/* The queue has gone.  A Unix socket keeps for its peer what was sent; a TCP one only if no more bytes of
 * the peer arrive after the close, so wait for its end of the stream. */
static void linger_or_close(struct connection *connection)
{
    if (!is_tcp(connection->fd) || shutdown(connection->fd, SHUT_WR) < 0) {
        begin_close(connection);
        return;
    }
    connection->state = CONNECTION_LINGERING;
    uv_poll_start(&connection->poll, UV_READABLE, on_poll);
    uv_timer_start(&connection->timer, on_timer, LINGER_MS, 0);
}

/* ---- Sending ----------------------------------------------------------------------------------- */

static void set_interest(struct connection *connection)
{
    int events = connection->state == CONNECTION_OPEN ? UV_READABLE : 0;
    if (connection->queue_head < connection->queue_tail)
        events |= UV_WRITABLE;
    uv_poll_start(&connection->poll, events, on_poll);
}

/* Reported from the loop, after what the peer said before it went has been read: that may be the cause. */
static void fail_later(struct connection *connection)
{
    connection->queue_head = connection->queue_tail = 0;
    uv_timer_start(&connection->timer, on_timer, 0, 0);
}

/* Sends what goes.  False on failure, in connection->failure. */
static bool send_some(struct connection *connection)
{
    while (connection->queue_head < connection->queue_tail) {
        struct iovec rest = {connection->queue + connection->queue_head,
                             connection->queue_tail - connection->queue_head};
        struct msghdr message = {.msg_iov = &rest, .msg_iovlen = 1};
        ssize_t n = sendmsg(connection->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (n < 0) {
            error_set(&connection->failure, TUTTI_ERR_PEER_LOST, "the connection was lost while sending: %s",
                      strerror(errno));
            return false;
        }
        connection->queue_head += (size_t)n;
    }
    connection->queue_head = connection->queue_tail = 0;
    return true;
}

/* Room for `size` bytes at the end of the queue; false when there is none to be had. */
static bool reserve(struct connection *connection, size_t size)
{
    size_t used = connection_queued_bytes(connection);
    if (connection->queue_tail + size <= connection->queue_capacity)
        return true;
    if (used > 0)
        memmove(connection->queue, connection->queue + connection->queue_head, used);
    connection->queue_head = 0;
    connection->queue_tail = used;
    if (used + size <= connection->queue_capacity)
        return true;
    size_t capacity = connection->queue_capacity > 0 ? connection->queue_capacity : QUEUE_INITIAL;
    while (capacity < used + size)
        capacity *= 2;
    uint8_t *queue = realloc(connection->queue, capacity);
    if (!queue)
        return false;
    connection->queue = queue;
    connection->queue_capacity = capacity;
    return true;
}

/* Puts header and payload in the queue.  False on failure, in connection->failure. */
static bool enqueue(struct connection *connection, const struct frame *frame, const void *payload)
{
    size_t size = FRAME_HEADER_BYTES + (size_t)frame->length;
    if (connection_queued_bytes(connection) + size > CONNECTION_QUEUE_BYTES_MAX) {
        error_set(&connection->failure, TUTTI_ERR_PEER_LOST,
                  "the peer does not read what it is sent: %zu bytes wait, %u are the most",
                  connection_queued_bytes(connection), CONNECTION_QUEUE_BYTES_MAX);
        return false;
    }
    if (!reserve(connection, size)) {
        error_set(&connection->failure, TUTTI_ERR_MEMORY, "out of memory for %zu bytes to send", size);
        return false;
    }
    uint8_t *end = connection->queue + connection->queue_tail;
    struct frame sent = *frame;
    if (sent.flags & FRAME_HAS_PAYLOAD_CRC)
        sent.payload_crc = crc32c(0, payload, sent.length);
    frame_encode(&sent, end);
    if (sent.length > 0)
        memcpy(end + FRAME_HEADER_BYTES, payload, sent.length);
    connection->queue_tail += size;
    return true;
}

void connection_send(struct connection *connection, const struct frame *frame, const void *payload)
{
    assert(frame->length <= FRAME_CONTROL_BYTES_MAX);
    if (connection->state != CONNECTION_OPEN || connection->failure.code != TUTTI_OK)
        return;
    bool was_empty = connection_queued_bytes(connection) == 0;
    if (!enqueue(connection, frame, payload) || (was_empty && !send_some(connection)))
        fail_later(connection);
    set_interest(connection);
}

void connection_send_control(struct connection *connection, const struct frame *group,
                             const Wire__Control *message)
{
    if (connection->state != CONNECTION_OPEN || connection->failure.code != TUTTI_OK)
        return;
    size_t size = 0;
    uint8_t *bytes = control_encode(message, &size);
    if (!bytes) {
        error_set(&connection->failure, TUTTI_ERR_MEMORY,
                  "a control message cannot be encoded: out of memory, or longer than %d bytes",
                  FRAME_CONTROL_BYTES_MAX);
        fail_later(connection);
        return;
    }
    struct frame frame = {.type = FRAME_CONTROL, .flags = FRAME_HAS_PAYLOAD_CRC, .length = (uint32_t)size};
    frame.instance = group ? group->instance : 0;
    frame.generation = group ? group->generation : 0;
    connection_send(connection, &frame, bytes);
    free(bytes);
}

size_t connection_queued_bytes(const struct connection *connection)
{
    return connection->queue_tail - connection->queue_head;
}

/* ---- Receiving --------------------------------------------------------------------------------- */

/* Takes the bytes apart and delivers frames until they are used up or the connection is open no more. */
static void deliver(struct connection *connection, const uint8_t *bytes, size_t size)
{
    while (connection->state == CONNECTION_OPEN) {
        struct tutti_error error = TUTTI_ERROR_INIT;
        const uint8_t *payload = NULL;
        int result = frame_reader_next(&connection->reader, &bytes, &size, &payload, &error);
        if (result < 0)
            report_closed(connection, &error);
        if (result <= 0)
            return;
        connection->events->frame(connection, &connection->reader.frame, payload);
    }
}

static bool is_inside_frame(const struct frame_reader *reader)
{
    uint32_t whole = FRAME_HEADER_BYTES + (reader->header_done ? reader->frame.length : 0);
    return reader->have > 0 && reader->have < whole;
}

/* The stream has ended (`error_number` 0) or failed. */
static void end_of_stream(struct connection *connection, int error_number)
{
    struct tutti_error why = TUTTI_ERROR_INIT;
    if (connection->state != CONNECTION_OPEN) {
        begin_close(connection);
        return;
    }
    if (error_number != 0)
        error_set(&why, TUTTI_ERR_PEER_LOST, "the connection was lost: %s", strerror(error_number));
    else if (is_inside_frame(&connection->reader))
        error_set(&why, TUTTI_ERR_PEER_LOST, "the connection ended in the middle of a message");
    else
        error_set(&why, TUTTI_OK, "the peer closed the connection");
    report_closed(connection, &why);
}

/* Reads up to `reads` times.  True when nothing is left to be read now; the connection may be closing then.
 */
static bool read_some(struct connection *connection, int reads)
{
    uint8_t bytes[READ_BYTES];
    bool done = false;
    connection->delivering = true;
    while (!done && reads-- > 0) {
        ssize_t n = recv(connection->fd, bytes, sizeof bytes, 0);
        if (n > 0)
            deliver(connection, bytes, (size_t)n);
        else if (n == 0)
            end_of_stream(connection, 0);
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            done = true;
        else if (errno != EINTR)
            end_of_stream(connection, errno);
        done = done || connection->state == CONNECTION_CLOSING || connection->state == CONNECTION_FLUSHING;
    }
    connection->delivering = false;
    return done;
}

void connection_drain(struct connection *connection)
{
    if (connection->state == CONNECTION_OPEN && !connection->delivering)
        read_some(connection, DRAIN_READS);
}

/* ---- The loop ---------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct connection *connection = timer->data;
    if (connection->state == CONNECTION_OPEN)
        read_some(connection, DRAIN_READS);
    if (connection->state == CONNECTION_OPEN)
        report_closed(connection, &connection->failure);
    else if (connection->state != CONNECTION_CLOSING)
        begin_close(connection);
}

static void flush_some(struct connection *connection)
{
    if (!send_some(connection))
        begin_close(connection);
    else if (connection_queued_bytes(connection) == 0)
        linger_or_close(connection);
}

/* The socket has an error (libuv has stopped the poll): what arrived before it comes first. */
static void on_socket_error(struct connection *connection)
{
    read_some(connection, DRAIN_READS);
    if (connection->state != CONNECTION_CLOSING)
        end_of_stream(connection, ECONNRESET);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct connection *connection = poll->data;
    if (status < 0) {
        on_socket_error(connection);
        return;
    }
    if ((events & UV_READABLE) && connection->state != CONNECTION_FLUSHING)
        read_some(connection, READS_MAX);
    if (!(events & UV_WRITABLE))
        return;
    if (connection->state == CONNECTION_FLUSHING) {
        flush_some(connection);
    } else if (connection->state == CONNECTION_OPEN) {
        if (!send_some(connection))
            fail_later(connection);
        set_interest(connection);
    }
}

/* ---- Opening and closing ----------------------------------------------------------------------- */

struct connection *connection_new(uv_loop_t *loop, int fd, const struct connection_events *events,
                                  void *context, struct tutti_error *error)
{
    struct connection *connection = malloc(sizeof *connection);
    if (!connection) {
        descriptor_close(fd);
        error_set(error, TUTTI_ERR_MEMORY, "out of memory for a connection");
        return NULL;
    }
    /* Not the reader's buffer: untouched pages cost nothing. */
    memset(connection, 0, offsetof(struct connection, reader));
    frame_reader_init(&connection->reader, FRAME_CONTROL_BYTES_MAX);
    connection->fd = fd;
    connection->events = events;
    connection->context = context;
    int status = uv_poll_init(loop, &connection->poll, fd);
    if (status < 0) {
        error_set(error, TUTTI_ERR_SYSTEM, "cannot watch a connection: %s", uv_strerror(status));
        descriptor_close(fd);
        free(connection);
        return NULL;
    }
    uv_timer_init(loop, &connection->timer);
    connection->open_handles = 2;
    connection->poll.data = connection->timer.data = connection;
    set_interest(connection);
    return connection;
}

void *connection_context(const struct connection *connection)
{
    return connection->context;
}

void connection_hand_over(struct connection *connection, const struct connection_events *events,
                          void *context)
{
    connection->events = events;
    connection->context = context;
}

void connection_set_dead_after(struct connection *connection, int dead_after_ms)
{
    if (!is_tcp(connection->fd))
        return;
    /* What the kernel refuses is left as it is: heartbeats find the dead as well. */
    const int options[][3] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 1 + dead_after_ms / 2000},
        {IPPROTO_TCP, TCP_KEEPINTVL, 1},
        {IPPROTO_TCP, TCP_KEEPCNT, 1 + dead_after_ms / 2000},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, dead_after_ms},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        (void)setsockopt(connection->fd, options[i][0], options[i][1], &options[i][2], sizeof(int));
}

void connection_close(struct connection *connection, bool flush)
{
    assert(connection->state == CONNECTION_OPEN);
    if (!flush || connection->failure.code != TUTTI_OK) {
        begin_close(connection);
        return;
    }
    connection->state = CONNECTION_FLUSHING;
    uv_timer_start(&connection->timer, on_timer, FLUSH_MS, 0);
    if (connection_queued_bytes(connection) == 0)
        linger_or_close(connection);
    else
        set_interest(connection);
}
