/* One contestant: processes that `tutti bench` has started, and the lines to and from each of its ranks
 * (bench_reply.h).
 *
 * Happy path: started -> every rank says that it is ready -> orders and replies -> "quit" -> ended.
 * A rank that does not answer in time, says what is no answer, or whose process ends is a fault of the whole
 * contestant.  A signal to us is a fault, too, of which there is nothing to say: whoever gets it ends. */
#ifndef TUTTI_TOOLS_BENCH_PEER_H
#define TUTTI_TOOLS_BENCH_PEER_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>
#include "tools/bench_reply.h"

#define BENCH_PEER_WORDS_MAX 32
#define BENCH_PEER_NAME      16  /* bytes of a name, with its end */
#define BENCH_PEER_TEXT      160 /* likewise of what a contestant says that it is */

struct bench_pipe;

struct bench_peer {
    char name[BENCH_PEER_NAME];        /* "openmpi-nocma" */
    char transport[BENCH_PEER_NAME];   /* "mpi"; of tutti, once it is ready, "shm" */
    char text[BENCH_PEER_TEXT];        /* "Open MPI v4.1.4", once it is ready */
    char *words[BENCH_PEER_WORDS_MAX]; /* that start it; owned; ends with NULL */
    int word_count;
    int ranks;
    bool is_ours;
    pid_t pid; /* 0: has not been started, or has ended */
    struct bench_pipe *pipes;
};

/* From here on SIGINT, SIGTERM, SIGHUP and the ends of children are looked at while we wait for a contestant,
 * and only then. */
void bench_signals_hold(void);

/* The signal that told us to end; 0: none has. */
int bench_signals_told(void);

/* Appends a word, which is copied, to what starts the contestant; one too many, or no memory, ends us. */
void bench_peer_add(struct bench_peer *peer, const char *word);

/* The following return TUTTI_OK or an error with a sentence; TUTTI_ERR_ABORTED when a signal has come. */

/* Starts it and waits until it is ready.  Two of its words stand for what is known only now: the folder of
 * the pipes, which is gone when this returns, and MAX_BYTES. */
#define BENCH_PEER_FOLDER    "{folder}"
#define BENCH_PEER_MAX_BYTES "{bytes}"
int bench_peer_start(struct bench_peer *peer, size_t max_bytes, const struct rlimit *descriptors,
                     struct tutti_error *error);

/* Gives an order to all ranks, and waits for all replies. */
int bench_peer_run(struct bench_peer *peer, const struct bench_order *order, struct bench_reply *reply,
                   struct tutti_error *error);

/* Ends it, by force where it does not obey, and frees what it has.  `politely`: it is told to quit, and it is
 * an error when it does not, or not with status 0. */
int bench_peer_end(struct bench_peer *peer, bool politely, struct tutti_error *error);

#endif
