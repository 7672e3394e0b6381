#include "tools/bench_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/error.h"
#include "base/text.h"
#include "tools/child.h"
#include "tools/tools.h"

#define START_TIMEOUT_MS 90000  /* longer than a member of tutti takes to give up joining */
#define REPLY_TIMEOUT_MS 660000 /* longer than a call of tutti may take */
#define QUIT_TIMEOUT_MS  20000
#define TERM_TIMEOUT_MS  5000 /* from SIGTERM to SIGKILL */
#define LINE_BYTES_MAX   (1u << 20)
#define PATH_BYTES       4096

/* To and from one rank. */
struct bench_pipe {
    int in, out; /* named as the rank sees them: it reads `in`, we write to it */
    char *line;  /* what has come of the line; with a 0 instead of its end, once that is there */
    size_t length, room;
    bool is_whole;
};

/* ---- Signals ------------------------------------------------------------------------------------ */

static volatile sig_atomic_t told_to_end;
static sigset_t signals_outside; /* what was blocked before */

static void note_signal(int number)
{
    if (number != SIGCHLD)
        told_to_end = number;
}

void bench_signals_hold(void)
{
    static const int numbers[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = note_signal}, before;
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        /* Who started us may have them ignored: nohup. */
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler == SIG_IGN &&
            numbers[i] != SIGCHLD)
            continue;
        sigaddset(&held, numbers[i]);
        sigaction(numbers[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &held, &signals_outside);
}

int bench_signals_told(void)
{
    return told_to_end;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* poll(), which a signal that is held ends. */
static void wait_for(struct pollfd *fds, size_t count, int64_t until_ms)
{
    int64_t left_ms = until_ms - now_ms();
    struct timespec timeout = {.tv_sec = left_ms / 1000, .tv_nsec = left_ms % 1000 * 1000000};
    if (left_ms > 0)
        (void)ppoll(fds, (nfds_t)count, &timeout, &signals_outside);
}

/* ---- Lines -------------------------------------------------------------------------------------- */

/* Takes what is there.  false: there will be no more. */
static bool read_more(struct bench_pipe *pipe)
{
    if (pipe->length + 1 >= pipe->room) {
        size_t room = pipe->room > 0 ? 2 * pipe->room : 4096;
        char *line = room <= LINE_BYTES_MAX ? realloc(pipe->line, room) : NULL;
        if (!line)
            return false;
        pipe->line = line;
        pipe->room = room;
    }
    ssize_t n = read(pipe->out, pipe->line + pipe->length, pipe->room - pipe->length - 1);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    pipe->length += (size_t)n;
    if (pipe->line[pipe->length - 1] == '\n') { /* one line answers one order: nothing comes behind it */
        pipe->line[--pipe->length] = '\0';
        pipe->is_whole = true;
    }
    return true;
}

/* Has the process that started the ranks ended?  Then peer->pid is 0. */
static bool has_ended(struct bench_peer *peer, int *status)
{
    if (peer->pid > 0 && waitpid(peer->pid, status, WNOHANG) == peer->pid)
        peer->pid = 0;
    return peer->pid == 0;
}

/* A whole line of every rank. */
static int read_lines(struct bench_peer *peer, int timeout_ms, struct tutti_error *error)
{
    struct pollfd fds[BENCH_RANKS_MAX];
    int64_t until_ms = now_ms() + timeout_ms;
    for (int rank = 0; rank < peer->ranks; rank++) {
        peer->pipes[rank].length = 0;
        peer->pipes[rank].is_whole = false;
    }
    for (;;) {
        int awaited = -1, status;
        bool ended = has_ended(peer, &status);
        for (int rank = 0; rank < peer->ranks; rank++) {
            bool is_whole = peer->pipes[rank].is_whole;
            fds[rank] = (struct pollfd){.fd = is_whole ? -1 : peer->pipes[rank].out, .events = POLLIN};
            awaited = is_whole ? awaited : rank;
        }
        if (awaited < 0)
            return TUTTI_OK;
        wait_for(fds, (size_t)peer->ranks, ended ? now_ms() + 1 : until_ms);
        bool came = false;
        for (int rank = 0; rank < peer->ranks; rank++) {
            came = came || (fds[rank].revents & POLLIN) != 0;
            if ((fds[rank].revents & POLLIN && !read_more(&peer->pipes[rank])) ||
                fds[rank].revents == POLLHUP)
                return error_set(error, TUTTI_ERR_PEER_LOST,
                                 "rank %d ended before it answered; see what it said", rank);
        }
        if (told_to_end)
            return error_set(error, TUTTI_ERR_ABORTED, "signal %d came", (int)told_to_end);
        if (ended && !came)
            return error_set(error, TUTTI_ERR_PEER_LOST,
                             "'%s' ended before rank %d answered; see what it said", peer->words[0], awaited);
        if (now_ms() >= until_ms)
            return error_set(error, TUTTI_ERR_TIMEOUT, "rank %d has not answered for %d s", awaited,
                             timeout_ms / 1000);
    }
}

/* ---- Starting ----------------------------------------------------------------------------------- */

void bench_peer_add(struct bench_peer *peer, const char *word)
{
    char *copy = peer->word_count + 1 < BENCH_PEER_WORDS_MAX ? strdup(word) : NULL;
    if (!copy) {
        complain(BENCH_COMMAND, "out of memory for the command line of %s", peer->name);
        exit(EXIT_FAILURE);
    }
    peer->words[peer->word_count++] = copy;
}

static const char *pipe_path(char path[PATH_BYTES], const char *folder, int rank, const char *suffix)
{
    snprintf(path, PATH_BYTES, "%s/%d.%s", folder, rank, suffix);
    return path;
}

static void remove_folder(const char *folder, int ranks)
{
    char path[PATH_BYTES];
    for (int rank = 0; rank < ranks; rank++) {
        (void)unlink(pipe_path(path, folder, rank, "in"));
        (void)unlink(pipe_path(path, folder, rank, "out"));
    }
    (void)rmdir(folder);
}

/* Our ends are open before a rank opens its own, so that nobody waits; and they are not inherited, so that a
 * rank whose orders end knows that we have. */
static int open_pipes(struct bench_peer *peer, const char *folder, struct tutti_error *error)
{
    char path[PATH_BYTES];
    peer->pipes = calloc((size_t)peer->ranks, sizeof *peer->pipes);
    if (!peer->pipes)
        return error_set(error, TUTTI_ERR_MEMORY, "out of memory for its pipes");
    for (int rank = 0; rank < peer->ranks; rank++)
        peer->pipes[rank].in = peer->pipes[rank].out = -1;
    for (int rank = 0; rank < peer->ranks; rank++) {
        struct bench_pipe *pipe = &peer->pipes[rank];
        if (mkfifo(pipe_path(path, folder, rank, "in"), 0600) == 0)
            pipe->in = open(path, O_RDWR | O_CLOEXEC);
        if (pipe->in >= 0 && mkfifo(pipe_path(path, folder, rank, "out"), 0600) == 0)
            pipe->out = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (pipe->out < 0)
            return error_set_errno(error, errno, "cannot make the pipe %s", path);
    }
    return TUTTI_OK;
}

/* Puts what they stand for in the places of the words that stand for something. */
static void fill_in(struct bench_peer *peer, const char *folder, size_t max_bytes)
{
    char number[32];
    snprintf(number, sizeof number, "%zu", max_bytes);
    for (int i = 0; i < peer->word_count; i++) {
        bool is_folder = strcmp(peer->words[i], BENCH_PEER_FOLDER) == 0;
        if (!is_folder && strcmp(peer->words[i], BENCH_PEER_MAX_BYTES) != 0)
            continue;
        free(peer->words[i]);
        peer->words[i] = NULL;
        int last = peer->word_count;
        peer->word_count = i;
        bench_peer_add(peer, is_folder ? folder : number);
        peer->word_count = last;
    }
}

static int start_processes(struct bench_peer *peer, const struct rlimit *descriptors,
                           struct tutti_error *error)
{
    cpu_set_t usable;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || sched_getaffinity(0, sizeof usable, &usable) < 0) {
        int error_number = errno;
        if (null >= 0)
            close(null);
        return error_set_errno(error, error_number, "cannot prepare its start");
    }
    /* What it prints is no part of our table. */
    struct child child = {.arguments = peer->words,
                          .environment = environ,
                          .standard = {null, STDERR_FILENO, -1},
                          .own_group = true,
                          .cpus = &usable,
                          .descriptors = descriptors};
    pid_t pid = child_start(&child);
    close(null);
    if (pid < 0)
        return error_set_errno(error, -pid, "cannot execute '%s'", peer->words[0]);
    peer->pid = pid;
    return TUTTI_OK;
}

int bench_peer_start(struct bench_peer *peer, size_t max_bytes, const struct rlimit *descriptors,
                     struct tutti_error *error)
{
    static const char ready[] = "ready ";
    char folder[PATH_BYTES - 64];
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/tutti-bench-XXXXXX", parent && *parent ? parent : "/tmp");
    if (!mkdtemp(folder))
        return error_set_errno(error, errno, "cannot make a folder for its pipes, %s", folder);
    fill_in(peer, folder, max_bytes);
    int status = open_pipes(peer, folder, error);
    if (status == TUTTI_OK)
        status = start_processes(peer, descriptors, error);
    if (status == TUTTI_OK)
        status = read_lines(peer, START_TIMEOUT_MS, error);
    remove_folder(folder, peer->ranks);
    for (int rank = 0; rank < peer->ranks && status == TUTTI_OK; rank++) {
        char *line = peer->pipes[rank].line;
        text_to_one_line(line);
        if (strncmp(line, ready, strlen(ready)) != 0)
            status = error_set(error, TUTTI_ERR_PROTOCOL, "rank %d said '%.100s'", rank, line);
        else if (rank == 0)
            snprintf(peer->text, sizeof peer->text, "%s", line + strlen(ready));
    }
    return status;
}

/* ---- Orders, and the end ------------------------------------------------------------------------- */

int bench_peer_run(struct bench_peer *peer, const struct bench_order *order, struct bench_reply *reply,
                   struct tutti_error *error)
{
    char line[BENCH_ORDER_BYTES];
    bench_order_print(order, line);
    for (int rank = 0; rank < peer->ranks; rank++)
        if (!write_all(peer->pipes[rank].in, line, strlen(line)))
            return error_set_errno(error, errno, "cannot write to rank %d", rank);
    int status = read_lines(peer, REPLY_TIMEOUT_MS, error);
    memset(reply, 0, sizeof *reply);
    for (int rank = 0; rank < peer->ranks && status == TUTTI_OK; rank++)
        status = bench_reply_add(reply, peer->pipes[rank].line, error);
    return status;
}

/* Waits until it has ended, or the time is over. */
static bool await_end(struct bench_peer *peer, int timeout_ms, int *status)
{
    int64_t until_ms = now_ms() + timeout_ms;
    while (!has_ended(peer, status) && now_ms() < until_ms)
        wait_for(NULL, 0, until_ms);
    return peer->pid == 0;
}

static void free_peer(struct bench_peer *peer)
{
    for (int rank = 0; rank < peer->ranks && peer->pipes; rank++) {
        if (peer->pipes[rank].in >= 0)
            close(peer->pipes[rank].in);
        if (peer->pipes[rank].out >= 0)
            close(peer->pipes[rank].out);
        free(peer->pipes[rank].line);
    }
    free(peer->pipes);
    peer->pipes = NULL;
    for (int i = 0; i < peer->word_count; i++)
        free(peer->words[i]);
    peer->word_count = 0;
}

int bench_peer_end(struct bench_peer *peer, bool politely, struct tutti_error *error)
{
    static const char quit[] = "quit\n";
    int result = TUTTI_OK, status = 0;
    bool is_running = peer->pid > 0;
    if (is_running && politely) {
        for (int rank = 0; rank < peer->ranks; rank++)
            (void)write_all(peer->pipes[rank].in, quit, strlen(quit));
        if (!await_end(peer, QUIT_TIMEOUT_MS, &status))
            result = error_set(error, TUTTI_ERR_TIMEOUT, "it has not ended %d s after it was told to",
                               QUIT_TIMEOUT_MS / 1000);
        else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            result = error_set(error, TUTTI_ERR_PEER_LOST, "it ended with status %d",
                               WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SIGNALED + WTERMSIG(status));
    }
    if (peer->pid > 0) {
        (void)kill(peer->pid, SIGTERM);
        pid_t pid = peer->pid;
        if (!await_end(peer, TERM_TIMEOUT_MS, &status)) {
            (void)kill(-pid, SIGKILL);
            (void)await_end(peer, TERM_TIMEOUT_MS, &status);
        }
    }
    free_peer(peer);
    return result;
}
