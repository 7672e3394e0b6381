/* One rank of the jobs that failures.py and startup.py put together.  It tells on standard output, line by
 * line, what happens to it: started pid=... us=...                               before tutti_init joined
 * rank=... size=... us=...                      the group is complete looping mode loop, once failed
 * status=... rank=... operation=... ms=... message=...    then it exits with 3 done all went well; exits with
 * 0 Modes: once, hold FILE, loop, quit, absent FILE, count, operation (see main). */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tell.h"
#include "tutti/tutti.h"

#define COUNT 262144

static float vector[COUNT];
static int64_t call_began_us;

static void check(tutti_comm *comm, int status)
{
    if (status == TUTTI_OK)
        return;
    struct tutti_error error = TUTTI_ERROR_INIT;
    tutti_get_error(comm, &error);
    say("failed status=%s rank=%d operation=%s ms=%lld message=%s", tutti_error_name(status), error.rank,
        error.operation, (long long)(now_us() - call_began_us) / 1000, error.message);
    tutti_free(comm);
    exit(3);
}

static void all_reduce(tutti_comm *comm, size_t count)
{
    for (size_t i = 0; i < count; i++)
        vector[i] = 1;
    call_began_us = now_us();
    check(comm, tutti_all_reduce(comm, vector, vector, count, TUTTI_FLOAT32, TUTTI_SUM));
    for (size_t i = 0; i < count; i++)
        if (vector[i] != (float)tutti_size(comm)) {
            say("wrong: element %zu is %g", i, (double)vector[i]);
            exit(5);
        }
}

/* Returns when it has got one byte from a FIFO. */
static void hold(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char byte;
    if (fd < 0 || read(fd, &byte, 1) != 1) {
        perror(path);
        exit(4);
    }
    close(fd);
}

static void loop(tutti_comm *comm)
{
    all_reduce(comm, COUNT);
    say("looping");
    for (;;)
        all_reduce(comm, COUNT);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "once";
    const char *file = argc > 2 ? argv[2] : NULL;
    tutti_comm *comm = NULL;

    call_began_us = now_us();
    say("started pid=%d us=%lld", (int)getpid(), (long long)call_began_us);
    int status = tutti_init(NULL, &comm);
    check(comm, status);
    say("joined rank=%d size=%d us=%lld", tutti_rank(comm), tutti_size(comm), (long long)now_us());
    int last = tutti_rank(comm) == tutti_size(comm) - 1;

    if (strcmp(mode, "hold") == 0) { /* says what it has to say before anybody goes on */
        hold(file);
    } else if (strcmp(mode, "loop") == 0) {
        loop(comm);
    } else if (strcmp(mode, "quit") == 0) { /* the last rank leaves without a word */
        all_reduce(comm, 1000);
        if (last)
            _exit(0);
        loop(comm);
    } else if (strcmp(mode, "absent") == 0) { /* the last rank does not call */
        if (last)
            hold(file);
        else
            loop(comm);
    } else if (strcmp(mode, "count") == 0) { /* the last rank calls with another count */
        all_reduce(comm, last ? 20 : 10);
    } else if (strcmp(mode, "operation") == 0) { /* the last rank calls another operation */
        call_began_us = now_us();
        check(comm, last ? tutti_broadcast(comm, vector, vector, 10, TUTTI_FLOAT32, 0)
                         : tutti_all_reduce(comm, vector, vector, 10, TUTTI_FLOAT32, TUTTI_SUM));
    } else if (strcmp(mode, "once") != 0) {
        fprintf(stderr, "member: unknown mode %s\n", mode);
        return 2;
    }
    all_reduce(comm, 1000);
    check(comm, tutti_finalize(comm, 10000));
    tutti_free(comm);
    say("done");
    return 0;
}
