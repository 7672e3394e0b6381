#include "observe.h"
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void say_failure(const char *what, tutti_comm *comm, int status, int64_t entered_us)
{
    int64_t us = now_us();
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_get_error(comm, &error);
    say("%s us=%lld entered_us=%lld status=%s rank=%d operation=%s sequence=%llu message=%s", what,
        (long long)us, (long long)entered_us, tutti_error_name(status), error.rank, error.operation,
        (unsigned long long)error.sequence, error.message);
}

/* Reads without allocating, so that looking does not change what is seen. */
static size_t read_file(const char *path, char *text, size_t size)
{
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;
    if (fd < 0) {
        perror(path);
        exit(4);
    }
    while (length < size - 1 && (got = read(fd, text + length, size - 1 - length)) > 0)
        length += (size_t)got;
    close(fd);
    text[length] = '\0';
    return length;
}

static long number_after(const char *text, const char *name)
{
    const char *found = strstr(text, name);
    return found ? strtol(found + strlen(name), NULL, 10) : -1;
}

static int count_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder) {
        perror("/proc/self/fd");
        exit(4);
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count - 1; /* without that of the folder itself */
}

void holdings_measure(struct holdings *holdings)
{
    static char text[256 << 10];
    malloc_trim(0);
    holdings->descriptors = count_descriptors();
    size_t length = read_file("/proc/self/maps", text, sizeof text);
    holdings->mappings = 0;
    for (size_t i = 0; i < length; i++)
        holdings->mappings += text[i] == '\n';
    read_file("/proc/self/status", text, sizeof text);
    holdings->rss_kib = number_after(text, "\nVmRSS:");
    holdings->mapped_kib = number_after(text, "\nVmSize:");
    holdings->threads = (int)number_after(text, "\nThreads:");
}
