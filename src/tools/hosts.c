#include "tools/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "group/launcher.h"
#include "tools/supervisor.h"
#include "tools/tools.h"

#define COMMAND "run"

/* Not for the ranks of other hosts: `tutti run` there sets the first three. */
static const char *const kept_here[] = {"TUTTI_RANK=", "TUTTI_SIZE=", "TUTTI_RENDEZVOUS=", "TUTTI_RUN_SSH="};

/* ---- The command line for the shell of the other host ------------------------------------------- */

/* One argument, in single quotes: nothing in it means anything to the shell. */
static void put_quoted(FILE *out, const char *text)
{
    putc('\'', out);
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else
            putc(*text, out);
    }
    putc('\'', out);
}

static bool is_passed_on(const char *variable)
{
    for (size_t i = 0; i < sizeof kept_here / sizeof *kept_here; i++)
        if (strncmp(variable, kept_here[i], strlen(kept_here[i])) == 0)
            return false;
    return strncmp(variable, "TUTTI_", 6) == 0 || strncmp(variable, "OMP_", 4) == 0;
}

/* Heap; NULL when memory is exhausted. */
static char *remote_command(const struct hosts *hosts, int nodes, int node, const char *rendezvous,
                            const char *directory, const char *program)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fputs("cd ", out);
    put_quoted(out, directory);
    fputs(" && exec env", out);
    for (char **variable = environ; *variable; variable++)
        if (is_passed_on(*variable)) {
            putc(' ', out);
            put_quoted(out, *variable);
        }
    putc(' ', out);
    put_quoted(out, program);
    fprintf(out, " run --tethered --nnodes %d --node-rank %d -n %d%s%s%s --rendezvous ", nodes, node,
            hosts->count, hosts->bind ? " --bind" : "", hosts->keep_going ? " --keep-going" : "",
            hosts->prefix ? "" : " --no-prefix");
    put_quoted(out, rendezvous);
    if (hosts->transports) {
        fputs(" --transports ", out);
        put_quoted(out, hosts->transports);
    }
    fputs(" --", out);
    for (char *const *argument = hosts->arguments; *argument; argument++) {
        putc(' ', out);
        put_quoted(out, *argument);
    }
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---- The job ------------------------------------------------------------------------------------ */

/* What ssh understands beyond a name ("user@") is not part of an address. */
static void pick_rendezvous(const char *host, char *text, size_t size)
{
    const char *at = strrchr(host, '@');
    const char *name = at ? at + 1 : host;
    unsigned port = RENDEZVOUS_PORT_FIRST + (unsigned)getpid() % RENDEZVOUS_PORT_COUNT;
    snprintf(text, size, strchr(name, ':') ? "[%s]:%u" : "%s:%u", name, port);
}

/* The number of hosts, or 0 after a complaint. */
static int split(char *list, char *names[HOSTS_MAX])
{
    int count = 0;
    for (char *name; (name = strsep(&list, ","));) {
        if (*name == '\0' || *name == '-') {
            usage_error(COMMAND, "--hosts: '%s' is no host name; write --hosts a,b", name);
            return 0;
        }
        if (count == HOSTS_MAX) {
            usage_error(COMMAND, "--hosts: more than %d hosts", HOSTS_MAX);
            return 0;
        }
        names[count++] = name;
    }
    return count;
}

static int run_job(const struct hosts *hosts, char *const *names, int count, char *const *commands)
{
    const char *ssh = getenv("TUTTI_RUN_SSH");
    char program[4096];
    snprintf(program, sizeof program, "%s", ssh && *ssh ? ssh : "ssh");
    struct supervisor_process *processes = calloc((size_t)count, sizeof *processes);
    char *(*arguments)[4] = calloc((size_t)count, sizeof *arguments);
    uv_loop_t loop;
    int status = EXIT_FAILURE;
    if (!processes || !arguments || uv_loop_init(&loop) < 0) {
        complain(COMMAND, "out of memory");
        goto lists;
    }
    for (int i = 0; i < count; i++) {
        arguments[i][0] = program;
        arguments[i][1] = names[i];
        arguments[i][2] = commands[i];
        snprintf(processes[i].who, sizeof processes[i].who, "host %.250s", names[i]);
        processes[i].arguments = arguments[i];
        processes[i].environment = environ;
        processes[i].input = SUPERVISOR_INPUT_TETHER;
    }
    struct supervisor_job job = {.command = COMMAND,
                                 .processes = processes,
                                 .count = count,
                                 .capture = true,
                                 .keep_going = hosts->keep_going};
    status = supervisor_run(&loop, &job);
    if (status == EXIT_NOT_RUN)
        complain(COMMAND,
                 "--hosts needs ssh: install it (Debian: openssh-client), or name another program in "
                 "TUTTI_RUN_SSH that is called as PROGRAM HOST COMMAND");
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
lists:
    free(arguments);
    free(processes);
    return status;
}

int hosts_run(const struct hosts *hosts)
{
    char *names[HOSTS_MAX], *commands[HOSTS_MAX] = {NULL};
    char program[4096], directory[4096], rendezvous[320];
    size_t program_size = sizeof program;
    int count = split(hosts->list, names);
    if (count == 0)
        return EXIT_USAGE;
    if (uv_exepath(program, &program_size) < 0 || !getcwd(directory, sizeof directory)) {
        complain(COMMAND, "cannot tell where this program or the working directory is");
        return EXIT_FAILURE;
    }
    if (hosts->rendezvous)
        snprintf(rendezvous, sizeof rendezvous, "%s", hosts->rendezvous);
    else
        pick_rendezvous(names[0], rendezvous, sizeof rendezvous);
    bool complete = true;
    for (int i = 0; i < count && complete; i++) {
        commands[i] = remote_command(hosts, count, i, rendezvous, directory, program);
        complete = commands[i] != NULL;
    }
    int status = EXIT_FAILURE;
    if (complete)
        status = run_job(hosts, names, count, commands);
    else
        complain(COMMAND, "out of memory");
    for (int i = 0; i < count; i++)
        free(commands[i]);
    return status;
}
