/* What the sockets of this machine can do, for tutti to be measured against: two processes with two one-way
 * connections, as a ring of two has, with the options that tutti sets, driven by one thread each without ever
 * sleeping.
 *     raw_sockets uds|tcp
 * prints one JSON object: `duplex_GBps`, the bandwidth in each direction while both send and receive 64 MiB
 * at the same time in slices of 256 KiB; and `exchange_us`, the median time in which both have sent a frame
 * of 68 bytes (a header and one float32) and received the other's, polling. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DUPLEX_BYTES   ((size_t)64 << 20)
#define DUPLEX_TURNS   15
#define SLICE_BYTES    ((size_t)256 << 10)
#define FRAME_BYTES    68
#define EXCHANGE_TURNS 100000
#define BUFFER_BYTES   (4 << 20)

struct side {
    int out, in;
};

static void check(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof values[0], compare);
    return values[count / 2];
}

static void set_options(int fd, int is_tcp)
{
    int bytes = BUFFER_BYTES, one = 1;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    if (is_tcp) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
    }
    check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
}

static void connect_tcp(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(listener >= 0 && bind(listener, (struct sockaddr *)&address, length) == 0 &&
              listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0,
          "listen");
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(pair[0] >= 0 && connect(pair[0], (struct sockaddr *)&address, length) == 0, "connect");
    pair[1] = accept(listener, NULL, NULL);
    check(pair[1] >= 0, "accept");
    close(listener);
}

/* One connection; data goes from pair[0] to pair[1]. */
static void connect_pair(int pair[2], int is_tcp)
{
    if (is_tcp)
        connect_tcp(pair);
    else
        check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
    set_options(pair[0], is_tcp);
    set_options(pair[1], is_tcp);
}

/* Bytes moved; 0 when it would have blocked. */
static size_t try_send(int fd, const char *bytes, size_t size)
{
    struct iovec vector = {(void *)bytes, size};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    check(sent >= 0 || errno == EAGAIN, "sendmsg");
    return sent > 0 ? (size_t)sent : 0;
}

static size_t try_receive(int fd, char *bytes, size_t size)
{
    ssize_t received = recv(fd, bytes, size, 0);
    check(received > 0 || (received < 0 && errno == EAGAIN), "recv");
    return received > 0 ? (size_t)received : 0;
}

/* Both directions at once until each has moved `size` bytes. */
static void exchange(const struct side *side, const char *from, char *to, size_t size, size_t slice)
{
    size_t sent = 0, received = 0;
    while (sent < size || received < size) {
        if (sent < size)
            sent += try_send(side->out, from + sent, size - sent < slice ? size - sent : slice);
        if (received < size)
            received +=
                try_receive(side->in, to + received, size - received < slice ? size - received : slice);
    }
}

static void measure(const struct side *side, char *from, char *to, double *duplex_us, double *exchange_us)
{
    static double times[EXCHANGE_TURNS];
    for (int turn = -2; turn < DUPLEX_TURNS; turn++) { /* two to warm up */
        exchange(side, from, to, FRAME_BYTES, FRAME_BYTES);
        double begin = now_us();
        exchange(side, from, to, DUPLEX_BYTES, SLICE_BYTES);
        if (turn >= 0)
            times[turn] = now_us() - begin;
    }
    *duplex_us = median(times, DUPLEX_TURNS);
    for (int turn = 0; turn < EXCHANGE_TURNS; turn++) {
        double begin = now_us();
        exchange(side, from, to, FRAME_BYTES, FRAME_BYTES);
        times[turn] = now_us() - begin;
    }
    *exchange_us = median(times, EXCHANGE_TURNS);
}

int main(int argc, char **argv)
{
    if (argc != 2 || (strcmp(argv[1], "uds") != 0 && strcmp(argv[1], "tcp") != 0)) {
        fprintf(stderr, "usage: raw_sockets uds|tcp\n");
        return 2;
    }
    int there[2], back[2], is_tcp = strcmp(argv[1], "tcp") == 0;
    connect_pair(there, is_tcp);
    connect_pair(back, is_tcp);

    pid_t child = fork();
    check(child >= 0, "fork");
    struct side side = child == 0 ? (struct side){back[0], there[1]} : (struct side){there[0], back[1]};
    char *from = malloc(DUPLEX_BYTES), *to = malloc(DUPLEX_BYTES);
    check(from != NULL && to != NULL, "malloc");
    memset(from, 1, DUPLEX_BYTES);
    memset(to, 2, DUPLEX_BYTES);
    double duplex_us, exchange_us;
    measure(&side, from, to, &duplex_us, &exchange_us);
    free(from);
    free(to);
    if (child == 0)
        return 0;
    int status;
    check(waitpid(child, &status, 0) == child && status == 0, "the other process");
    printf("{\"transport\": \"%s\", \"duplex_GBps\": %.4f, \"exchange_us\": %.3f}\n", argv[1],
           (double)DUPLEX_BYTES / duplex_us / 1e3, exchange_us);
    return 0;
}
