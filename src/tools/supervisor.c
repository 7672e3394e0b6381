#include "tools/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tools/child.h"
#include "tools/output.h"
#include "tools/tools.h"

#define GRACE_MS  10000 /* after a failure, until SIGTERM */
#define TERM_MS   5000  /* from SIGTERM to SIGKILL */
#define DRAIN_MS  500   /* for output that a grandchild may still hold open */
#define REPEAT_MS 500   /* signals closer together are one: `timeout` and terminals send to several at once */

enum job_state { JOB_RUNNING, JOB_FAILING, JOB_ENDING, JOB_KILLING, JOB_DRAINING, JOB_DONE };

/* What we are told to do by signals. */
static const int handled_signals[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
#define HANDLED_COUNT (sizeof handled_signals / sizeof *handled_signals)

struct member {
    pid_t pid;
    bool own_group;
    bool ended; /* but not reaped yet, so that pid and group stay its own */
    siginfo_t how;
    int tether; /* the end of its input that we hold, -1 */
    struct output *output[2];
};

struct running {
    const struct supervisor_job *job;
    uv_loop_t *loop;
    enum job_state state;
    struct member *members;
    int started, alive;
    int outputs_open;
    int first_failed; /* -1 */
    bool succeeded;   /* some child ended with 0 */
    int64_t interrupted_ms;
    struct rlimit descriptors;
    uv_timer_t timer;
    uv_signal_t signals[HANDLED_COUNT];
    uv_poll_t tether;
    bool tether_watched;
    int handles;
};

/* ---- Signalling -------------------------------------------------------------------------------- */

static void cut_tether(struct member *member)
{
    if (member->tether >= 0)
        close(member->tether);
    member->tether = -1;
}

/* To the whole group of a child.  One that shares our group has our terminal, whose Ctrl-C it got itself. */
static void signal_member(struct member *member, int number)
{
    if (member->ended)
        return;
    if (member->tether >= 0 && number != SIGKILL)
        cut_tether(member);
    else if (member->own_group)
        (void)kill(-member->pid, number);
    else if (number != SIGINT)
        (void)kill(member->pid, number);
}

static void signal_all(struct running *running, int number)
{
    for (int i = 0; i < running->started; i++)
        signal_member(&running->members[i], number);
}

static void on_timer(uv_timer_t *timer);

static void enter(struct running *running, enum job_state state)
{
    static const int limits_ms[] = {
        [JOB_FAILING] = GRACE_MS, [JOB_ENDING] = TERM_MS, [JOB_DRAINING] = DRAIN_MS};
    running->state = state;
    if (state == JOB_ENDING)
        signal_all(running, SIGTERM);
    if (state == JOB_KILLING)
        signal_all(running, SIGKILL);
    if (state == JOB_KILLING || state == JOB_DONE)
        uv_timer_stop(&running->timer);
    else
        uv_timer_start(&running->timer, on_timer, (uint64_t)limits_ms[state], 0);
}

static void complain_of_survivors(const struct running *running, const char *what)
{
    char list[400] = "";
    size_t length = 0;
    for (int i = 0; i < running->started && length < sizeof list - 1; i++)
        if (!running->members[i].ended)
            length += (size_t)snprintf(list + length, sizeof list - length, "%s%s (pid %ld)",
                                       length > 0 ? ", " : "", running->job->processes[i].who,
                                       (long)running->members[i].pid);
    complain(running->job->command, "%s: %s", what, list);
}

static void on_timer(uv_timer_t *timer)
{
    struct running *running = timer->data;
    if (running->state == JOB_FAILING) {
        complain_of_survivors(running, "still running 10 s after the failure, sending SIGTERM");
        enter(running, JOB_ENDING);
    } else if (running->state == JOB_ENDING) {
        complain_of_survivors(running, "still running 5 s after SIGTERM, sending SIGKILL");
        enter(running, JOB_KILLING);
    } else {
        enter(running, JOB_DONE);
    }
}

/* ---- The end of children ----------------------------------------------------------------------- */

static bool has_failed(const struct member *member)
{
    return member->how.si_code != CLD_EXITED || member->how.si_status != 0;
}

/* Killed by a signal that a process does not send itself when it meets an error: abort() is how many end that
 * merely heard of the failure. */
static bool was_killed(const struct member *member)
{
    return member->how.si_code != CLD_EXITED && member->how.si_status != SIGABRT;
}

/* The rank that a signal killed is a likelier cause than one that ended by itself. */
static bool is_likelier_cause(const struct member *member, const struct member *than)
{
    return was_killed(member) && !was_killed(than);
}

/* ", seen first of 4 that failed": when one rank fails the others do too, and any may be seen first. */
static void others_text(const struct running *running, char text[64])
{
    int failed = 0;
    for (int i = 0; i < running->started; i++)
        failed += running->members[i].ended && has_failed(&running->members[i]);
    text[0] = '\0';
    if (failed > 1)
        snprintf(text, 64, ", seen first of %d that failed", failed);
}

static void complain_of_end(const struct running *running, int index)
{
    const struct member *member = &running->members[index];
    const char *who = running->job->processes[index].who;
    if (member->how.si_code == CLD_EXITED) {
        char others[64] = "";
        if (!running->job->keep_going)
            others_text(running, others);
        complain(running->job->command, "%s (pid %ld) exited with status %d%s", who, (long)member->pid,
                 member->how.si_status, others);
    } else {
        complain(running->job->command, "%s (pid %ld) was killed by signal %d (%s)%s", who, (long)member->pid,
                 member->how.si_status, strsignal(member->how.si_status),
                 member->how.si_code == CLD_DUMPED ? ", core dumped" : "");
    }
}

static void find_ended(struct running *running)
{
    int first = running->first_failed;
    for (int i = 0; i < running->started; i++) {
        struct member *member = &running->members[i];
        siginfo_t how = {0};
        if (member->ended || waitid(P_PID, (id_t)member->pid, &how, WEXITED | WNOHANG | WNOWAIT) < 0 ||
            how.si_pid == 0)
            continue;
        member->ended = true;
        member->how = how;
        running->alive--;
        cut_tether(member);
        if (!has_failed(member)) {
            running->succeeded = true;
            continue;
        }
        if (running->job->keep_going)
            complain_of_end(running, i);
        /* A survivor can be seen to end before the rank whose death it died of; but once we send signals
         * ourselves, a death by signal says nothing any more. */
        bool signals_are_ours = running->state > JOB_FAILING || running->interrupted_ms >= 0;
        if (first < 0 || (!signals_are_ours && is_likelier_cause(member, &running->members[first])))
            first = i;
    }
    bool failed_now = first != running->first_failed;
    running->first_failed = first;
    if (running->job->keep_going)
        failed_now = false;
    if (running->alive == 0 && running->state < JOB_DRAINING)
        enter(running, running->outputs_open > 0 ? JOB_DRAINING : JOB_DONE);
    else if (failed_now && running->state == JOB_RUNNING)
        enter(running, JOB_FAILING);
}

static void on_output_ended(void *context)
{
    struct running *running = context;
    if (--running->outputs_open == 0 && running->state == JOB_DRAINING)
        enter(running, JOB_DONE);
}

static void on_interrupt(struct running *running, int number)
{
    int64_t now = (int64_t)uv_now(running->loop);
    if (running->interrupted_ms < 0) {
        running->interrupted_ms = now;
        signal_all(running, number);
    } else if (now - running->interrupted_ms >= REPEAT_MS && running->state < JOB_KILLING) {
        enter(running, JOB_KILLING);
    }
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct running *running = signal->data;
    if (number == SIGCHLD)
        find_ended(running);
    else if (number == SIGUSR1 || number == SIGUSR2)
        signal_all(running, number);
    else
        on_interrupt(running, number);
}

/* Our standard input: whoever started us on another host keeps it open as long as the job is wanted. */
static void on_tether(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct running *running = poll->data;
    char bytes[512];
    ssize_t n = status < 0 ? 0 : read(STDIN_FILENO, bytes, sizeof bytes);
    if (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN)))
        return;
    uv_poll_stop(poll);
    if (running->state < JOB_ENDING)
        enter(running, JOB_ENDING);
}

/* ---- Starting ---------------------------------------------------------------------------------- */

static void close_all(const int fds[3])
{
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* Opens what the child's descriptors 0 to 2 are to be: in `child`, the other ends in `ours`. */
static bool open_standard(const struct running *running, enum supervisor_input input, int child[3],
                          int ours[3])
{
    int pair[2];
    if (input == SUPERVISOR_INPUT_TETHER) {
        if (pipe2(pair, O_CLOEXEC) < 0)
            return false;
        child[0] = pair[0];
        ours[0] = pair[1];
    } else if (input == SUPERVISOR_INPUT_NONE) {
        child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (child[0] < 0)
            return false;
    }
    for (int i = 1; i < 3 && running->job->capture; i++) {
        if (pipe2(pair, O_CLOEXEC) < 0)
            return false;
        child[i] = pair[1];
        ours[i] = pair[0];
        (void)fcntl(ours[i], F_SETFL, O_NONBLOCK);
    }
    return true;
}

/* 0 or an errno. */
static int start_member(struct running *running, const struct supervisor_process *process,
                        struct member *member)
{
    int theirs[3] = {-1, -1, -1}, ours[3] = {-1, -1, -1};
    bool opened = open_standard(running, process->input, theirs, ours);
    int error_number = opened ? 0 : errno;
    if (opened) {
        struct child child = {.arguments = process->arguments,
                              .environment = process->environment,
                              .standard = {theirs[0], theirs[1], theirs[2]},
                              .own_group = process->input != SUPERVISOR_INPUT_OURS || !isatty(STDIN_FILENO),
                              .cpus = process->bound ? &process->cpus : NULL,
                              .descriptors = &running->descriptors};
        pid_t pid = child_start(&child);
        error_number = pid < 0 ? -(int)pid : 0;
        *member = (struct member){.pid = pid, .own_group = child.own_group, .tether = ours[0]};
    }
    close_all(theirs);
    if (error_number != 0) {
        close_all(ours);
        return error_number;
    }
    running->started++;
    running->alive++;
    for (int i = 0; i < 2 && running->job->capture; i++) {
        member->output[i] =
            output_new(running->loop, ours[i + 1], i + 1, process->prefix, on_output_ended, running);
        running->outputs_open += member->output[i] != NULL;
    }
    return 0;
}

/* 0, or EXIT_NOT_RUN after a complaint. */
static int start_all(struct running *running)
{
    const struct supervisor_job *job = running->job;
    for (int i = 0; i < job->count; i++) {
        const struct supervisor_process *process = &job->processes[i];
        int error_number = start_member(running, process, &running->members[i]);
        if (error_number == 0)
            continue;
        const char *program = process->arguments[0];
        bool not_in_path = error_number == ENOENT && !strchr(program, '/');
        complain(job->command, "cannot execute '%s': %s", program,
                 not_in_path              ? "there is no such program in PATH"
                 : error_number == ENOENT ? "there is no such file, or its interpreter is missing"
                                          : strerror(error_number));
        return EXIT_NOT_RUN;
    }
    return 0;
}

static void watch(struct running *running)
{
    uv_timer_init(running->loop, &running->timer);
    running->timer.data = running;
    running->handles = 1;
    for (size_t i = 0; i < HANDLED_COUNT; i++) {
        struct sigaction action;
        uv_signal_init(running->loop, &running->signals[i]);
        running->signals[i].data = running;
        running->handles++;
        /* What was ignored when we came (nohup) stays ignored, here and in the children. */
        if (handled_signals[i] == SIGCHLD ||
            (sigaction(handled_signals[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN))
            uv_signal_start(&running->signals[i], on_signal, handled_signals[i]);
    }
    /* Without a pipe there is nothing that could end. */
    if (!running->job->tethered || uv_poll_init(running->loop, &running->tether, STDIN_FILENO) < 0)
        return;
    running->tether.data = running;
    running->tether_watched = true;
    running->handles++;
    uv_poll_start(&running->tether, UV_READABLE, on_tether);
}

/* ---- Ending ------------------------------------------------------------------------------------ */

/* What a failed job leaves behind in the groups of its children goes, too. */
static void reap(struct running *running, bool failed)
{
    for (int i = 0; i < running->started; i++) {
        struct member *member = &running->members[i];
        if (failed && member->own_group)
            (void)kill(-member->pid, SIGKILL);
        while (waitpid(member->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        cut_tether(member);
    }
}

static int exit_status(const struct running *running)
{
    if (running->first_failed < 0 || (running->job->keep_going && running->succeeded))
        return EXIT_SUCCESS;
    if (!running->job->keep_going) /* else it has been told */
        complain_of_end(running, running->first_failed);
    const struct member *member = &running->members[running->first_failed];
    return member->how.si_code == CLD_EXITED ? member->how.si_status : EXIT_SIGNALED + member->how.si_status;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct running *running = handle->data;
    running->handles--;
}

static void unwatch(struct running *running)
{
    for (int i = 0; i < running->started; i++)
        for (int j = 0; j < 2; j++)
            if (running->members[i].output[j])
                output_close(running->members[i].output[j]);
    uv_close((uv_handle_t *)&running->timer, on_handle_closed);
    for (size_t i = 0; i < HANDLED_COUNT; i++)
        uv_close((uv_handle_t *)&running->signals[i], on_handle_closed);
    if (running->tether_watched)
        uv_close((uv_handle_t *)&running->tether, on_handle_closed);
    while (running->handles > 0)
        uv_run(running->loop, UV_RUN_ONCE);
}

int supervisor_run(uv_loop_t *loop, const struct supervisor_job *job)
{
    assert(job->count > 0);
    struct running running = {.job = job, .loop = loop, .first_failed = -1, .interrupted_ms = -1};
    running.members = calloc((size_t)job->count, sizeof *running.members);
    if (!running.members) {
        complain(job->command, "out of memory");
        return EXIT_FAILURE;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write(), told to the child that writes */
    descriptors_raise(&running.descriptors);
    watch(&running);
    int status = start_all(&running);
    if (running.alive == 0)
        running.state = JOB_DONE;
    else if (status != 0)
        enter(&running, JOB_KILLING);
    while (running.state != JOB_DONE)
        uv_run(loop, UV_RUN_ONCE);
    unwatch(&running);
    if (status == 0)
        status = exit_status(&running);
    reap(&running, status != 0);
    free(running.members);
    return status;
}
