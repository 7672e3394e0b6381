/* One rank of the jobs that failures.py, command.py and startup.py put together.  It tells on standard output
 * what happens to it, a line for each event.  "started pid= us=": before tutti_init().  "joined rank= size=
 * us=": the group is complete.  "looping": it makes calls for ever, and has made the first.  "link peer=
 * transport=": there is this link.  "failed status= rank= operation= ms= message=": then it exits with 3.
 * "done": all went well, and it exits with 0. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tell.h"
#include "tutti/tutti.h"

#define COUNT 262144

static float vector[COUNT];
static int64_t call_began_us;
static const char *file; /* the argument of the mode */
static bool is_last;     /* of the ranks */

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

/* ---- Modes ------------------------------------------------------------------------------------- */

static void call_for_ever(tutti_comm *comm)
{
    all_reduce(comm, COUNT);
    say("looping");
    for (;;)
        all_reduce(comm, COUNT);
}

static void do_nothing_more(tutti_comm *comm)
{
    (void)comm;
}

/* Says what it has to say before anybody goes on. */
static void hold_until_released(tutti_comm *comm)
{
    (void)comm;
    hold(file);
}

/* The last rank leaves without a word. */
static void quit(tutti_comm *comm)
{
    all_reduce(comm, 1000);
    if (is_last)
        _exit(0);
    call_for_ever(comm);
}

/* The last rank does not call. */
static void be_absent(tutti_comm *comm)
{
    if (is_last)
        hold(file);
    else
        call_for_ever(comm);
}

/* The same with a communicator of all ranks that was split from the root. */
static void be_absent_from_a_child(tutti_comm *comm)
{
    tutti_comm *child = NULL;
    check(comm, tutti_split(comm, 0, 0, &child));
    if (is_last)
        hold(file);
    else
        call_for_ever(child);
}

/* Ranks of even number have a communicator of their own, and so have the others. */
static void hold_child(tutti_comm *comm)
{
    tutti_comm *child = NULL;
    check(comm, tutti_split(comm, tutti_rank(comm) % 2, 0, &child));
    say("child rank=%d size=%d", tutti_rank(child), tutti_size(child));
    hold(file);
    check(child, tutti_finalize(child, 10000));
    tutti_free(child);
}

/* Likewise. */
static void loop_in_children(tutti_comm *comm)
{
    tutti_comm *child = NULL;
    check(comm, tutti_split(comm, tutti_rank(comm) % 2, 0, &child));
    call_for_ever(child);
}

/* The last rank calls with another count. */
static void differ_in_count(tutti_comm *comm)
{
    all_reduce(comm, is_last ? 20 : 10);
}

/* The last rank calls another operation. */
static void differ_in_operation(tutti_comm *comm)
{
    call_began_us = now_us();
    check(comm, is_last ? tutti_broadcast(comm, vector, vector, 10, TUTTI_FLOAT32, 0)
                        : tutti_all_reduce(comm, vector, vector, 10, TUTTI_FLOAT32, TUTTI_SUM));
}

/* The last rank forces another algorithm. */
static void differ_in_algorithm(tutti_comm *comm)
{
    const struct tutti_call call = {.op = TUTTI_ALL_REDUCE,
                                    .send = vector,
                                    .recv = vector,
                                    .count = 10,
                                    .type = TUTTI_FLOAT32,
                                    .reduction = TUTTI_SUM,
                                    .algorithm = is_last ? "tree" : "ring"};
    tutti_request *request = NULL;
    call_began_us = now_us();
    check(comm, tutti_run(comm, &call, 1, -1, &request));
}

/* Two calls; then says which links there are. */
static void tell_links(tutti_comm *comm)
{
    struct tutti_link_info link = TUTTI_LINK_INFO_INIT;
    all_reduce(comm, 1000);
    all_reduce(comm, 1000);
    for (int i = 0; tutti_get_link(comm, i, &link) == TUTTI_OK; i++)
        say("link peer=%d transport=%s", link.peer, link.transport);
}

static const struct mode {
    const char *name;
    void (*play)(tutti_comm *comm); /* then it makes one more call and finalizes */
} modes[] = {
    {"once", do_nothing_more},
    {"hold", hold_until_released},
    {"hold_child", hold_child},
    {"loop", call_for_ever},
    {"quit", quit},
    {"absent", be_absent},
    {"absent_child", be_absent_from_a_child},
    {"loop_child", loop_in_children},
    {"count", differ_in_count},
    {"operation", differ_in_operation},
    {"algorithm", differ_in_algorithm},
    {"links", tell_links},
};

static const struct mode *find_mode(const char *name)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    fprintf(stderr, "member: unknown mode %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    const struct mode *mode = find_mode(argc > 1 ? argv[1] : "once");
    tutti_comm *comm = NULL;
    file = argc > 2 ? argv[2] : NULL;
    call_began_us = now_us();
    say("started pid=%d us=%lld", (int)getpid(), (long long)call_began_us);
    int status = tutti_init(NULL, &comm);
    check(comm, status);
    say("joined rank=%d size=%d us=%lld", tutti_rank(comm), tutti_size(comm), (long long)now_us());
    is_last = tutti_rank(comm) == tutti_size(comm) - 1;
    mode->play(comm);
    all_reduce(comm, 1000);
    check(comm, tutti_finalize(comm, 10000));
    tutti_free(comm);
    say("done");
    return 0;
}
