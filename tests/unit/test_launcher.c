#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "group/launcher.h"

#define UID 1000

/* An environment is a list of "NAME=value" that ends with NULL. */
static const char *read_list(void *context, const char *name)
{
    size_t length = strlen(name);
    for (const char *const *entry = context; *entry; entry++) {
        if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=')
            return *entry + length + 1;
    }
    return NULL;
}

#define ENVIRONMENT(...) ((const char *const[]){__VA_ARGS__, NULL})

static int resolve(const struct tutti_config *config, const char *const *environment, struct launch *launch,
                   struct tutti_error *error)
{
    return launch_resolve(launch, config, UID, read_list, (void *)(uintptr_t)environment, error);
}

/* One line for all there is: "torchrun: 1 of 4, unix:@name, job x, one host". */
static const char *describe(const struct tutti_config *config, const char *const *environment)
{
    static char text[1024];
    char where[300];
    struct launch launch;
    struct tutti_error error = TUTTI_ERROR_INIT;
    if (resolve(config, environment, &launch, &error) < 0) {
        assert_int_equal(error.code, TUTTI_ERR_CONFIG);
        return strcpy(text, error.message);
    }
    snprintf(text, sizeof text, "%s: %d of %d, %s, job %s%s", launch.source, launch.rank, launch.size,
             endpoint_print(&launch.rendezvous, where, sizeof where), launch.job,
             launch.one_host ? ", one host" : "");
    return text;
}

#define assert_launch(expected, config, ...)                                                                 \
    assert_string_equal(describe(config, ENVIRONMENT(__VA_ARGS__)), expected)

/* The error contains each of the words. */
static void assert_error_names(const char *const *words, const struct tutti_config *config,
                               const char *const *environment)
{
    struct launch launch;
    struct tutti_error error = TUTTI_ERROR_INIT;
    assert_int_equal(resolve(config, environment, &launch, &error), TUTTI_ERR_CONFIG);
    for (; *words; words++) {
        if (!strstr(error.message, *words))
            fail_msg("expected '%s' in '%s'", *words, error.message);
    }
}

#define WORDS(...) ENVIRONMENT(__VA_ARGS__)

static struct tutti_config given(int size, int rank, const char *rendezvous)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.size = size;
    config.rank = rank;
    config.rendezvous = rendezvous;
    return config;
}

/* ---- None, arguments, TUTTI_* -------------------------------------------------------------------- */

static void nothing_at_all_is_a_group_of_one(void **state)
{
    (void)state;
    struct tutti_config config = TUTTI_CONFIG_INIT;
    assert_launch("none: 0 of 1, none, job default, one host", NULL, "HOME=/root");
    assert_launch("none: 0 of 1, none, job default, one host", &config, "HOME=/root");
    assert_launch("none: 0 of 1, none, job default, one host", NULL, "TUTTI_RANK=", "RANK=", "PMI_SIZE=");
    assert_launch("none: 0 of 1, none, job x, one host", NULL, "TUTTI_JOB=x");
}

static void arguments_win_over_every_variable(void **state)
{
    (void)state;
    struct tutti_config config = given(4, 3, "unix:/tmp/socket");
    assert_launch("arguments: 3 of 4, unix:/tmp/socket, job default, one host", &config, "TUTTI_RANK=0",
                  "TUTTI_SIZE=2", "TUTTI_RENDEZVOUS=host:1", "RANK=7", "WORLD_SIZE=8");
    config = given(2, TUTTI_RANK_ANY, "host:4711");
    config.job = "mine";
    assert_launch("arguments: -1 of 2, host:4711, job mine", &config, "TUTTI_JOB=theirs");
}

static void the_meeting_point_may_come_from_elsewhere_than_rank_and_size(void **state)
{
    (void)state;
    struct tutti_config config = given(4, 1, NULL);
    assert_launch("arguments: 1 of 4, host:1, job default", &config, "TUTTI_RENDEZVOUS=host:1");
    config = given(0, 0, "host:2");
    assert_launch("TUTTI_*: 1 of 2, host:2, job default", &config, "TUTTI_RANK=1", "TUTTI_SIZE=2");
    assert_launch("TUTTI_*: 1 of 2, host:2, job default", &config, "TUTTI_RANK=1", "TUTTI_SIZE=2",
                  "TUTTI_RENDEZVOUS=host:1");
    assert_launch("torchrun: 1 of 2, host:2, job torchrun", &config, "RANK=1", "WORLD_SIZE=2");
}

static void arguments_out_of_range_are_named(void **state)
{
    (void)state;
    struct tutti_config config = given(-1, 0, NULL);
    assert_error_names(WORDS("size is -1", "1 to 4096"), &config, ENVIRONMENT("A=b"));
    config = given(4097, 0, "host:1");
    assert_error_names(WORDS("size is 4097"), &config, ENVIRONMENT("A=b"));
    config = given(4, 4, "host:1");
    assert_error_names(WORDS("rank is 4", "0 to 3", "TUTTI_RANK_ANY"), &config, ENVIRONMENT("A=b"));
    config = given(4, -2, "host:1");
    assert_error_names(WORDS("rank is -2"), &config, ENVIRONMENT("A=b"));
    config = given(4, 0, NULL);
    assert_error_names(WORDS("arguments", "no rendezvous", "TUTTI_RENDEZVOUS"), &config, ENVIRONMENT("A=b"));
    config = given(4, 0, "nonsense");
    assert_error_names(WORDS("TUTTI_RENDEZVOUS", "'nonsense' is no address"), &config, ENVIRONMENT("A=b"));
}

static void a_group_of_one_needs_no_meeting_point(void **state)
{
    (void)state;
    struct tutti_config config = given(1, TUTTI_RANK_ANY, NULL);
    assert_launch("arguments: 0 of 1, none, job default, one host", &config, "A=b");
    config = given(1, 0, "host:1");
    assert_launch("arguments: 0 of 1, none, job default, one host", &config, "A=b");
    assert_launch("TUTTI_*: 0 of 1, none, job default, one host", NULL, "TUTTI_RANK=any", "TUTTI_SIZE=1");
    assert_launch("torchrun: 0 of 1, none, job torchrun, one host", NULL, "RANK=0", "WORLD_SIZE=1");
    assert_launch("PMI: 0 of 1, none, job pmi, one host", NULL, "PMI_RANK=0", "PMI_SIZE=1");
}

static void an_older_caller_with_a_shorter_struct_has_given_less(void **state)
{
    (void)state;
    struct tutti_config config = given(4, 1, "host:1");
    config.job = "not read";
    config.struct_size = offsetof(struct tutti_config, job);
    assert_launch("arguments: 1 of 4, host:1, job default", &config, "A=b");
}

/* ---- A rendezvous that rank 0 announces ----------------------------------------------------------- */

static int announce(void *context, const char *address)
{
    (void)context, (void)address;
    return 0;
}

static struct tutti_config announcing(int size, int rank)
{
    struct tutti_config config = given(size, rank, NULL);
    config.announce = announce;
    config.announce_context = &config;
    return config;
}

static void rank_0_may_announce_where_it_serves(void **state)
{
    (void)state;
    struct tutti_config config = announcing(4, 0);
    assert_launch("arguments: 0 of 4, none, job default", &config, "A=b");
    assert_launch("arguments: 0 of 4, none, job x", &config, "TUTTI_RENDEZVOUS=not read", "TUTTI_JOB=x",
                  "TUTTI_RANK=3", "TUTTI_SIZE=9", "RANK=3", "WORLD_SIZE=9");
    struct launch launch;
    struct tutti_error error;
    assert_int_equal(resolve(&config, ENVIRONMENT("A=b"), &launch, &error), TUTTI_OK);
    assert_ptr_equal(launch.announce, announce);
    assert_ptr_equal(launch.announce_context, config.announce_context);
}

static void an_announcement_that_makes_no_sense_is_an_error(void **state)
{
    (void)state;
    struct tutti_config config = announcing(4, 1);
    assert_error_names(WORDS("announce", "rank is 1", "rank 0", "rendezvous"), &config, ENVIRONMENT("A=b"));
    config = announcing(4, TUTTI_RANK_ANY);
    assert_error_names(WORDS("announce", "rank is -1"), &config, ENVIRONMENT("A=b"));
    config = announcing(0, 0);
    assert_error_names(WORDS("announce", "size is not"), &config,
                       ENVIRONMENT("TUTTI_RANK=0", "TUTTI_SIZE=2", "TUTTI_RENDEZVOUS=host:1"));
    config = announcing(4, 0);
    config.rendezvous = "host:4711";
    assert_error_names(WORDS("both announce and rendezvous", "host:4711"), &config, ENVIRONMENT("A=b"));
}

static void an_older_caller_announces_nothing(void **state)
{
    (void)state;
    struct tutti_config config = announcing(4, 0);
    config.struct_size = offsetof(struct tutti_config, announce);
    assert_error_names(WORDS("arguments", "no rendezvous"), &config, ENVIRONMENT("A=b"));
    assert_launch("arguments: 0 of 4, host:1, job default", &config, "TUTTI_RENDEZVOUS=host:1");
}

static void the_variables_of_tutti_say_it_all(void **state)
{
    (void)state;
    assert_launch("TUTTI_*: 2 of 4, host:4711, job default", NULL, "TUTTI_RANK=2", "TUTTI_SIZE=4",
                  "TUTTI_RENDEZVOUS=host:4711", "RANK=7", "WORLD_SIZE=8");
    assert_launch("TUTTI_*: -1 of 4, unix:@x, job run-7, one host", NULL, "TUTTI_RANK=any", "TUTTI_SIZE=4",
                  "TUTTI_RENDEZVOUS=unix:@x", "TUTTI_JOB=run-7");
    assert_launch("TUTTI_*: -1 of 4, host:1, job default", NULL, "TUTTI_RANK=-1", "TUTTI_SIZE=4",
                  "TUTTI_RENDEZVOUS=host:1");
    assert_launch("TUTTI_*: 0 of 2, file:/shared/x, job default", NULL, "TUTTI_RANK=0", "TUTTI_SIZE=2",
                  "TUTTI_RENDEZVOUS=file:/shared/x");
}

static void a_part_of_the_variables_of_tutti_is_an_error_that_names_the_rest(void **state)
{
    (void)state;
    assert_error_names(WORDS("TUTTI_RANK is '1'", "TUTTI_SIZE is not set", "tutti run"), NULL,
                       ENVIRONMENT("TUTTI_RANK=1", "TUTTI_RENDEZVOUS=host:1"));
    assert_error_names(WORDS("TUTTI_SIZE is '1'", "TUTTI_RANK is not set"), NULL,
                       ENVIRONMENT("TUTTI_SIZE=1"));
    assert_error_names(WORDS("TUTTI_SIZE is '4'", "TUTTI_RANK is not set"), NULL,
                       ENVIRONMENT("TUTTI_SIZE=4", "RANK=1", "WORLD_SIZE=4"));
    assert_error_names(WORDS("size is 4", "no rendezvous", "TUTTI_RENDEZVOUS", "unix:PATH"), NULL,
                       ENVIRONMENT("TUTTI_RANK=1", "TUTTI_SIZE=4"));
    assert_error_names(WORDS("'host:1'", "TUTTI_RANK and TUTTI_SIZE are not set"), NULL,
                       ENVIRONMENT("TUTTI_RENDEZVOUS=host:1"));
    assert_error_names(WORDS("no address"), NULL, ENVIRONMENT("TUTTI_RENDEZVOUS=host"));
    assert_error_names(WORDS("port 0"), NULL,
                       ENVIRONMENT("TUTTI_RANK=0", "TUTTI_SIZE=2", "TUTTI_RENDEZVOUS=host:0"));
}

static void numbers_are_read_strictly(void **state)
{
    (void)state;
    static const char *const bad_sizes[] = {
        "TUTTI_SIZE=0",  "TUTTI_SIZE=-1",  "TUTTI_SIZE=4x",   "TUTTI_SIZE= 4",
        "TUTTI_SIZE=+4", "TUTTI_SIZE=0x4", "TUTTI_SIZE=4097", "TUTTI_SIZE=18446744073709551620"};
    for (size_t i = 0; i < sizeof bad_sizes / sizeof *bad_sizes; i++)
        assert_error_names(WORDS("TUTTI_SIZE is '", "1 to 4096"), NULL,
                           ENVIRONMENT("TUTTI_RANK=0", bad_sizes[i], "TUTTI_RENDEZVOUS=host:1"));
    static const char *const bad_ranks[] = {"TUTTI_RANK=4", "TUTTI_RANK=-2", "TUTTI_RANK=Any",
                                            "TUTTI_RANK=18446744073709551616"};
    for (size_t i = 0; i < sizeof bad_ranks / sizeof *bad_ranks; i++)
        assert_error_names(WORDS("TUTTI_RANK is '", "0 to 3", "'any'"), NULL,
                           ENVIRONMENT(bad_ranks[i], "TUTTI_SIZE=4", "TUTTI_RENDEZVOUS=host:1"));
    assert_error_names(WORDS("RANK is 'any'", "0 to 3"), NULL, ENVIRONMENT("RANK=any", "WORLD_SIZE=4"));
}

static void the_name_of_a_job_is_checked(void **state)
{
    (void)state;
    char job[200] = "TUTTI_JOB=";
    memset(job + 10, 'j', 127);
    struct launch launch;
    assert_int_equal(resolve(NULL, ENVIRONMENT(job), &launch, NULL), TUTTI_OK);
    assert_int_equal(strlen(launch.job), 127);
    job[137] = 'j';
    assert_error_names(WORDS("TUTTI_JOB", "127 bytes"), NULL, ENVIRONMENT(job));
    assert_error_names(WORDS("TUTTI_JOB", "control characters"), NULL, ENVIRONMENT("TUTTI_JOB=a\nb"));
}

/* ---- torchrun ------------------------------------------------------------------------------------ */

static void torchrun_on_one_host_meets_at_a_unix_socket_named_by_user_and_job(void **state)
{
    (void)state;
    assert_launch("torchrun: 3 of 4, unix:@tutti-1000-torchrun-none-29500-0, job torchrun-none-29500-0, one "
                  "host",
                  NULL, "RANK=3", "WORLD_SIZE=4", "LOCAL_WORLD_SIZE=4", "MASTER_ADDR=localhost",
                  "MASTER_PORT=29500", "TORCHELASTIC_RUN_ID=none", "TORCHELASTIC_RESTART_COUNT=0");
    assert_launch("torchrun: 0 of 2, unix:@tutti-1000-torchrun-29500, job torchrun-29500, one host", NULL,
                  "RANK=0", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=2", "MASTER_PORT=29500");
}

static void torchrun_on_several_hosts_meets_near_the_master_but_never_at_its_port(void **state)
{
    (void)state;
    /* The agents of several hosts count their restarts apart, so the count is no part of the name. */
    assert_launch("torchrun: 3 of 4, node0:23964, job torchrun-a1-29500", NULL, "RANK=3", "WORLD_SIZE=4",
                  "LOCAL_WORLD_SIZE=2", "MASTER_ADDR=node0", "MASTER_PORT=29500", "TORCHELASTIC_RUN_ID=a1",
                  "TORCHELASTIC_RESTART_COUNT=2");
    assert_launch("torchrun: 3 of 4, [fd00::1]:20001, job torchrun-1", NULL, "RANK=3", "WORLD_SIZE=4",
                  "MASTER_ADDR=fd00::1", "MASTER_PORT=1");
    for (int master = 1; master <= 65535; master++) {
        char text[32];
        struct launch launch;
        snprintf(text, sizeof text, "MASTER_PORT=%d", master);
        const char *const environment[] = {"RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=h", text, NULL};
        assert_int_equal(resolve(NULL, environment, &launch, NULL), TUTTI_OK);
        assert_in_range(launch.rendezvous.port, 20000, 32767);
        assert_int_not_equal(launch.rendezvous.port, master);
    }
}

static void a_given_meeting_point_replaces_that_of_the_launcher(void **state)
{
    (void)state;
    assert_launch("torchrun: 3 of 4, host:1, job torchrun", NULL, "RANK=3", "WORLD_SIZE=4",
                  "LOCAL_WORLD_SIZE=2", "TUTTI_RENDEZVOUS=host:1");
    assert_launch("Open MPI: 3 of 4, host:1, job openmpi-17", NULL, "OMPI_COMM_WORLD_RANK=3",
                  "OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_SIZE=2", "PMIX_NAMESPACE=17",
                  "TUTTI_RENDEZVOUS=host:1");
    assert_launch("Slurm: 3 of 4, host:1, job slurm-7-0", NULL, "SLURM_PROCID=3", "SLURM_STEP_NUM_TASKS=4",
                  "SLURM_STEP_NUM_NODES=2", "SLURM_JOB_ID=7", "SLURM_STEP_ID=0", "TUTTI_RENDEZVOUS=host:1");
}

static void a_part_of_the_variables_of_torchrun_is_an_error_that_names_the_rest(void **state)
{
    (void)state;
    assert_error_names(WORDS("torchrun", "RANK is '3'", "WORLD_SIZE is not set", "unset RANK"), NULL,
                       ENVIRONMENT("RANK=3"));
    assert_error_names(WORDS("torchrun", "WORLD_SIZE is '8'", "but RANK is not set"), NULL,
                       ENVIRONMENT("WORLD_SIZE=8", "OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2"));
    assert_error_names(WORDS("torchrun", "MASTER_PORT is not set", "TUTTI_RENDEZVOUS"), NULL,
                       ENVIRONMENT("RANK=0", "WORLD_SIZE=8", "LOCAL_WORLD_SIZE=8"));
    assert_error_names(WORDS("torchrun", "several hosts", "MASTER_ADDR is not set", "TUTTI_RENDEZVOUS"), NULL,
                       ENVIRONMENT("RANK=0", "WORLD_SIZE=8", "MASTER_PORT=29500"));
    assert_error_names(WORDS("MASTER_PORT is '0'", "1 to 65535"), NULL,
                       ENVIRONMENT("RANK=0", "WORLD_SIZE=8", "MASTER_ADDR=h", "MASTER_PORT=0"));
    assert_error_names(WORDS("LOCAL_WORLD_SIZE is '9'", "1 to 8"), NULL,
                       ENVIRONMENT("RANK=0", "WORLD_SIZE=8", "LOCAL_WORLD_SIZE=9", "MASTER_PORT=1"));
    assert_error_names(WORDS("RANK is '8'", "0 to 7", "WORLD_SIZE is 8"), NULL,
                       ENVIRONMENT("RANK=8", "WORLD_SIZE=8"));
}

/* ---- Open MPI and PMI ---------------------------------------------------------------------------- */

static void open_mpi_on_one_host_meets_at_a_unix_socket_named_by_the_job(void **state)
{
    (void)state;
    assert_launch("Open MPI: 1 of 2, unix:@tutti-1000-openmpi-1969750017-71b4-8d12, job "
                  "openmpi-1969750017-71b4-8d12, one host",
                  NULL, "OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_SIZE=2",
                  "PMIX_NAMESPACE=1969750017", "OMPI_MCA_orte_precondition_transports=71b4-8d12");
    assert_launch("Open MPI: 1 of 2, unix:@tutti-1000-openmpi-3, job openmpi-3, one host", NULL,
                  "OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_SIZE=2",
                  "OMPI_MCA_ess_base_jobid=3");
}

static void mpi_on_several_hosts_asks_for_a_meeting_point(void **state)
{
    (void)state;
    assert_error_names(WORDS("Open MPI", "OMPI_COMM_WORLD_LOCAL_SIZE", "TUTTI_RENDEZVOUS", "HOST:PORT"), NULL,
                       ENVIRONMENT("OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=8",
                                   "OMPI_COMM_WORLD_LOCAL_SIZE=4", "PMIX_NAMESPACE=1"));
    assert_error_names(WORDS("PMI", "MPI_LOCALNRANKS", "TUTTI_RENDEZVOUS"), NULL,
                       ENVIRONMENT("PMI_RANK=0", "PMI_SIZE=8", "PMI_JOBID=1"));
    assert_error_names(WORDS("OMPI_COMM_WORLD_RANK is '0'", "OMPI_COMM_WORLD_SIZE is not set", "mpirun"),
                       NULL, ENVIRONMENT("OMPI_COMM_WORLD_RANK=0"));
    assert_error_names(WORDS("PMI_SIZE is '4'", "PMI_RANK is not set", "mpiexec"), NULL,
                       ENVIRONMENT("PMI_SIZE=4"));
}

static void pmi_on_one_host_needs_a_name_for_the_job(void **state)
{
    (void)state;
    assert_launch("PMI: 1 of 2, unix:@tutti-1000-pmi-j1, job pmi-j1, one host", NULL, "PMI_RANK=1",
                  "PMI_SIZE=2", "MPI_LOCALNRANKS=2", "PMI_JOBID=j1");
    assert_launch("PMI: 1 of 2, unix:@tutti-1000-pmi-mine, job mine, one host", NULL, "PMI_RANK=1",
                  "PMI_SIZE=2", "MPI_LOCALNRANKS=2", "TUTTI_JOB=mine");
    assert_error_names(WORDS("PMI", "PMI_JOBID is not set", "TUTTI_JOB", "unix:@NAME"), NULL,
                       ENVIRONMENT("PMI_RANK=1", "PMI_SIZE=2", "MPI_LOCALNRANKS=2"));
}

static void groups_with_names_of_their_own_meet_at_sockets_of_their_own(void **state)
{
    (void)state;
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.job = "second";
    assert_launch("torchrun: 0 of 2, unix:@tutti-1000-torchrun-1-second, job second, one host", &config,
                  "RANK=0", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=2", "MASTER_PORT=1");
}

/* ---- Slurm --------------------------------------------------------------------------------------- */

#define SLURM_STEP(id)                                                                                       \
    "SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=4", "SLURM_JOB_ID=1234", "SLURM_STEP_ID=" id, "SLURM_NTASKS=4"

static void a_slurm_step_on_one_node_meets_at_a_unix_socket(void **state)
{
    (void)state;
    assert_launch("Slurm: 1 of 4, unix:@tutti-1000-slurm-1234-0, job slurm-1234-0, one host", NULL,
                  SLURM_STEP("0"), "SLURM_STEP_NUM_NODES=1", "SLURM_STEP_NODELIST=node1");
}

static void a_slurm_step_on_several_nodes_meets_at_the_first_of_them(void **state)
{
    (void)state;
    static const struct {
        const char *list, *first;
    } cases[] = {
        {"node[03-07,9],x1", "node03"},
        {"node[03,05]", "node03"},
        {"node[3]", "node3"},
        {"x1,node[03-07]", "x1"},
        {"login-2,login-3", "login-2"},
        {"r[1-2]n[04-08]-ib", "r1n04-ib"},
        {"a.example.org,b", "a.example.org"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char list[100], expected[200];
        snprintf(list, sizeof list, "SLURM_STEP_NODELIST=%s", cases[i].list);
        /* 20000 + (61 * 1234 + 2) % 12768 */
        snprintf(expected, sizeof expected, "Slurm: 1 of 4, %s:31436, job slurm-1234-2", cases[i].first);
        assert_launch(expected, NULL, SLURM_STEP("2"), "SLURM_STEP_NUM_NODES=2", list);
    }
}

static void a_list_of_nodes_that_cannot_be_read_is_an_error(void **state)
{
    (void)state;
    static const char *const lists[] = {"node[", "node[]", "node[3-", "[x]", "node]", ",x", "n[3x]"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        char list[100];
        snprintf(list, sizeof list, "SLURM_STEP_NODELIST=%s", lists[i]);
        assert_error_names(WORDS("Slurm", "SLURM_STEP_NODELIST", "TUTTI_RENDEZVOUS"), NULL,
                           ENVIRONMENT(SLURM_STEP("0"), "SLURM_STEP_NUM_NODES=2", list));
    }
    assert_error_names(WORDS("Slurm", "SLURM_STEP_NODELIST", "not set"), NULL,
                       ENVIRONMENT(SLURM_STEP("0"), "SLURM_STEP_NUM_NODES=2"));
}

static void a_shell_of_salloc_and_a_batch_script_are_no_steps(void **state)
{
    (void)state;
    const char *none = "none: 0 of 1, none, job default, one host";
    assert_launch(none, NULL, "SLURM_JOB_ID=1234", "SLURM_NTASKS=4", "SLURM_PROCID=0");
    assert_launch(none, NULL, SLURM_STEP("4294967291")); /* batch */
    assert_launch(none, NULL, SLURM_STEP("4294967290")); /* interactive */
    assert_launch(none, NULL, SLURM_STEP("batch"));
    assert_launch(none, NULL, "SLURM_PROCID=0", "SLURM_STEP_ID=0");
}

static void a_part_of_the_variables_of_a_step_is_an_error(void **state)
{
    (void)state;
    assert_error_names(WORDS("Slurm", "SLURM_STEP_NUM_TASKS is '4'", "SLURM_PROCID is not set", "srun"), NULL,
                       ENVIRONMENT("SLURM_STEP_NUM_TASKS=4", "SLURM_STEP_ID=0", "SLURM_JOB_ID=1"));
    assert_error_names(WORDS("Slurm", "SLURM_JOB_ID is not set"), NULL,
                       ENVIRONMENT("SLURM_PROCID=0", "SLURM_STEP_NUM_TASKS=4", "SLURM_STEP_ID=0"));
}

static void slurm_that_also_sets_the_variables_of_pmi_is_still_slurm(void **state)
{
    (void)state;
    assert_launch("Slurm: 1 of 4, unix:@tutti-1000-slurm-1234-0, job slurm-1234-0, one host", NULL,
                  "PMI_RANK=1", "PMI_SIZE=4", "PMI_JOBID=1234.0", SLURM_STEP("0"), "SLURM_STEP_NUM_NODES=1");
    assert_launch("PMI: 0 of 2, unix:@tutti-1000-pmi-j, job pmi-j, one host", NULL, "PMI_RANK=0",
                  "PMI_SIZE=2", "MPI_LOCALNRANKS=2", "PMI_JOBID=j", SLURM_STEP("0"));
}

/* ---- Names --------------------------------------------------------------------------------------- */

static void long_or_unprintable_names_are_hashed_and_still_differ(void **state)
{
    (void)state;
    char id[400] = "TORCHELASTIC_RUN_ID=";
    struct launch one, other;
    memset(id + strlen(id), 'r', 300);
    const char *const environment[] = {"RANK=0", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=2", "MASTER_PORT=1", id,
                                       NULL};
    assert_int_equal(resolve(NULL, environment, &one, NULL), TUTTI_OK);
    id[310] = 's';
    assert_int_equal(resolve(NULL, environment, &other, NULL), TUTTI_OK);
    assert_int_equal(strlen(one.job), strlen("torchrun-0123456789abcdef"));
    assert_int_equal(strncmp(one.job, "torchrun-", 9), 0);
    assert_string_not_equal(one.job, other.job);
    assert_string_not_equal(one.rendezvous.name, other.rendezvous.name);
    id[310] = '\n';
    id[311] = '\0';
    assert_int_equal(resolve(NULL, environment, &one, NULL), TUTTI_OK);
    assert_null(strchr(one.job, '\n'));
    assert_null(strchr(one.rendezvous.name, '\n'));
}

static void names_of_sockets_keep_within_what_the_kernel_takes(void **state)
{
    (void)state;
    for (size_t length = 1; length < 128; length++) {
        char job[160] = "TUTTI_JOB=";
        memset(job + 10, 'j', length);
        struct launch launch;
        const char *const environment[] = {"OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2",
                                           "OMPI_COMM_WORLD_LOCAL_SIZE=2", job, NULL};
        assert_int_equal(
            launch_resolve(&launch, NULL, UINT32_MAX, read_list, (void *)(uintptr_t)environment, NULL),
            TUTTI_OK);
        assert_in_range(strlen(launch.rendezvous.name), 1, ENDPOINT_UNIX_PATH_MAX);
        assert_int_equal(strncmp(launch.rendezvous.name, "@tutti-4294967295-", 18), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_at_all_is_a_group_of_one),
        cmocka_unit_test(arguments_win_over_every_variable),
        cmocka_unit_test(the_meeting_point_may_come_from_elsewhere_than_rank_and_size),
        cmocka_unit_test(arguments_out_of_range_are_named),
        cmocka_unit_test(a_group_of_one_needs_no_meeting_point),
        cmocka_unit_test(an_older_caller_with_a_shorter_struct_has_given_less),
        cmocka_unit_test(rank_0_may_announce_where_it_serves),
        cmocka_unit_test(an_announcement_that_makes_no_sense_is_an_error),
        cmocka_unit_test(an_older_caller_announces_nothing),
        cmocka_unit_test(the_variables_of_tutti_say_it_all),
        cmocka_unit_test(a_part_of_the_variables_of_tutti_is_an_error_that_names_the_rest),
        cmocka_unit_test(numbers_are_read_strictly),
        cmocka_unit_test(the_name_of_a_job_is_checked),
        cmocka_unit_test(torchrun_on_one_host_meets_at_a_unix_socket_named_by_user_and_job),
        cmocka_unit_test(torchrun_on_several_hosts_meets_near_the_master_but_never_at_its_port),
        cmocka_unit_test(a_given_meeting_point_replaces_that_of_the_launcher),
        cmocka_unit_test(a_part_of_the_variables_of_torchrun_is_an_error_that_names_the_rest),
        cmocka_unit_test(open_mpi_on_one_host_meets_at_a_unix_socket_named_by_the_job),
        cmocka_unit_test(mpi_on_several_hosts_asks_for_a_meeting_point),
        cmocka_unit_test(pmi_on_one_host_needs_a_name_for_the_job),
        cmocka_unit_test(groups_with_names_of_their_own_meet_at_sockets_of_their_own),
        cmocka_unit_test(a_slurm_step_on_one_node_meets_at_a_unix_socket),
        cmocka_unit_test(a_slurm_step_on_several_nodes_meets_at_the_first_of_them),
        cmocka_unit_test(a_list_of_nodes_that_cannot_be_read_is_an_error),
        cmocka_unit_test(a_shell_of_salloc_and_a_batch_script_are_no_steps),
        cmocka_unit_test(a_part_of_the_variables_of_a_step_is_an_error),
        cmocka_unit_test(slurm_that_also_sets_the_variables_of_pmi_is_still_slurm),
        cmocka_unit_test(long_or_unprintable_names_are_hashed_and_still_differ),
        cmocka_unit_test(names_of_sockets_keep_within_what_the_kernel_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
