/* A model that is served by several processes at once, each of which holds a part of its weights:
 *     tutti run -n 4 -- inference_tutti --socket /tmp/mlp
 *     inference_load --socket /tmp/mlp
 * Rank 0 takes requests from a Unix socket.  For each of them every rank goes through the same three steps:
 * the input is broadcast, and the output of each of the two layers is summed by an all_reduce.  Meanwhile
 * rank 0 must hear its clients, so it never blocks: it sleeps in one poll() on its sockets and on the
 * descriptor that tells that a step is complete.  SIGTERM or SIGINT ends the server; so does the loss of a
 * rank, and its clients are told which.
 *
 * Linked with group_mpi.c it is the same server over MPI. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "clients.h"
#include "group.h"
#include "mlp.h"

/* Whoever waits for an input is in a call with a deadline, so rank 0 says something now and then. */
#define IDLE_MS 10000

enum command { COMMAND_REST, COMMAND_COMPUTE, COMMAND_END };

struct input { /* what rank 0 broadcasts */
    int32_t command;
    float x[];
};

struct options {
    const char *socket;
    size_t width, hidden;
    int patience_ms;
};

struct server {
    const struct options *options;
    struct group *group;
    struct mlp mlp;
    struct input *input;
    float *sums[MLP_LAYERS];

    bool under_way; /* a step is */
    bool fresh;     /* and nobody has looked whether it is complete */
    enum group_step step;
    bool ended;

    struct clients clients; /* these are for rank 0 */
    struct client *client;  /* whose request is being computed */
    int64_t spoken_ms;      /* when the latest input was broadcast */
    bool stopping;
};

static int stop_fd = -1; /* an eventfd; all that the handler of a signal may touch */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool is_root(const struct server *server)
{
    return group_rank(server->group) == 0;
}

/* ---- The steps of a request ----------------------------------------------------------------------- */

static int start(struct server *server, enum group_step step)
{
    server->step = step;
    server->under_way = server->fresh = true;
    return group_start(server->group, step, server->options->patience_ms);
}

/* Rank 0 has something to say, or waits until it has; the others wait for it. */
static int begin(struct server *server)
{
    if (is_root(server)) {
        server->client = server->stopping ? NULL : clients_next(&server->clients);
        if (server->client) {
            server->input->command = COMMAND_COMPUTE;
            memcpy(server->input->x, server->client->input, server->options->width * sizeof(float));
        } else if (server->stopping) {
            server->input->command = COMMAND_END;
        } else if (now_ms() - server->spoken_ms >= IDLE_MS) {
            server->input->command = COMMAND_REST;
        } else {
            return 0;
        }
        server->spoken_ms = now_ms();
    }
    return start(server, STEP_INPUT);
}

/* A step is complete: what follows from it, up to the start of the next. */
static int advance(struct server *server)
{
    const struct mlp *mlp = &server->mlp;
    server->under_way = false;
    switch (server->step) {
    case STEP_INPUT:
        server->ended = server->input->command == COMMAND_END;
        if (server->input->command != COMMAND_COMPUTE)
            return 0;
        mlp_layer(mlp, 0, server->input->x, server->sums[0]);
        return start(server, STEP_LAYER_1);
    case STEP_LAYER_1:
        mlp_quantise(mlp, server->sums[0]);
        mlp_layer(mlp, 1, server->sums[0], server->sums[1]);
        return start(server, STEP_LAYER_2);
    default:
        if (is_root(server))
            clients_answer(&server->clients, server->client, server->sums[1]);
        server->client = NULL;
        return 0;
    }
}

/* Does what can be done now, and says how long poll() may then sleep (-1: for ever). */
static int turn(struct server *server, int *sleep_ms)
{
    *sleep_ms = 0;
    if (!server->under_way && begin(server) < 0)
        return -1;
    if (!server->under_way) {
        int64_t left_ms = server->spoken_ms + IDLE_MS - now_ms();
        *sleep_ms = left_ms > 0 ? (int)left_ms : 0;
        return 0;
    }
    int done = group_test(server->group, server->fresh ? server->options->patience_ms : 0);
    server->fresh = false;
    if (done > 0)
        return advance(server);
    if (done == 0 && group_fd(server->group) >= 0)
        *sleep_ms = -1;
    return done;
}

/* ---- The event loop ------------------------------------------------------------------------------- */

static int serve(struct server *server)
{
    enum { CLIENT_FDS = CLIENTS_MAX + 1, GROUP_FD = CLIENT_FDS, STOP_FD, FDS };
    struct pollfd fds[FDS];
    for (;;) {
        int sleep_ms;
        if (turn(server, &sleep_ms) < 0)
            return -1;
        if (server->ended)
            return 0;
        for (int i = 0; i < CLIENT_FDS; i++)
            fds[i] = (struct pollfd){.fd = -1};
        if (is_root(server))
            clients_poll(&server->clients, fds);
        fds[GROUP_FD] =
            (struct pollfd){.fd = server->under_way ? group_fd(server->group) : -1, .events = POLLIN};
        fds[STOP_FD] = (struct pollfd){.fd = server->stopping ? -1 : stop_fd, .events = POLLIN};
        if (poll(fds, FDS, sleep_ms) <= 0)
            continue; /* time has passed, or a signal came */
        server->stopping = server->stopping || fds[STOP_FD].revents != 0;
        if (is_root(server))
            clients_serve(&server->clients, fds);
    }
}

static void on_signal(int number)
{
    (void)number;
    int before = errno;
    eventfd_write(stop_fd, 1);
    errno = before;
}

/* Rank 0 tells the others when to end, so that all of them leave the group together. */
static bool handle_signals(bool root)
{
    struct sigaction action = {.sa_handler = root ? on_signal : SIG_IGN};
    stop_fd = root ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    return (stop_fd >= 0 || !root) && sigaction(SIGINT, &action, NULL) == 0 &&
           sigaction(SIGTERM, &action, NULL) == 0;
}

/* ---- Beginning and end ---------------------------------------------------------------------------- */

/* What only this rank has met: the others are told, or they would wait for it. */
static int give_up(struct server *server, const char *reason)
{
    fprintf(stderr, "rank %d: %s\n", group_rank(server->group), reason);
    group_abort(server->group, reason);
    return -1;
}

static int prepare(struct server *server)
{
    const struct options *options = server->options;
    int rank = group_rank(server->group), size = group_size(server->group);
    size_t bytes = options->width * sizeof(float), input_bytes = sizeof *server->input + bytes;
    server->input = calloc(1, input_bytes);
    for (int layer = 0; layer < MLP_LAYERS; layer++)
        server->sums[layer] = calloc(1, bytes);
    if (!mlp_init(&server->mlp, options->width, options->hidden, rank, size) || !server->input ||
        !server->sums[0] || !server->sums[1])
        return give_up(server, "no memory for the model");
    if (!handle_signals(rank == 0))
        return give_up(server, "cannot handle signals");
    if (rank == 0) {
        char error[256];
        struct hello hello = {HELLO_MAGIC, (uint32_t)options->width, (uint32_t)options->hidden,
                              (uint32_t)size};
        if (clients_open(&server->clients, options->socket, &hello, error) < 0)
            return give_up(server, error);
    }
    server->spoken_ms = now_ms();
    struct group_buffers buffers = {
        .input = server->input, .input_bytes = input_bytes, .width = options->width};
    memcpy(buffers.sums, server->sums, sizeof buffers.sums);
    return group_prepare(server->group, &buffers);
}

static int run(struct server *server)
{
    int status = group_error(server->group)[0] ? -1 : 0;
    if (status == 0)
        status = prepare(server);
    if (status == 0 && is_root(server)) {
        printf("serving at %s over %s on %d ranks, process %d\n", server->options->socket, group_library(),
               group_size(server->group), (int)getpid());
        fflush(stdout);
    }
    if (status == 0)
        status = serve(server);
    if (status == 0)
        status = group_finalize(server->group);
    const char *error = group_error(server->group);
    if (error[0])
        fprintf(stderr, "%s\n", error);
    if (is_root(server))
        clients_close(&server->clients, error[0] ? error : "the server is shutting down");
    return status;
}

static bool parse(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {{"socket", required_argument, NULL, 's'},
                                          {"width", required_argument, NULL, 'w'},
                                          {"hidden", required_argument, NULL, 'h'},
                                          {"patience", required_argument, NULL, 'p'},
                                          {0}};
    *options = (struct options){.width = 256, .hidden = 1024};
    for (int name; (name = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (name == 's')
            options->socket = optarg;
        else if (name == 'w')
            options->width = strtoul(optarg, NULL, 10);
        else if (name == 'h')
            options->hidden = strtoul(optarg, NULL, 10);
        else if (name == 'p')
            options->patience_ms = atoi(optarg);
        else
            return false;
    }
    return options->socket && optind == argc && mlp_is_exact(options->width, options->hidden);
}

int main(int argc, char **argv)
{
    struct options options;
    if (!parse(argc, argv, &options)) {
        fprintf(
            stderr,
            "usage: %s --socket PATH [--width N] [--hidden N] [--patience MS]\n"
            "Serves an MLP of two layers, N wide (256) with N hidden units (1024), whose product is at most\n"
            "2097152.  Before a rank sleeps in its event loop, it waits for the others for MS (0)\n"
            "milliseconds; -1: until they come.\n",
            argv[0]);
        return 2;
    }
    struct server server = {.options = &options, .group = group_open(), .clients.listener = -1};
    if (!server.group) {
        fprintf(stderr, "no memory\n");
        return 1;
    }
    int status = run(&server);
    group_free(server.group);
    mlp_clean_up(&server.mlp);
    free(server.input);
    free(server.sums[0]);
    free(server.sums[1]);
    return status < 0;
}
