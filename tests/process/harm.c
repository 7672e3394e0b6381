#include "harm.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 1024

/* `text`: "HOST:PORT" or "unix:@NAME".  Ports are enough to tell one from the other on one host. */
static bool is_address(const struct sockaddr_storage *address, const char *text)
{
    if (address->ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)address)->sin_port) == atoi(strrchr(text, ':') + 1);
    const char *path = ((const struct sockaddr_un *)address)->sun_path; /* begins with a zero byte */
    return address->ss_family == AF_UNIX && strncmp(text, "unix:@", 6) == 0 &&
           strcmp(path + 1, text + 6) == 0;
}

static bool is_connected(int fd, struct sockaddr_storage *peer)
{
    int listens = 1;
    socklen_t length = sizeof listens, peer_length = sizeof *peer;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && !listens &&
           getpeername(fd, (struct sockaddr *)peer, &peer_length) == 0;
}

static void break_connections(bool reset, const char *only)
{
    const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    for (int fd = 3; fd < DESCRIPTORS_MAX; fd++) {
        struct sockaddr_storage peer = {0};
        if (!is_connected(fd, &peer) || (only && !is_address(&peer, only)))
            continue;
        if (!reset)
            shutdown(fd, SHUT_WR);
        else if (connect(fd, &nowhere, sizeof nowhere) < 0) /* a TCP connection is reset by this */
            shutdown(fd, SHUT_RDWR);
    }
}

static void take_descriptors(bool take)
{
    static int taken[DESCRIPTORS_MAX];
    static int count;
    struct rlimit limit;
    if (take) {
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
        setrlimit(RLIMIT_NOFILE, &limit);
        while (count < DESCRIPTORS_MAX && (taken[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
            count++;
    }
    while (!take && count > 0)
        close(taken[--count]);
}

void do_harm(const char *harm, const char *rendezvous)
{
    if (strcmp(harm, "reset") == 0 || strcmp(harm, "half_close") == 0)
        break_connections(harm[0] == 'r', NULL);
    else if (strcmp(harm, "reset_rendezvous") == 0 || strcmp(harm, "half_close_rendezvous") == 0)
        break_connections(harm[0] == 'r', rendezvous);
    else if (strcmp(harm, "hog") == 0 || strcmp(harm, "release") == 0)
        take_descriptors(harm[0] == 'h');
}
