/* Messages between ranks through the public interface: tags, sources, order, batches, large and unexpected
 * ones, and collectives under way at the same time.  Any group of 1 to 8 ranks: tutti run -n 3 -- messages */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "check.h"

#define SIZE_MAX_HERE 8
#define KEPT_BYTES    ((size_t)64 << 20) /* what tutti.h says is kept of messages that nobody asked for */

static tutti_comm *comm;
static int rank, size;

static int32_t value_of(int from, int to, int tag, size_t index)
{
    return from * 1000003 + to * 10007 + tag * 101 + (int32_t)index;
}

static void fill(int32_t *buffer, size_t count, int from, int to, int tag)
{
    for (size_t i = 0; i < count; i++)
        buffer[i] = value_of(from, to, tag, i);
}

static void check_values(const int32_t *buffer, size_t count, int from, int to, int tag)
{
    for (size_t i = 0; i < count; i++)
        if (buffer[i] != value_of(from, to, tag, i)) {
            fprintf(stderr, "rank %d: element %zu of message %d from %d is wrong\n", rank, i, tag, from);
            exit(1);
        }
}

static int send_to(int to, int tag, size_t count)
{
    static int32_t buffer[20000];
    fill(buffer, count, rank, to, tag);
    return tutti_send(comm, buffer, count, TUTTI_INT32, to, tag);
}

/* Receives and checks a message of `count` elements. */
static void receive(int from, int tag, size_t count, int expected_from, int expected_tag)
{
    static int32_t buffer[20001];
    struct tutti_received received = {-7, -7, 0};
    buffer[count] = -1;
    OK(comm, tutti_recv(comm, buffer, count, TUTTI_INT32, from, tag, &received));
    CHECK(received.source == expected_from && received.tag == expected_tag && received.count == count);
    check_values(buffer, count, expected_from, rank, expected_tag);
    CHECK(buffer[count] == -1);
}

/* Each rank to the next, in a ring: sending first, which a short message never waits in. */
static void to_the_next_rank(void)
{
    static const size_t counts[] = {0, 1, 7, 1009, 20000};
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        OK(comm, send_to(next, (int)i, counts[i]));
        receive(previous, (int)i, counts[i], previous, (int)i);
    }
}

/* Tags choose among messages that are there already; those of one tag come in the order of sending. */
static void tags_choose_and_order_is_kept(void)
{
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    for (int i = 0; i < 6; i++)
        OK(comm, send_to(next, 100 + i % 3, 10 + (size_t)i));
    OK(comm, tutti_barrier(comm));
    receive(previous, 102, 12, previous, 102);
    receive(previous, 100, 10, previous, 100);
    receive(previous, TUTTI_ANY_TAG, 11, previous, 101);
    receive(previous, 102, 15, previous, 102);
    receive(TUTTI_ANY_SOURCE, 101, 14, previous, 101);
    receive(previous, TUTTI_ANY_TAG, 13, previous, 100);
}

/* A receive may be longer than its message: it is told the length, and nothing is written behind it. */
static void a_receive_may_be_longer_than_its_message(void)
{
    int32_t buffer[10];
    struct tutti_received received;
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    memset(buffer, 0x5a, sizeof buffer);
    OK(comm, send_to(next, 3, 4));
    OK(comm, tutti_recv(comm, buffer, 10, TUTTI_INT32, previous, 3, &received));
    CHECK(received.count == 4 && buffer[4] == 0x5a5a5a5a);
    check_values(buffer, 4, previous, rank, 3);
    OK(comm, send_to(next, 3, 0));
    OK(comm, tutti_recv(comm, NULL, 0, TUTTI_INT32, previous, 3, NULL));
}

/* Everybody to rank 0 in no order, who takes them as they come, and answers each. */
static void any_source_is_whoever_comes(void)
{
    if (rank != 0) {
        for (int i = 0; i < 5; i++) {
            OK(comm, send_to(0, 10 * rank + i, (size_t)(10 * rank + i)));
            receive(0, 10 * rank + i, 3, 0, 10 * rank + i);
        }
        return;
    }
    int next[SIZE_MAX_HERE] = {0};
    for (int i = 0; i < 5 * (size - 1); i++) {
        int32_t buffer[100];
        struct tutti_received received;
        OK(comm, tutti_recv(comm, buffer, 100, TUTTI_INT32, TUTTI_ANY_SOURCE, TUTTI_ANY_TAG, &received));
        CHECK(received.source > 0 && received.source < size);
        CHECK(received.tag == 10 * received.source + next[received.source]++);
        CHECK(received.count == (size_t)received.tag);
        check_values(buffer, received.count, received.source, 0, received.tag);
        OK(comm, send_to(received.source, received.tag, 3));
    }
}

static void a_rank_may_send_to_itself(void)
{
    for (int i = 0; i < 3; i++)
        OK(comm, send_to(rank, i, 100 * (size_t)i));
    receive(rank, 2, 200, rank, 2);
    receive(TUTTI_ANY_SOURCE, TUTTI_ANY_TAG, 0, rank, 0);
    receive(rank, TUTTI_ANY_TAG, 100, rank, 1);
    /* Together, the receive first, longer than what is kept. */
    size_t count = 3000000;
    int32_t *out = malloc(count * sizeof *out), *in = malloc(count * sizeof *in);
    CHECK(out && in);
    fill(out, count, rank, rank, 9);
    struct tutti_received received;
    struct tutti_call calls[2] = {
        {.op = TUTTI_RECV,
         .recv = in,
         .count = count,
         .type = TUTTI_INT32,
         .peer = rank,
         .tag = 9,
         .received = &received},
        {.op = TUTTI_SEND, .send = out, .count = count, .type = TUTTI_INT32, .peer = rank, .tag = 9}};
    tutti_request *request;
    OK(comm, tutti_run(comm, calls, 2, -1, &request));
    CHECK(received.count == count && received.source == rank);
    check_values(in, count, rank, rank, 9);
    free(in);
    free(out);
}

/* All to all in one batch, in an order that blocking calls would deadlock in: large sends before receives. */
static void a_batch_goes_in_any_order(size_t count)
{
    struct tutti_call calls[2 * SIZE_MAX_HERE];
    struct tutti_received received[SIZE_MAX_HERE];
    int32_t *out[SIZE_MAX_HERE], *in[SIZE_MAX_HERE];
    for (int r = 0; r < size; r++) {
        out[r] = malloc((count + 1) * sizeof *out[r]);
        in[r] = malloc((count + 1) * sizeof *in[r]);
        CHECK(out[r] && in[r]);
        fill(out[r], count, rank, r, 5);
        calls[r] = (struct tutti_call){
            .op = TUTTI_SEND, .send = out[r], .count = count, .type = TUTTI_INT32, .peer = r, .tag = 5};
        calls[2 * size - 1 - r] = (struct tutti_call){.op = TUTTI_RECV,
                                                      .recv = in[r],
                                                      .count = count,
                                                      .type = TUTTI_INT32,
                                                      .peer = r,
                                                      .tag = 5,
                                                      .received = &received[r]};
    }
    tutti_request *request;
    OK(comm, tutti_start(comm, calls, 2 * (size_t)size, &request));
    OK(comm, tutti_wait(&request, -1));
    for (int r = 0; r < size; r++) {
        CHECK(received[r].source == r && received[r].tag == 5 && received[r].count == count);
        check_values(in[r], count, r, rank, 5);
        free(out[r]);
        free(in[r]);
    }
}

static void batches_go_in_any_order(void)
{
    a_batch_goes_in_any_order(0);
    a_batch_goes_in_any_order(3);
    a_batch_goes_in_any_order(1000003);
}

/* More than is kept: the sender waits until the receiver asks, and everything arrives in order. */
static void a_sender_waits_when_too_much_is_unexpected(void)
{
    enum { MESSAGES = 20 };
    const size_t count = KEPT_BYTES / sizeof(int32_t) / 8; /* 8 MiB each, 160 in all */
    int32_t *buffer = malloc(count * sizeof *buffer);
    struct tutti_call calls[MESSAGES];
    tutti_request *request = NULL;
    CHECK(buffer);
    if (size > 1 && rank == 0) {
        fill(buffer, count, 0, 1, 0);
        for (int i = 0; i < MESSAGES; i++)
            calls[i] = (struct tutti_call){
                .op = TUTTI_SEND, .send = buffer, .count = count, .type = TUTTI_INT32, .peer = 1, .tag = i};
        OK(comm, tutti_start(comm, calls, MESSAGES, &request));
        CHECK(tutti_wait(&request, 500) == TUTTI_PENDING);
    }
    OK(comm, tutti_barrier(comm));
    for (int i = 0; rank == 1 && i < MESSAGES; i++) {
        /* Each second one before the first, which is kept meanwhile. */
        int tag = i % 2 == 0 ? i + 1 : i - 1;
        struct tutti_received received;
        OK(comm, tutti_recv(comm, buffer, count, TUTTI_INT32, 0, tag, &received));
        CHECK(received.tag == tag && received.count == count);
        check_values(buffer, count, 0, 1, 0);
    }
    OK(comm, tutti_wait(&request, -1));
    free(buffer);
}

/* A receive that is not answered yet holds up no collective, and a collective no message. */
static void messages_and_collectives_do_not_wait_for_each_other(void)
{
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    int32_t in[64], sum;
    struct tutti_received received;
    const struct tutti_call expecting = {.op = TUTTI_RECV,
                                         .recv = in,
                                         .count = 64,
                                         .type = TUTTI_INT32,
                                         .peer = previous,
                                         .tag = 8,
                                         .received = &received};
    for (int turn = 0; turn < 20; turn++) {
        tutti_request *message, *collective;
        int32_t one = rank + turn;
        const struct tutti_call adding = {.op = TUTTI_ALL_REDUCE,
                                          .send = &one,
                                          .recv = &sum,
                                          .count = 1,
                                          .type = TUTTI_INT32,
                                          .reduction = TUTTI_SUM};
        OK(comm, tutti_start(comm, &expecting, 1, &message));
        CHECK(tutti_wait(&message, 0) == TUTTI_PENDING); /* nobody sends before all are in the barrier */
        OK(comm, tutti_barrier(comm));
        OK(comm, tutti_start(comm, &adding, 1, &collective));
        OK(comm, send_to(next, 8, 64));
        OK(comm, tutti_wait(&message, -1));
        CHECK(received.source == previous && received.count == 64);
        check_values(in, 64, previous, rank, 8);
        OK(comm, tutti_wait(&collective, -1));
        CHECK(sum == size * turn + size * (size - 1) / 2);
    }
}

/* Large messages while large collectives are under way, completed in every order. */
static void large_ones_share_the_way(void)
{
    const size_t count = 1 << 20;
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    int32_t *buffers = malloc(3 * count * sizeof *buffers);
    CHECK(buffers);
    int32_t *out = buffers, *in = buffers + count, *vector = buffers + 2 * count;
    for (int turn = 0; turn < 4; turn++) {
        tutti_request *message, *collective;
        fill(out, count, rank, next, turn);
        for (size_t i = 0; i < count; i++)
            vector[i] = (int32_t)i + rank;
        const struct tutti_call calls[2] = {
            {.op = TUTTI_SEND, .send = out, .count = count, .type = TUTTI_INT32, .peer = next, .tag = turn},
            {.op = TUTTI_RECV,
             .recv = in,
             .count = count,
             .type = TUTTI_INT32,
             .peer = previous,
             .tag = turn}};
        const struct tutti_call adding = {.op = TUTTI_ALL_REDUCE,
                                          .send = vector,
                                          .recv = vector,
                                          .count = count,
                                          .type = TUTTI_INT32,
                                          .reduction = TUTTI_SUM};
        OK(comm, tutti_start(comm, calls, 2, &message));
        OK(comm, tutti_start(comm, &adding, 1, &collective));
        OK(comm, tutti_wait(turn % 2 == 0 ? &message : &collective, -1));
        OK(comm, tutti_wait(turn % 2 == 0 ? &collective : &message, -1));
        check_values(in, count, previous, rank, turn);
        for (size_t i = 0; i < count; i++)
            CHECK(vector[i] == (int32_t)i * size + size * (size - 1) / 2);
    }
    free(buffers);
}

/* The end of the group, so it comes last: a message that is too long for its receive. */
static void a_message_too_long_is_told_on_both_sides(void)
{
    struct tutti_error error = TUTTI_ERROR_INIT;
    int32_t small[4], large[8] = {0};
    if (size == 1)
        return;
    int status = tutti_barrier(comm); /* whose end the failure may meet */
    CHECK(status == TUTTI_OK || rank > 1);
    if (rank == 0)
        status = tutti_recv(comm, small, 4, TUTTI_INT32, 1, 6, NULL);
    else if (rank == 1)
        status = tutti_send(comm, large, 8, TUTTI_INT32, 0, 6);
    if (status == TUTTI_OK && rank != 0)
        status = tutti_barrier(comm);
    CHECK(status == TUTTI_ERR_MISMATCH);
    OK(comm, tutti_get_error(comm, &error));
    CHECK(error.code == TUTTI_ERR_MISMATCH && strstr(error.message, "8 x int32") != NULL &&
          strstr(error.message, "4 x int32") != NULL);
}

int main(void)
{
    static void (*const parts[])(void) = {
        to_the_next_rank,
        tags_choose_and_order_is_kept,
        a_receive_may_be_longer_than_its_message,
        any_source_is_whoever_comes,
        a_rank_may_send_to_itself,
        batches_go_in_any_order,
        messages_and_collectives_do_not_wait_for_each_other,
        large_ones_share_the_way,
        a_sender_waits_when_too_much_is_unexpected,
    };
    OK(comm, tutti_init(NULL, &comm));
    rank = check_rank = tutti_rank(comm);
    size = tutti_size(comm);
    CHECK(size <= SIZE_MAX_HERE);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        parts[i]();
        OK(comm, tutti_barrier(comm)); /* so that a receive from any source takes nothing of the next */
    }
    a_message_too_long_is_told_on_both_sides();
    if (size == 1)
        OK(comm, tutti_finalize(comm, 60000));
    tutti_free(comm);
    if (rank == 0)
        printf("messages between %d ranks are right\n", size);
    return 0;
}
