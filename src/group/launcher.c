/* Each launcher is a row of a table: which variables say rank and size, and a function that finds the meeting
 * point.  Names and ports of meeting points are derived only from what is the same on every rank of a job. */
#include "group/launcher.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "group/rendezvous.h"

/* Steps of Slurm above this are no steps of srun: the batch script, the shell of salloc and their like. */
#define SLURM_STEP_MAX 0xffffffefu

struct resolver {
    struct launch *launch;
    struct tutti_config config; /* what is given */
    unsigned uid;
    settings_getenv read;
    void *context;
    const char *job;        /* the setting `job`, or NULL */
    const char *rendezvous; /* the setting `rendezvous`, or NULL */
    struct tutti_error *error;
};

/* An empty variable counts as not set. */
static const char *variable(const struct resolver *r, const char *name)
{
    const char *value = r->read(r->context, name);
    return value && *value ? value : NULL;
}

static int bad_number(const struct resolver *r, const char *name, const char *value, uint32_t min,
                      uint32_t max)
{
    return error_set(r->error, TUTTI_ERR_CONFIG,
                     "%s: %s is '%.64s', but must be a number from %" PRIu32 " to %" PRIu32,
                     r->launch->source, name, value, min, max);
}

/* A variable that must be there. */
static int require_number(const struct resolver *r, const char *name, uint32_t min, uint32_t max,
                          uint64_t *number)
{
    const char *value = variable(r, name);
    if (!value)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "%s: %s is not set, and the meeting point is derived from it; set %s, or set "
                         "TUTTI_RENDEZVOUS to unix:PATH, HOST:PORT or file:PATH",
                         r->launch->source, name, name);
    if (!text_to_number(value, max, number) || *number < min)
        return bad_number(r, name, value, min, max);
    return TUTTI_OK;
}

/* ---- Names --------------------------------------------------------------------------------------- */

static_assert(ENDPOINT_UNIX_PATH_MAX <= SETTING_JOB_BYTES_MAX, "a label holds a path, too");

/* Text put together from parts.  What does not fit, or does not print, is replaced by a hash of it all. */
struct label {
    char text[SETTING_JOB_BYTES_MAX + 1];
    size_t length; /* of the whole, also where it did not fit */
    size_t fixed;  /* bytes at the start that stay when the rest is hashed */
    uint64_t hash;
    bool printable;
};

static void label_add(struct label *label, const char *part)
{
    for (; *part; part++) {
        if (label->length < sizeof label->text - 1)
            label->text[label->length] = *part;
        label->length++;
        label->hash = fnv1a_add(label->hash, (uint8_t)*part);
        label->printable &= *part != ' ' && !text_is_control(*part);
    }
}

static struct label label_begin(const char *start)
{
    struct label label = {.hash = FNV1A_START, .printable = true};
    label_add(&label, start);
    label.fixed = label.length;
    return label;
}

/* The text in at most `max` bytes. */
static const char *label_end(struct label *label, size_t max)
{
    if (label->length <= max && label->printable)
        label->text[label->length] = '\0';
    else
        snprintf(label->text + label->fixed, sizeof label->text - label->fixed, "-%016" PRIx64, label->hash);
    return label->text;
}

/* The name of the job as the launcher has it: "torchrun-a1b2-29500".  NULL parts are left out. */
static void set_job(struct launch *launch, const char *launcher, const char *const parts[], size_t count)
{
    struct label label = label_begin(launcher);
    for (size_t i = 0; i < count; i++) {
        if (parts[i]) {
            label_add(&label, "-");
            label_add(&label, parts[i]);
        }
    }
    snprintf(launch->job, sizeof launch->job, "%s", label_end(&label, sizeof launch->job - 1));
}

/* An abstract Unix socket named by user, job and, so that one launch can have several groups, the setting
 * `job`. */
static int meet_on_this_host(struct resolver *r)
{
    struct launch *launch = r->launch;
    char start[32];
    snprintf(start, sizeof start, "@tutti-%u", r->uid);
    struct label label = label_begin(start);
    label_add(&label, "-");
    label_add(&label, launch->job);
    if (r->job) {
        label_add(&label, "-");
        label_add(&label, r->job);
    }
    launch->rendezvous.kind = ENDPOINT_UNIX;
    snprintf(launch->rendezvous.name, sizeof launch->rendezvous.name, "%s",
             label_end(&label, ENDPOINT_UNIX_PATH_MAX));
    return TUTTI_OK;
}

static int meet_at(struct resolver *r, const char *variable_name, const char *host, uint64_t number)
{
    struct endpoint *endpoint = &r->launch->rendezvous;
    if (strlen(host) >= sizeof endpoint->name)
        return error_set(r->error, TUTTI_ERR_CONFIG, "%s: the name of the host in %s is too long: '%.64s...'",
                         r->launch->source, variable_name, host);
    endpoint->kind = ENDPOINT_TCP;
    snprintf(endpoint->name, sizeof endpoint->name, "%s", host);
    endpoint->port = (uint16_t)(RENDEZVOUS_PORT_FIRST + number % RENDEZVOUS_PORT_COUNT);
    return TUTTI_OK;
}

/* ---- Launchers ----------------------------------------------------------------------------------- */

static int meet_torchrun(struct resolver *r)
{
    uint64_t port = 0;
    int status = require_number(r, "MASTER_PORT", 1, UINT16_MAX, &port);
    if (status < 0 || r->launch->one_host)
        return status < 0 ? status : meet_on_this_host(r);
    const char *host = variable(r, "MASTER_ADDR");
    if (!host)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "torchrun: the ranks are on several hosts as far as WORLD_SIZE and LOCAL_WORLD_SIZE "
                         "say, and MASTER_ADDR is not set; set it to the host of rank 0, or set "
                         "TUTTI_RENDEZVOUS to HOST:PORT, or LOCAL_WORLD_SIZE to WORLD_SIZE if there is one "
                         "host only");
    /* The agent may own MASTER_PORT.  No port is mapped to itself, for the first is no multiple of the
     * count. */
    static_assert(RENDEZVOUS_PORT_FIRST % RENDEZVOUS_PORT_COUNT != 0, "a derived port could be MASTER_PORT");
    return meet_at(r, "MASTER_ADDR", host, port);
}

static void name_torchrun(struct resolver *r)
{
    /* Every agent counts its own restarts, so the counts of several hosts may differ. */
    const char *restarts = r->launch->one_host ? variable(r, "TORCHELASTIC_RESTART_COUNT") : NULL;
    const char *parts[] = {variable(r, "TORCHELASTIC_RUN_ID"), variable(r, "MASTER_PORT"), restarts};
    set_job(r->launch, "torchrun", parts, 3);
}

/* Open MPI and PMI name no host where all could meet. */
static int meet_mpi(struct resolver *r, const char *local_size, bool named, const char *name_variables)
{
    struct launch *launch = r->launch;
    if (!launch->one_host)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "%s: the ranks are not all on this host as far as %s says, and it names no place to "
                         "meet; set TUTTI_RENDEZVOUS to HOST:PORT with the host of rank 0, on every rank",
                         launch->source, local_size);
    if (!named && !r->job)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "%s: the ranks cannot find each other, for the job has no name: %s is not set; set "
                         "TUTTI_JOB to a name of your choice, or TUTTI_RENDEZVOUS to unix:@NAME, the same on "
                         "every rank",
                         launch->source, name_variables);
    return meet_on_this_host(r);
}

static const char *open_mpi_job(const struct resolver *r)
{
    const char *job = variable(r, "PMIX_NAMESPACE");
    return job ? job : variable(r, "OMPI_MCA_ess_base_jobid");
}

static int meet_open_mpi(struct resolver *r)
{
    return meet_mpi(r, "OMPI_COMM_WORLD_LOCAL_SIZE", open_mpi_job(r), "PMIX_NAMESPACE");
}

/* The namespace of Open MPI 4 has 16 bits that differ between the jobs of a host; the key, where there is
 * one, is random. */
static void name_open_mpi(struct resolver *r)
{
    const char *parts[] = {open_mpi_job(r), variable(r, "OMPI_MCA_orte_precondition_transports")};
    set_job(r->launch, "openmpi", parts, 2);
}

static int meet_pmi(struct resolver *r)
{
    return meet_mpi(r, "MPI_LOCALNRANKS", variable(r, "PMI_JOBID"), "PMI_JOBID");
}

static void name_pmi(struct resolver *r)
{
    const char *parts[] = {variable(r, "PMI_JOBID")};
    set_job(r->launch, "pmi", parts, 1);
}

static bool in_slurm_step(const struct resolver *r)
{
    const char *step = variable(r, "SLURM_STEP_ID");
    uint64_t number;
    return step && variable(r, "SLURM_STEP_NUM_TASKS") && text_to_number(step, SLURM_STEP_MAX, &number);
}

/* Slurm sets the variables of PMI, too, but knows more: its own row is the better one then. */
static bool in_pmi(const struct resolver *r)
{
    const char *rank = variable(r, "PMI_RANK"), *size = variable(r, "PMI_SIZE");
    const char *slurm_rank = variable(r, "SLURM_PROCID");
    bool by_slurm = in_slurm_step(r) && !variable(r, "MPI_LOCALNRANKS") && rank && size && slurm_rank &&
                    strcmp(rank, slurm_rank) == 0 && strcmp(size, variable(r, "SLURM_STEP_NUM_TASKS")) == 0;
    return !by_slurm;
}

/* The first node of "node[03-07,9],x1": "node03".  False when that is no list of nodes. */
static bool first_node(const char *list, char *node, size_t node_size)
{
    size_t used = 0;
    while (*list && *list != ',') {
        size_t length;
        const char *rest;
        if (*list == '[') {
            list++;
            length = strspn(list, "0123456789");
            rest = strchr(list, ']');
            if (length == 0 || !rest || !strchr("-,]", list[length]))
                return false;
            rest++;
        } else {
            length = strcspn(list, "[],");
            rest = list + length;
            if (length == 0)
                return false;
        }
        if (length >= node_size - used)
            return false;
        memcpy(node + used, list, length);
        used += length;
        list = rest;
    }
    node[used] = '\0';
    return used > 0;
}

static int meet_slurm(struct resolver *r)
{
    uint64_t job = 0, step = 0;
    char node[256];
    int status = require_number(r, "SLURM_JOB_ID", 0, UINT32_MAX, &job);
    if (status == TUTTI_OK)
        status = require_number(r, "SLURM_STEP_ID", 0, SLURM_STEP_MAX, &step);
    if (status < 0 || r->launch->one_host)
        return status < 0 ? status : meet_on_this_host(r);
    const char *list = variable(r, "SLURM_STEP_NODELIST");
    if (!list || !first_node(list, node, sizeof node))
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "Slurm: the step runs on several nodes, and no first node can be read from "
                         "SLURM_STEP_NODELIST, which is %s%.64s%s; set TUTTI_RENDEZVOUS to HOST:PORT with "
                         "the host of rank 0",
                         list ? "'" : "", list ? list : "not set", list ? "'" : "");
    return meet_at(r, "SLURM_STEP_NODELIST", node,
                   job % RENDEZVOUS_PORT_COUNT * 61 + step % RENDEZVOUS_PORT_COUNT);
}

static void name_slurm(struct resolver *r)
{
    const char *parts[] = {variable(r, "SLURM_JOB_ID"), variable(r, "SLURM_STEP_ID")};
    set_job(r->launch, "slurm", parts, 2);
}

struct launcher {
    const char *name, *rank, *size;
    const char *local_size; /* variable that equals `size`... */
    const char *nodes;      /* ...or that is 1 when all ranks are on one host */
    const char *start;      /* how to start a program with it */
    bool (*is_there)(const struct resolver *r);
    void (*set_name)(struct resolver *r);
    int (*meet)(struct resolver *r);
};

static const struct launcher launchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", NULL, "torchrun", NULL, name_torchrun,
     meet_torchrun},
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", NULL, "mpirun",
     NULL, name_open_mpi, meet_open_mpi},
    {"PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", NULL, "mpiexec", in_pmi, name_pmi, meet_pmi},
    {"Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", NULL, "SLURM_STEP_NUM_NODES", "srun", in_slurm_step,
     name_slurm, meet_slurm},
};

/* ---- Resolving ----------------------------------------------------------------------------------- */

/* The meeting point that was given, if any. */
static int read_rendezvous(struct resolver *r)
{
    if (!r->rendezvous)
        return TUTTI_OK;
    struct endpoint *endpoint = &r->launch->rendezvous;
    struct tutti_error why;
    if (endpoint_parse(r->rendezvous, endpoint, &why) < 0)
        return error_set(r->error, TUTTI_ERR_CONFIG, "the rendezvous (TUTTI_RENDEZVOUS) is wrong: %s",
                         why.message);
    if (endpoint->kind == ENDPOINT_TCP && endpoint->port == 0)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "the rendezvous (TUTTI_RENDEZVOUS) is '%.200s', and nobody can be reached at port "
                         "0; give the port at which it listens",
                         r->rendezvous);
    return TUTTI_OK;
}

/* For ranks and sizes that were given outright: the meeting point must be, too. */
static int finish_given(struct resolver *r)
{
    struct launch *launch = r->launch;
    snprintf(launch->job, sizeof launch->job, "default");
    launch->one_host = launch->size == 1 || launch->rendezvous.kind == ENDPOINT_UNIX;
    if (launch->size > 1 && launch->rendezvous.kind == ENDPOINT_NONE && !launch->announce)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "%s: the size is %d, but no rendezvous is given; set it (TUTTI_RENDEZVOUS) to "
                         "unix:PATH, HOST:PORT or file:PATH, the same on every rank",
                         launch->source, launch->size);
    return TUTTI_OK;
}

/* Rank 0 is to serve at an address that it finds itself.  Only with who this is as arguments, too: whoever
 * gives a function knows that already, and what a launcher says could be of another group. */
static int check_announce(struct resolver *r)
{
    const struct tutti_config *config = &r->config;
    if (!config->announce)
        return TUTTI_OK;
    if (config->size == 0)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "arguments: announce is given, but size is not; give size and rank with it");
    if (config->rank != 0)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "arguments: announce is given and rank is %d, but it is rank 0 that serves the "
                         "rendezvous and announces it; give the other ranks the announced address as "
                         "rendezvous",
                         config->rank);
    if (r->rendezvous)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "arguments: both announce and rendezvous ('%.200s') are given; leave out announce "
                         "if the meeting point is known, and else rendezvous",
                         r->rendezvous);
    r->launch->announce = config->announce;
    r->launch->announce_context = config->announce_context;
    return TUTTI_OK;
}

static int from_arguments(struct resolver *r)
{
    struct launch *launch = r->launch;
    int size = r->config.size, rank = r->config.rank;
    launch->source = "arguments";
    if (size < 1 || size > RENDEZVOUS_SIZE_MAX)
        return error_set(r->error, TUTTI_ERR_CONFIG, "arguments: size is %d, but must be from 1 to %d", size,
                         RENDEZVOUS_SIZE_MAX);
    if (rank != TUTTI_RANK_ANY && (rank < 0 || rank >= size))
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "arguments: rank is %d, but must be from 0 to %d for size %d, or TUTTI_RANK_ANY",
                         rank, size - 1, size);
    launch->rank = rank;
    launch->size = size;
    return finish_given(r);
}

/* Rank and size from two variables; `found` tells whether they are there. */
static int read_pair(struct resolver *r, const char *rank_name, const char *size_name, bool any,
                     const char *start, bool *found)
{
    struct launch *launch = r->launch;
    const char *rank_text = variable(r, rank_name), *size_text = variable(r, size_name);
    uint64_t rank = 0, size = 0;
    *found = rank_text || size_text;
    if (!*found)
        return TUTTI_OK;
    if (!rank_text || !size_text) {
        const char *there = rank_text ? rank_name : size_name, *missing = rank_text ? size_name : rank_name;
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "%s: %s is '%.64s', but %s is not set; start with %s, or set both, or unset %s",
                         launch->source, there, rank_text ? rank_text : size_text, missing, start, there);
    }
    if (!text_to_number(size_text, RENDEZVOUS_SIZE_MAX, &size) || size == 0)
        return bad_number(r, size_name, size_text, 1, RENDEZVOUS_SIZE_MAX);
    launch->size = (int)size;
    launch->rank = TUTTI_RANK_ANY;
    if (any && (strcmp(rank_text, "any") == 0 || strcmp(rank_text, "-1") == 0))
        return TUTTI_OK;
    if (!text_to_number(rank_text, size - 1, &rank))
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "%s: %s is '%.64s', but must be a number from 0 to %d, for %s is %d%s",
                         launch->source, rank_name, rank_text, launch->size - 1, size_name, launch->size,
                         any ? ", or 'any'" : "");
    launch->rank = (int)rank;
    return TUTTI_OK;
}

static int from_launcher(struct resolver *r, const struct launcher *launcher, bool *found)
{
    struct launch *launch = r->launch;
    *found = false;
    if (launcher->is_there && !launcher->is_there(r))
        return TUTTI_OK;
    launch->source = launcher->name;
    int status = read_pair(r, launcher->rank, launcher->size, false, launcher->start, found);
    if (status < 0 || !*found)
        return status;

    const char *name = launcher->local_size ? launcher->local_size : launcher->nodes;
    const char *value = variable(r, name);
    uint64_t number = 0;
    if (value && (!text_to_number(value, (uint64_t)launch->size, &number) || number == 0))
        return bad_number(r, name, value, 1, (uint32_t)launch->size);
    launch->one_host = launch->size == 1 || number == (launcher->local_size ? (uint64_t)launch->size : 1);
    launcher->set_name(r);
    if (launch->size == 1 || launch->rendezvous.kind != ENDPOINT_NONE)
        return TUTTI_OK;
    return launcher->meet(r);
}

static int from_nothing(struct resolver *r)
{
    struct launch *launch = r->launch;
    if (launch->rendezvous.kind != ENDPOINT_NONE)
        return error_set(r->error, TUTTI_ERR_CONFIG,
                         "a rendezvous is given ('%.200s'), but not who joins there: TUTTI_RANK and "
                         "TUTTI_SIZE are not set and no launcher was found; set both, or give size and rank "
                         "as arguments, or unset TUTTI_RENDEZVOUS for a group of one",
                         r->rendezvous);
    launch->source = "none";
    launch->rank = 0;
    launch->size = 1;
    return finish_given(r);
}

static int resolve(struct resolver *r)
{
    bool found;
    int status = check_announce(r);
    if (status == TUTTI_OK)
        status = read_rendezvous(r);
    if (status == TUTTI_OK)
        status = r->job ? setting_check_text(setting_find("job"), "TUTTI_JOB", r->job, r->error) : TUTTI_OK;
    if (status < 0 || r->config.size != 0)
        return status < 0 ? status : from_arguments(r);
    r->launch->source = "TUTTI_*";
    status = read_pair(r, "TUTTI_RANK", "TUTTI_SIZE", true, "tutti run", &found);
    if (status < 0 || found)
        return status < 0 ? status : finish_given(r);
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        status = from_launcher(r, &launchers[i], &found);
        if (status < 0 || found)
            return status;
    }
    return from_nothing(r);
}

int launch_resolve(struct launch *launch, const struct tutti_config *config, unsigned uid,
                   settings_getenv read, void *context, struct tutti_error *error)
{
    struct resolver r = {.launch = launch, .uid = uid, .read = read, .context = context, .error = error};
    memset(launch, 0, sizeof *launch);
    if (config) {
        size_t given = config->struct_size < sizeof r.config ? config->struct_size : sizeof r.config;
        memcpy(&r.config, config, given);
    }
    if (r.config.rendezvous && r.config.rendezvous[0])
        r.rendezvous = r.config.rendezvous;
    else if (!r.config.announce)
        r.rendezvous = variable(&r, "TUTTI_RENDEZVOUS");
    r.job = r.config.job && r.config.job[0] ? r.config.job : variable(&r, "TUTTI_JOB");
    int status = resolve(&r);
    if (status < 0)
        return status;
    if (launch->size == 1) {
        memset(&launch->rendezvous, 0, sizeof launch->rendezvous);
        if (launch->rank == TUTTI_RANK_ANY)
            launch->rank = 0;
    }
    if (r.job)
        snprintf(launch->job, sizeof launch->job, "%s", r.job);
    return TUTTI_OK;
}
