#include "tools/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tensor/chunk.h"
#include "tools/tools.h"

/* In the child, signals blocked: handlers of ours must not run there, and what execve() resets it resets only
 * at the end. */
static void reset_signals(void)
{
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) < 0)
            continue;
        bool is_ours = action.sa_handler != SIG_IGN && action.sa_handler != SIG_DFL;
        if (is_ours || number == SIGPIPE) {
            action = (struct sigaction){.sa_handler = SIG_DFL};
            (void)sigaction(number, &action, NULL);
        }
    }
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Becomes the program; returns an errno when it cannot. */
static int become(const struct child *child, pid_t parent)
{
    if (child->own_group && setpgid(0, 0) < 0)
        return errno;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return errno;
    if (getppid() != parent)
        _exit(EXIT_NOT_RUN); /* it died before we asked to be told */
    for (int fd = 0; fd < 3; fd++)
        if (child->standard[fd] >= 0 && dup2(child->standard[fd], fd) < 0)
            return errno;
    if (child->cpus && sched_setaffinity(0, sizeof *child->cpus, child->cpus) < 0)
        return errno;
    if (setrlimit(RLIMIT_NOFILE, child->descriptors) < 0)
        return errno;
    reset_signals();
    execvpe(child->arguments[0], child->arguments, child->environment);
    return errno;
}

pid_t child_start(const struct child *child)
{
    int report[2]; /* carries the errno of a failure; closed by a successful execve() */
    if (pipe2(report, O_CLOEXEC) < 0)
        return -errno;
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        int error_number = become(child, parent);
        (void)write_all(report[1], &error_number, sizeof error_number);
        _exit(EXIT_NOT_RUN);
    }
    int error_number = pid < 0 ? errno : 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    ssize_t n = 0;
    if (pid > 0) {
        do
            n = read(report[0], &error_number, sizeof error_number);
        while (n < 0 && errno == EINTR);
    }
    close(report[0]);
    if (pid > 0 && n > 0)
        (void)waitpid(pid, NULL, 0);
    return error_number != 0 ? -error_number : pid;
}

void descriptors_raise(struct rlimit *before)
{
    if (getrlimit(RLIMIT_NOFILE, before) < 0)
        *before = (struct rlimit){1024, 1024};
    struct rlimit raised = {before->rlim_max, before->rlim_max};
    (void)setrlimit(RLIMIT_NOFILE, &raised); /* then it stays as it is */
}

int cpus_share(int index, int parts, cpu_set_t *cpus)
{
    cpu_set_t usable;
    if (sched_getaffinity(0, sizeof usable, &usable) < 0)
        return errno;
    size_t total = (size_t)CPU_COUNT(&usable), begin, end;
    if (total >= (size_t)parts) {
        begin = chunk_begin(total, (size_t)parts, (size_t)index);
        end = chunk_begin(total, (size_t)parts, (size_t)index + 1);
    } else {
        begin = (size_t)index * total / (size_t)parts;
        end = begin + 1;
    }
    CPU_ZERO(cpus);
    size_t number = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &usable))
            continue;
        if (number >= begin && number < end)
            CPU_SET(cpu, cpus);
        number++;
    }
    return 0;
}
