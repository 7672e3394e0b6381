#include "transport/descriptor.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Held while descriptors come and go, and across fork(): the child finds exactly those that are open. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t *noted; /* a bit for each descriptor */
static size_t words;

static void lock_all(void)
{
    pthread_mutex_lock(&lock);
}

static void unlock_all(void)
{
    pthread_mutex_unlock(&lock);
}

static void close_as_child(void)
{
    for (size_t word = 0; word < words; word++)
        for (; noted[word] != 0; noted[word] &= noted[word] - 1)
            close((int)(word * 64) + __builtin_ctzll(noted[word]));
    pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
    pthread_atfork(lock_all, unlock_all, close_as_child);
}

static bool note(int fd)
{
    size_t word = (size_t)fd / 64;
    if (word >= words) {
        size_t more = word + 16;
        uint64_t *larger = realloc(noted, more * sizeof *noted);
        if (!larger)
            return false;
        memset(larger + words, 0, (more - words) * sizeof *noted);
        noted = larger;
        words = more;
    }
    noted[word] |= (uint64_t)1 << fd % 64;
    return true;
}

static void forget(int fd)
{
    if (fd >= 0 && (size_t)fd / 64 < words)
        noted[fd / 64] &= ~((uint64_t)1 << fd % 64);
}

static void begin(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&lock);
}

/* With the lock, which it releases: `fd` is new, or -1 with errno. */
static int end(int fd)
{
    int error_number = errno;
    if (fd >= 0 && !note(fd)) {
        close(fd);
        fd = -1;
        error_number = ENOMEM;
    }
    pthread_mutex_unlock(&lock);
    errno = error_number;
    return fd;
}

int descriptor_socket(int family)
{
    begin();
    return end(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

int descriptor_accept(int listen_fd, struct sockaddr *address, socklen_t *length)
{
    begin();
    return end(accept4(listen_fd, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

int descriptor_event(unsigned value)
{
    begin();
    return end(eventfd(value, EFD_NONBLOCK | EFD_CLOEXEC));
}

void descriptor_close(int fd)
{
    pthread_mutex_lock(&lock);
    forget(fd);
    close(fd);
    pthread_mutex_unlock(&lock);
}

void descriptor_note(int fd)
{
    if (fd < 0)
        return;
    begin();
    (void)note(fd); /* without memory a child keeps its copy, as it would without us */
    pthread_mutex_unlock(&lock);
}

void descriptor_forget(int fd)
{
    pthread_mutex_lock(&lock);
    forget(fd);
    pthread_mutex_unlock(&lock);
}
