#include "tools/environment.h"

#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include "base/error.h"
#include "base/hash.h"
#include "group/endpoint.h"
#include "group/launcher.h"
#include "transport/descriptor.h"
#include "transport/socket.h"

#define VARIABLES_MAX  16  /* that a rank's environment has beyond ours */
#define VARIABLE_BYTES 400 /* of one of them, with its name */

/* ---- Where rank 0 serves what is not tutti's ------------------------------------------------------ */

static unsigned find_port_on(struct sockaddr_storage *address, int first)
{
    struct tutti_error error;
    int fd = socket_listen_tcp(address, first, RENDEZVOUS_PORT_FIRST + RENDEZVOUS_PORT_COUNT - 1, &error);
    if (fd < 0)
        return 0;
    descriptor_close(fd);
    return ntohs(address->ss_family == AF_INET6 ? ((struct sockaddr_in6 *)address)->sin6_port
                                                : ((struct sockaddr_in *)address)->sin_port);
}

/* A TCP port that nobody listens at; 0 when there is none.  It is not held, for torch would not share it: so
 * it is one that the kernel gives to nobody by itself, and a random one, which no other job finds at the same
 * time. */
static unsigned find_free_port(void)
{
    struct sockaddr_storage any6 = {.ss_family = AF_INET6}, any4 = {.ss_family = AF_INET};
    unsigned number = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        number = (unsigned)getpid();
    int first = (int)(RENDEZVOUS_PORT_FIRST + number % (RENDEZVOUS_PORT_COUNT / 2));
    unsigned port = find_port_on(&any6, first);
    return port != 0 ? port : find_port_on(&any4, first);
}

/* A port half of the range away from `port`, where that is in the range, and in any case another. */
static unsigned derive_port(uint64_t port)
{
    const unsigned first = RENDEZVOUS_PORT_FIRST, count = RENDEZVOUS_PORT_COUNT;
    return first + (unsigned)((port + count - first % count + count / 2) % count);
}

void environment_choose(struct environment_job *job, const struct ranks *ranks, const char *rendezvous)
{
    struct endpoint endpoint;
    struct tutti_error error;
    snprintf(job->rendezvous, sizeof job->rendezvous, "%s", rendezvous);
    snprintf(job->master, sizeof job->master, "127.0.0.1");
    if (ranks->size == ranks->count || endpoint_parse(rendezvous, &endpoint, &error) < 0) {
        job->master_port = find_free_port();
    } else if (endpoint.kind == ENDPOINT_TCP) {
        snprintf(job->master, sizeof job->master, "%s", endpoint.name);
        job->master_port = derive_port(endpoint.port);
    } else { /* "hosts" that share a Unix socket are one */
        uint64_t hash = FNV1A_START;
        for (const char *byte = endpoint.name; *byte; byte++)
            hash = fnv1a_add(hash, (uint8_t)*byte);
        job->master_port = derive_port(hash % RENDEZVOUS_PORT_COUNT);
    }
}

/* ---- Variables ----------------------------------------------------------------------------------- */

struct variables {
    char text[VARIABLES_MAX][VARIABLE_BYTES];
    int count;
};

/* What torchrun tells its own ranks only, above all that its agent serves the store. */
static const char *const of_torchrun[] = {
    "TORCHELASTIC_RUN_ID=", "TORCHELASTIC_USE_AGENT_STORE=", "TORCHELASTIC_RESTART_COUNT=",
    "TORCHELASTIC_MAX_RESTARTS=", "TORCHELASTIC_ERROR_FILE="};

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value && *value;
}

static void set(struct variables *variables, const char *name, const char *value)
{
    snprintf(variables->text[variables->count++], VARIABLE_BYTES, "%s=%s", name, value);
}

static void set_number(struct variables *variables, const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    set(variables, name, text);
}

/* What tells a rank of torch who it is, and where the store is to be served.  A place that the user chose
 * stays; one of a torchrun or `tutti run` that we were started by belongs to that. */
static void describe_for_torch(const struct environment_job *job, const struct ranks *ranks, int index,
                               struct variables *variables)
{
    bool in_another_job = is_set("TORCHELASTIC_RUN_ID") || is_set("TUTTI_RANK");
    set_number(variables, "RANK", ranks->first + index);
    set_number(variables, "WORLD_SIZE", ranks->size);
    set_number(variables, "LOCAL_RANK", index);
    set_number(variables, "LOCAL_WORLD_SIZE", ranks->count);
    set_number(variables, "GROUP_RANK", ranks->first / ranks->count);
    set_number(variables, "GROUP_WORLD_SIZE", ranks->size / ranks->count);
    if (in_another_job || !is_set("MASTER_ADDR"))
        set(variables, "MASTER_ADDR", job->master);
    if (job->master_port != 0 && (in_another_job || !is_set("MASTER_PORT")))
        set_number(variables, "MASTER_PORT", (int)job->master_port);
}

/* A value of the user's own wins where it is no part of who a rank is. */
static void describe_rank(const struct environment_job *job, const struct ranks *ranks, int index,
                          struct variables *variables)
{
    char name[32] = "run";
    if (!ranks->rendezvous)
        snprintf(name, sizeof name, "run-%ld", (long)getpid());
    variables->count = 0;
    set_number(variables, "TUTTI_RANK", ranks->first + index);
    set_number(variables, "TUTTI_SIZE", ranks->size);
    set(variables, "TUTTI_RENDEZVOUS", job->rendezvous);
    if (!getenv("TUTTI_JOB"))
        set(variables, "TUTTI_JOB", name);
    /* As many threads as cores in each rank would fight over the cores. */
    if (!getenv("OMP_NUM_THREADS"))
        set(variables, "OMP_NUM_THREADS", "1");
    if (ranks->transports)
        set(variables, "TUTTI_TRANSPORTS", ranks->transports);
    describe_for_torch(job, ranks, index, variables);
}

/* ---- The environment ----------------------------------------------------------------------------- */

static bool is_replaced(const struct variables *variables, const char *variable)
{
    const char *end = strchr(variable, '=');
    size_t size = end ? (size_t)(end - variable) + 1 : 0;
    for (int i = 0; i < variables->count && size > 0; i++)
        if (strncmp(variables->text[i], variable, size) == 0)
            return true;
    for (size_t i = 0; i < sizeof of_torchrun / sizeof *of_torchrun; i++)
        if (strncmp(variable, of_torchrun[i], strlen(of_torchrun[i])) == 0)
            return true;
    return false;
}

char **environment_of_rank(const struct environment_job *job, const struct ranks *ranks, int index)
{
    struct variables variables;
    describe_rank(job, ranks, index, &variables);
    size_t count = 0, used = 0;
    while (environ[count])
        count++;
    size_t list_bytes = (count + VARIABLES_MAX + 1) * sizeof(char *);
    char **list = malloc(list_bytes + sizeof variables.text);
    if (!list)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!is_replaced(&variables, environ[i]))
            list[used++] = environ[i];
    char *text = memcpy((char *)list + list_bytes, variables.text, sizeof variables.text);
    for (int i = 0; i < variables.count; i++)
        list[used++] = text + i * VARIABLE_BYTES;
    list[used] = NULL;
    return list;
}
