/* Load for inference_tutti and inference_mpi: connections that each send a request as soon as they have the
 * answer to the one before. inference_load --socket /tmp/mlp --connections 4 --requests 20000 Compares every
 * answer, bit by bit, with what this process alone computes, and prints how long they took. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "messages.h"
#include "mlp.h"

#define CONNECTIONS_MAX 64
#define SAMPLES         64  /* different inputs, whose answers are computed beforehand */
#define WARM_UP         200 /* requests that are checked but not counted in the figures */
#define SILENCE_MS      30000

struct options {
    const char *socket;
    size_t connections, requests;
};

struct connection {
    int fd;
    size_t sample; /* that was asked */
    int64_t asked_ns;
    struct reply reply;
    uint8_t *body;   /* an answer, or a sentence */
    size_t received; /* bytes of reply and body */
    bool waits;
};

struct load {
    struct hello hello;
    float *inputs, *answers; /* SAMPLES * width */
    struct connection connections[CONNECTIONS_MAX];
    size_t asked, answered, total;
    int64_t *times_ns, counted_from_ns;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static _Noreturn void fail(const char *text)
{
    fprintf(stderr, "%s\n", text);
    exit(1);
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory)
        fail("no memory");
    return memory;
}

/* ---- What is right -------------------------------------------------------------------------------- */

static void compute_samples(struct load *load)
{
    size_t width = load->hello.width;
    struct mlp mlp;
    if (!mlp_is_exact(width, load->hello.hidden) || !mlp_init(&mlp, width, load->hello.hidden, 0, 1))
        fail("no memory for the model, or the server has one whose answers are not exact");
    load->inputs = allocate(SAMPLES * width * sizeof(float));
    load->answers = allocate(SAMPLES * width * sizeof(float));
    float *middle = allocate(width * sizeof(float));
    for (size_t sample = 0; sample < SAMPLES; sample++) {
        float *x = load->inputs + sample * width;
        for (size_t i = 0; i < width; i++)
            x[i] = (float)((sample * 7 + i * (sample + 3) + i * i) % (2 * MLP_INPUT_MAX + 1)) - MLP_INPUT_MAX;
        mlp_layer(&mlp, 0, x, middle);
        mlp_quantise(&mlp, middle);
        mlp_layer(&mlp, 1, middle, load->answers + sample * width);
    }
    free(middle);
    mlp_clean_up(&mlp);
}

static void check(const struct load *load, const struct connection *connection)
{
    size_t width = load->hello.width, bytes = width * sizeof(float);
    const float *right = load->answers + connection->sample * width, *got = (const float *)connection->body;
    if (connection->reply.bytes != bytes)
        fail("an answer has a length that is not the model's");
    for (size_t i = 0; i < width; i++)
        if (memcmp(&right[i], &got[i], sizeof *got) != 0) {
            fprintf(stderr, "a wrong answer: element %zu is %.9g and should be %.9g\n", i, (double)got[i],
                    (double)right[i]);
            exit(1);
        }
}

/* ---- Requests and answers --------------------------------------------------------------------------- */

static void must_be_there(ssize_t bytes, size_t wanted)
{
    if (bytes == 0)
        fail("the server has closed the connection");
    if (bytes < 0 || (size_t)bytes != wanted) {
        fprintf(stderr, "talking to the server: %s\n", bytes < 0 ? strerror(errno) : "a message was cut off");
        exit(1);
    }
}

static void ask(struct load *load, struct connection *connection)
{
    size_t bytes = load->hello.width * sizeof(float);
    if (load->asked == WARM_UP)
        load->counted_from_ns = now_ns();
    connection->sample = load->asked++ % SAMPLES;
    connection->received = 0;
    connection->waits = true;
    connection->asked_ns = now_ns();
    const float *input = load->inputs + connection->sample * load->hello.width;
    ssize_t sent = send(connection->fd, input, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EPIPE)
        return; /* the server has left, and before that it has said why: hear() will find it */
    must_be_there(sent, bytes);
}

/* Reads what there is; true when the answer is complete. */
static bool hear(const struct load *load, struct connection *connection)
{
    uint8_t *reply = (uint8_t *)&connection->reply;
    size_t head = sizeof connection->reply, done = connection->received;
    bool in_head = done < head;
    size_t left = in_head ? head - done : head + connection->reply.bytes - done;
    ssize_t got = recv(connection->fd, in_head ? reply + done : connection->body + done - head, left, 0);
    if (got <= 0)
        must_be_there(got, left);
    connection->received += (size_t)got;
    if (connection->received == head && connection->reply.bytes > load->hello.width * sizeof(float) + 4096)
        fail("the server sends more than it can have to say");
    return connection->received >= head && connection->received == head + connection->reply.bytes;
}

static void take_answer(struct load *load, struct connection *connection)
{
    int64_t took_ns = now_ns() - connection->asked_ns;
    if (connection->reply.failed) {
        fprintf(stderr, "the server says: %.*s\n", (int)connection->reply.bytes, (char *)connection->body);
        exit(1);
    }
    if (!connection->waits)
        fail("an answer without a request");
    check(load, connection);
    connection->waits = false;
    load->times_ns[load->answered++] = took_ns;
}

static void exchange(struct load *load, size_t count)
{
    struct pollfd fds[CONNECTIONS_MAX];
    for (size_t i = 0; i < count; i++) {
        fds[i] = (struct pollfd){.fd = load->connections[i].fd, .events = POLLIN};
        if (load->asked < load->total)
            ask(load, &load->connections[i]);
    }
    while (load->answered < load->total) {
        if (poll(fds, count, SILENCE_MS) == 0)
            fail("no answer within 30 s");
        for (size_t i = 0; i < count; i++) {
            struct connection *connection = &load->connections[i];
            if (fds[i].revents == 0 || !hear(load, connection))
                continue;
            take_answer(load, connection);
            if (load->asked < load->total)
                ask(load, connection);
        }
    }
}

/* ---- Beginning and end ------------------------------------------------------------------------------ */

static void connect_all(struct load *load, const struct options *options)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(options->socket) >= sizeof address.sun_path)
        fail("the path of the socket is too long");
    strcpy(address.sun_path, options->socket);
    for (size_t i = 0; i < options->connections; i++) {
        struct connection *connection = &load->connections[i];
        connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0) {
            fprintf(stderr, "cannot connect to %s: %s. Is the server running?\n", options->socket,
                    strerror(errno));
            exit(1);
        }
        must_be_there(recv(connection->fd, &load->hello, sizeof load->hello, MSG_WAITALL),
                      sizeof load->hello);
        if (load->hello.magic != HELLO_MAGIC || load->hello.width == 0)
            fail("what listens there is no inference server");
        connection->body = allocate(load->hello.width * sizeof(float) + 4096);
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void report(const struct load *load, const struct options *options)
{
    size_t count = load->total - WARM_UP;
    int64_t *times = load->times_ns + WARM_UP;
    double seconds = (double)(now_ns() - load->counted_from_ns) / 1e9;
    qsort(times, count, sizeof *times, compare);
    printf("%zu answers of %u ranks, all right, %zu connections: %.0f requests/s\n", count, load->hello.ranks,
           options->connections, (double)count / seconds);
    static const struct {
        const char *name;
        double share;
    } percentiles[] = {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p99.9", .999}};
    printf("latency, us:");
    for (size_t i = 0; i < sizeof percentiles / sizeof *percentiles; i++)
        printf(" %s %.1f", percentiles[i].name,
               (double)times[(size_t)(percentiles[i].share * (double)count)] / 1e3);
    printf(" max %.1f\n", (double)times[count - 1] / 1e3);
}

static bool parse(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {{"socket", required_argument, NULL, 's'},
                                          {"connections", required_argument, NULL, 'c'},
                                          {"requests", required_argument, NULL, 'r'},
                                          {0}};
    *options = (struct options){.connections = 4, .requests = 10000};
    for (int name; (name = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (name == 's')
            options->socket = optarg;
        else if (name == 'c')
            options->connections = strtoul(optarg, NULL, 10);
        else if (name == 'r')
            options->requests = strtoul(optarg, NULL, 10);
        else
            return false;
    }
    return options->socket && optind == argc && options->connections > 0 &&
           options->connections <= CONNECTIONS_MAX && options->requests > 0 && options->requests <= 10000000;
}

int main(int argc, char **argv)
{
    struct options options;
    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: %s --socket PATH [--connections N] [--requests N]\n", argv[0]);
        return 2;
    }
    struct load load = {.total = options.requests + WARM_UP};
    load.times_ns = allocate(load.total * sizeof *load.times_ns);
    connect_all(&load, &options);
    compute_samples(&load);
    exchange(&load, options.connections);
    report(&load, &options);
    for (size_t i = 0; i < options.connections; i++) {
        close(load.connections[i].fd);
        free(load.connections[i].body);
    }
    free(load.times_ns);
    free(load.inputs);
    free(load.answers);
    return 0;
}
