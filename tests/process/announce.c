/* Groups whose ranks meet where rank 0 announces: the test hands the address on by pipes, as others would by
 * a store of keys and values.  Each rank is a child of fork(). */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

#define RANKS         4
#define LIMIT_S       60 /* after which a process counts as stuck */
#define REFORM_MS     20000
#define ADDRESS_BYTES 128
#define STORE_FAILURE (-7)
#define PORT_MIN      24100
#define PORT_MAX      24899
#define PORT_RANGE    "24100-24899"
#define NOT_READ      "not an address" /* a variable that would be an error */

/* What rank 0 announces, and where it goes: a pipe to each other rank. */
struct board {
    int pipes[RANKS][2];
    int calls, result;
    pthread_t caller;
    char address[ADDRESS_BYTES];
};

static struct board board;

static int post(void *context, const char *address)
{
    struct board *posted = context;
    posted->calls++;
    CHECK(strlen(address) < sizeof posted->address);
    strcpy(posted->address, address);
    CHECK(!pthread_equal(pthread_self(), posted->caller));
    for (int rank = 1; rank < RANKS && posted->result >= 0; rank++)
        CHECK(write(posted->pipes[rank][1], posted->address, ADDRESS_BYTES) == ADDRESS_BYTES);
    return posted->result;
}

static unsigned port_of(const char *address)
{
    const char *colon = strrchr(address, ':');
    CHECK(colon != NULL);
    return (unsigned)strtoul(colon + 1, NULL, 10);
}

/* This process as a rank: rank 0 announces, the others have heard. */
static tutti_comm *join(struct tutti_config config, int rank)
{
    tutti_comm *comm;
    char heard[ADDRESS_BYTES];
    config.size = RANKS;
    config.rank = rank;
    board.caller = pthread_self();
    if (rank == 0) {
        config.announce = post;
        config.announce_context = &board;
    } else {
        CHECK(read(board.pipes[rank][0], heard, sizeof heard) == sizeof heard);
        config.rendezvous = heard;
    }
    int status = tutti_init(&config, &comm);
    OK(comm, status);
    CHECK(tutti_rank(comm) == rank && tutti_size(comm) == RANKS);
    CHECK(board.calls == (rank == 0));
    return comm;
}

static void expect_sum(tutti_comm *comm, int terms)
{
    int ones[3] = {1, 1, 1};
    OK(comm, tutti_all_reduce(comm, ones, ones, 3, TUTTI_INT32, TUTTI_SUM));
    CHECK(ones[0] == terms && ones[2] == terms);
}

/* Rank `dying` ends without a word, once the others have told it by its pipe that they need nothing more. */
static void lose(int dying, int rank)
{
    char done = 1;
    if (rank != dying) {
        CHECK(write(board.pipes[dying][1], &done, 1) == 1);
        return;
    }
    for (int others = RANKS - 1; others > 0; others--)
        CHECK(read(board.pipes[dying][0], &done, 1) == 1);
    _exit(0);
}

static void leave(tutti_comm *comm)
{
    OK(comm, tutti_finalize(comm, 10000));
    tutti_free(comm);
}

/* ---- What a rank does ---------------------------------------------------------------------------- */

static void meet_by_announcement(int rank)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    CHECK(setenv("TUTTI_RENDEZVOUS", NOT_READ, 1) == 0);
    tutti_comm *comm = join(config, rank);
    expect_sum(comm, RANKS);
    leave(comm);
    CHECK(board.calls == (rank == 0));
}

static void meet_where_the_settings_say(int rank)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    config.interface = "127.0.0.0/8";
    config.port_range = PORT_RANGE;
    tutti_comm *comm = join(config, rank);
    if (rank == 0) {
        CHECK(strncmp(board.address, "127.", 4) == 0);
        CHECK(port_of(board.address) >= PORT_MIN && port_of(board.address) <= PORT_MAX);
    }
    expect_sum(comm, RANKS);
    leave(comm);
}

/* The rendezvous ends with rank 0, and a survivor serves it at the same address. */
static void survive_the_announcer(int rank)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    tutti_comm *comm = join(config, rank), *survivors;
    struct tutti_error error = TUTTI_ERROR_INIT;
    expect_sum(comm, RANKS);
    lose(0, rank);
    CHECK(tutti_barrier(comm) < 0);
    OK(comm, tutti_get_error(comm, &error));
    CHECK(error.rank == 0);
    int status = tutti_reform(comm, REFORM_MS, &survivors);
    OK(survivors, status);
    CHECK(tutti_rank(survivors) == rank - 1 && tutti_size(survivors) == RANKS - 1);
    expect_sum(survivors, RANKS - 1);
    leave(survivors);
    tutti_free(comm);
}

/* The other way round: the rendezvous stays where it is. */
static void the_announcer_survives(int rank)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    tutti_comm *comm = join(config, rank), *survivors;
    expect_sum(comm, RANKS);
    lose(RANKS - 1, rank);
    CHECK(tutti_barrier(comm) < 0);
    int status = tutti_reform(comm, REFORM_MS, &survivors);
    OK(survivors, status);
    CHECK(tutti_rank(survivors) == rank && tutti_size(survivors) == RANKS - 1);
    CHECK(board.calls == (rank == 0));
    expect_sum(survivors, RANKS - 1);
    leave(survivors);
    tutti_free(comm);
}

/* ---- What one process does ----------------------------------------------------------------------- */

static void expect_error(const struct tutti_config *config, int wanted, const char *words)
{
    tutti_comm *comm;
    struct tutti_error error = TUTTI_ERROR_INIT;
    int status = tutti_init(config, &comm);
    check_status(__FILE__, __LINE__, comm, status, wanted);
    OK(comm, tutti_get_error(comm, &error));
    if (!strstr(error.message, words)) {
        fprintf(stderr, "expected '%s' in '%s'\n", words, error.message);
        exit(1);
    }
    tutti_free(comm);
}

static void fail_where_the_announcement_fails(int rank)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    (void)rank;
    config.size = RANKS;
    config.announce = post;
    config.announce_context = &board;
    board.caller = pthread_self();
    board.result = STORE_FAILURE;
    config.interface = "lo";
    expect_error(&config, TUTTI_ERR_UNREACHABLE, "rank 0 could not announce its address 127.0.0.1:");
    CHECK(board.calls == 1);
    expect_error(&config, TUTTI_ERR_UNREACHABLE, "the function given as announce returned -7");
    CHECK(board.calls == 2);
}

static void refuse_wrong_uses(int rank)
{
    struct tutti_config config = TUTTI_CONFIG_INIT;
    (void)rank;
    config.announce = post;
    config.announce_context = &board;
    expect_error(&config, TUTTI_ERR_CONFIG, "size is not");
    config.size = RANKS;
    config.rank = 1;
    expect_error(&config, TUTTI_ERR_CONFIG, "it is rank 0 that serves");
    config.rank = TUTTI_RANK_ANY;
    expect_error(&config, TUTTI_ERR_CONFIG, "it is rank 0 that serves");
    config.rank = 0;
    config.rendezvous = "unix:@elsewhere";
    expect_error(&config, TUTTI_ERR_CONFIG, "both announce and rendezvous");
    config.rendezvous = NULL;
    config.interface = "no_such_name";
    expect_error(&config, TUTTI_ERR_CONFIG, "no network interface fits");
    /* Who was compiled before there was such a field has not given it, whatever the memory there holds. */
    config.struct_size = offsetof(struct tutti_config, announce);
    expect_error(&config, TUTTI_ERR_CONFIG, "no rendezvous is given");
    CHECK(board.calls == 0);
}

static void be_alone_without_announcing(int rank)
{
    tutti_comm *comm;
    struct tutti_config config = TUTTI_CONFIG_INIT;
    (void)rank;
    config.size = 1;
    config.announce = post;
    config.announce_context = &board;
    OK(comm, tutti_init(&config, &comm));
    CHECK(tutti_size(comm) == 1 && board.calls == 0);
    leave(comm);
}

/* ---- The tests ----------------------------------------------------------------------------------- */

static void run(const char *name, int ranks, void (*be_rank)(int rank))
{
    pid_t children[RANKS];
    for (int rank = 0; rank < ranks; rank++)
        CHECK(pipe(board.pipes[rank]) == 0);
    for (int rank = 0; rank < ranks; rank++) {
        children[rank] = fork();
        CHECK(children[rank] >= 0);
        if (children[rank] == 0) {
            alarm(LIMIT_S);
            check_rank = rank;
            be_rank(rank);
            exit(0);
        }
    }
    bool failed = false;
    for (int rank = 0; rank < ranks; rank++) {
        int status;
        close(board.pipes[rank][0]);
        close(board.pipes[rank][1]);
        CHECK(waitpid(children[rank], &status, 0) == children[rank]);
        if (status != 0)
            fprintf(stderr, "%s: rank %d ended with wait status %#x\n", name, rank, (unsigned)status);
        failed |= status != 0;
    }
    if (failed)
        exit(1);
    printf("%s\n", name);
    fflush(stdout);
}

int main(void)
{
    run("ranks_meet_where_rank_0_announces", RANKS, meet_by_announcement);
    run("the_announced_address_obeys_interface_and_port_range", RANKS, meet_where_the_settings_say);
    run("survivors_re_form_without_the_rank_that_announced", RANKS, survive_the_announcer);
    run("the_rank_that_announced_re_forms_with_the_others", RANKS, the_announcer_survives);
    run("a_failed_announcement_ends_init_and_says_so", 1, fail_where_the_announcement_fails);
    run("announcing_in_a_wrong_place_is_an_error_of_the_arguments", 1, refuse_wrong_uses);
    run("a_group_of_one_announces_nothing", 1, be_alone_without_announcing);
    return 0;
}
