/* A rank that works until it is told otherwise, and goes on after failures: what soak.py, false_death.py and
 * kill_latency.py are made of.  It outlives its groups, so that what they leave behind adds up and is seen.
 *
 *     soaker mixed        all operations (workload.h), one after another
 *     soaker all_reduce   one and the same all_reduce
 *     soaker sparse       the same, but each rank idles up to 1.5 s before each
 *     soaker spin         no rank, but load: a loop that does nothing
 *
 * It reads commands from standard input:
 *     join JOB RANK SIZE   joins the group and works in it
 *     report               tells what has been done so far, and what this process holds
 *     differ               the next operation is another one than that of the other ranks
 *     leave                all ranks leave, in agreement, at one of the next operations
 * and says on standard output
 *     joined, looping      the group is complete; its first operations are done
 *     failed, reformed     the group has failed; there is a new one
 *     refused              there is none for this rank, which is idle now
 *     left                 likewise idle, after a normal end
 *     report, problem      as asked for; something that must not be
 * Its end is the end of standard input. */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "observe.h"
#include "workload.h"

#define FINALIZE_MS       60000
#define REFORM_MS         20000
#define IDLE_MS_MAX       1500
#define AGREE_EVERY       16 /* operations between two questions whether to leave */
#define PROBLEM_LINES_MAX 20

enum work { WORK_MIXED, WORK_ALL_REDUCE, WORK_SPARSE };

struct soaker {
    enum work work;
    tutti_comm *comm; /* NULL: idle */
    uint64_t number;  /* of the next operation; grows from group to group */
    struct tally tally;
    uint64_t failures, reforms;
    int problems;
    bool differ, leave, left;
    char input[512];
    size_t input_bytes;
};

static void problem(struct soaker *soaker, const char *text)
{
    if (soaker->problems++ < PROBLEM_LINES_MAX)
        say("problem us=%lld message=%s", (long long)now_us(), text);
}

/* ---- Commands ------------------------------------------------------------------------------------ */

static void report(const struct soaker *soaker)
{
    struct holdings holdings;
    holdings_measure(&holdings);
    say("report operations=%llu failures=%llu reforms=%llu wrong=%llu problems=%d rss_kib=%ld mapped_kib=%ld "
        "descriptors=%d threads=%d mappings=%d",
        (unsigned long long)soaker->tally.operations, (unsigned long long)soaker->failures,
        (unsigned long long)soaker->reforms, (unsigned long long)soaker->tally.wrong, soaker->problems,
        holdings.rss_kib, holdings.mapped_kib, holdings.descriptors, holdings.threads, holdings.mappings);
}

static void join(struct soaker *soaker, const char *job, int rank, int size)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.job = job;
    config.rank = rank;
    config.size = size;
    soaker->leave = soaker->left = soaker->differ = false;
    int64_t began_us = now_us();
    int status = tutti_init(&config, &soaker->comm);
    if (status != TUTTI_OK) {
        say_failure("refused", soaker->comm, status, began_us);
        tutti_free(soaker->comm);
        soaker->comm = NULL;
        return;
    }
    say("joined us=%lld rank=%d size=%d", (long long)now_us(), tutti_rank(soaker->comm),
        tutti_size(soaker->comm));
}

static void obey(struct soaker *soaker, const char *command)
{
    char job[64];
    int rank, size;
    if (strcmp(command, "report") == 0) {
        report(soaker);
    } else if (strcmp(command, "differ") == 0) {
        soaker->differ = true;
    } else if (strcmp(command, "leave") == 0) {
        soaker->leave = true;
    } else if (!soaker->comm && sscanf(command, "join %63s %d %d", job, &rank, &size) == 3 &&
               size <= (soaker->work == WORK_MIXED ? MIXED_RANKS_MAX : RANKS_MAX)) {
        join(soaker, job, rank, size);
    } else {
        fprintf(stderr, "soaker: unexpected command '%s'\n", command);
        exit(2);
    }
}

/* Obeys what has come; when nothing has, waits for `timeout_ms` (-1: without end). */
static void listen_to_commands(struct soaker *soaker, int timeout_ms)
{
    struct pollfd readable = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&readable, 1, timeout_ms) <= 0)
        return;
    ssize_t got = read(STDIN_FILENO, soaker->input + soaker->input_bytes,
                       sizeof soaker->input - 1 - soaker->input_bytes);
    if (got < 0 && errno == EINTR)
        return;
    if (got <= 0)
        exit(soaker->tally.wrong || soaker->problems ? 1 : 0);
    soaker->input_bytes += (size_t)got;
    for (char *end; (end = memchr(soaker->input, '\n', soaker->input_bytes)) != NULL;) {
        char command[sizeof soaker->input];
        size_t length = (size_t)(end - soaker->input);
        memcpy(command, soaker->input, length);
        command[length] = '\0';
        soaker->input_bytes -= length + 1;
        memmove(soaker->input, end + 1, soaker->input_bytes);
        obey(soaker, command);
    }
}

/* ---- Work ---------------------------------------------------------------------------------------- */

static int largest(struct soaker *soaker, int64_t *value)
{
    int64_t own = *value;
    soaker->tally.entered_us = now_us();
    int status = tutti_all_reduce(soaker->comm, value, value, 1, TUTTI_INT64, TUTTI_MAX);
    soaker->tally.operations += status == TUTTI_OK;
    if (status == TUTTI_OK && *value < own)
        problem(soaker, "the largest of all numbers is smaller than one of them");
    return status;
}

/* Who comes from another group, or was a call behind, goes on where the foremost is. */
static int agree_on_number(struct soaker *soaker)
{
    int64_t number = (int64_t)soaker->number;
    int status = largest(soaker, &number);
    if (status == TUTTI_OK)
        soaker->number = (uint64_t)number;
    return status;
}

static int agree_to_leave(struct soaker *soaker)
{
    int64_t leave = soaker->leave;
    int status = largest(soaker, &leave);
    if (status == TUTTI_OK && leave) {
        status = tutti_finalize(soaker->comm, FINALIZE_MS);
        soaker->left = status == TUTTI_OK;
    }
    return status;
}

static int call_something_else(struct soaker *soaker)
{
    double number = 0;
    soaker->differ = false;
    soaker->tally.entered_us = now_us();
    int status = tutti_broadcast(soaker->comm, &number, &number, 1, TUTTI_FLOAT64, 0);
    if (status == TUTTI_OK && tutti_rank(soaker->comm) != 0) /* the root only sends: its next call fails */
        problem(soaker, "a broadcast was completed that nobody else has called");
    return status;
}

static int work(struct soaker *soaker)
{
    uint64_t number = soaker->number++, wrong = soaker->tally.wrong;
    int idle_ms = 0;
    if (soaker->work == WORK_SPARSE)
        idle_ms = (int)draw(number, 1000 + (uint64_t)tutti_rank(soaker->comm), IDLE_MS_MAX);
    for (int64_t until_us = now_us() + idle_ms * 1000LL, left_us = 0; left_us >= 0;
         left_us = until_us - now_us())
        listen_to_commands(soaker, (int)((left_us + 999) / 1000));
    if (soaker->differ)
        return call_something_else(soaker);
    if (number % (soaker->work == WORK_SPARSE ? 2 : AGREE_EVERY) == 0)
        return agree_to_leave(soaker);
    int status = soaker->work == WORK_MIXED ? workload_mixed(soaker->comm, number, &soaker->tally)
                                            : workload_all_reduce(soaker->comm, number, &soaker->tally);
    if (soaker->tally.wrong > wrong)
        problem(soaker, soaker->tally.first_wrong);
    return status;
}

/* ---- After a failure ------------------------------------------------------------------------------ */

static void check_reform(struct soaker *soaker, const struct tutti_reform_info *info, int rank, int size,
                         uint64_t completed)
{
    if (info->previous_rank != rank || info->previous_size != size)
        problem(soaker, "the report of the re-form gives another rank or size of the old group");
    if (info->previous_generation == 0 || info->generation <= info->previous_generation)
        problem(soaker, "the generation of the new group is not above that of the old one");
    if (info->completed_everywhere > completed || completed > info->completed_anywhere)
        problem(soaker,
                "this rank has completed an operation that nobody has, or not one that everybody has");
}

/* Goes over to the new group, or to none. */
static void reform(struct soaker *soaker)
{
    tutti_comm *failed = soaker->comm, *survivors = NULL;
    int rank = tutti_rank(failed), size = tutti_size(failed);
    uint64_t completed = tutti_completed(failed);
    int64_t began_us = now_us();
    int status = tutti_reform(failed, REFORM_MS, &survivors);
    int64_t us = now_us();
    soaker->comm = NULL;
    if (status != TUTTI_OK) {
        say_failure("refused", survivors, status, began_us);
        tutti_free(survivors);
    } else {
        struct tutti_reform_info info = TUTTI_REFORM_INFO_INIT;
        tutti_get_reform(survivors, &info);
        check_reform(soaker, &info, rank, size, completed);
        say("reformed us=%lld began_us=%lld rank=%d size=%d generation=%u previous_rank=%d cause=%s "
            "cause_rank=%d message=%s",
            (long long)us, (long long)began_us, tutti_rank(survivors), tutti_size(survivors), info.generation,
            info.previous_rank, tutti_error_name(info.cause.code), info.cause.rank, info.lost);
        soaker->reforms++;
        soaker->comm = survivors;
    }
    tutti_free(failed);
}

/* From the first operation of a group to its end. */
static int work_in_group(struct soaker *soaker)
{
    int status = agree_on_number(soaker);
    if (status == TUTTI_OK)
        status = work(soaker);
    if (status == TUTTI_OK && !soaker->left)
        say("looping us=%lld", (long long)now_us());
    while (status == TUTTI_OK && !soaker->left)
        status = work(soaker);
    return status;
}

static void work_in_groups(struct soaker *soaker)
{
    while (soaker->comm) {
        int status = work_in_group(soaker);
        if (soaker->left) {
            tutti_free(soaker->comm);
            soaker->comm = NULL;
            say("left us=%lld", (long long)now_us());
            return;
        }
        say_failure("failed", soaker->comm, status, soaker->tally.entered_us);
        soaker->failures++;
        reform(soaker);
    }
}

int main(int argc, char **argv)
{
    static struct soaker soaker;
    const char *work_name = argc == 2 ? argv[1] : "";
    workload_prepare();
    if (strcmp(work_name, "mixed") == 0) {
        soaker.work = WORK_MIXED;
    } else if (strcmp(work_name, "all_reduce") == 0) {
        soaker.work = WORK_ALL_REDUCE;
    } else if (strcmp(work_name, "sparse") == 0) {
        soaker.work = WORK_SPARSE;
    } else if (strcmp(work_name, "spin") == 0) {
        for (volatile uint64_t turns = 0;; turns++)
            ;
    } else {
        fprintf(stderr, "usage: soaker mixed|all_reduce|sparse|spin\n");
        return 2;
    }
    for (;;) {
        listen_to_commands(&soaker, -1);
        work_in_groups(&soaker);
    }
}
