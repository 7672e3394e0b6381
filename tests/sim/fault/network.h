/* A network in one thread: virtual time, processes that can be frozen and killed, listeners, connections that
 * take their time, and streams of bytes that arrive in pieces.  Everything that happens is an event in one
 * heap; all chance comes from one seed.  events.c has the time, streams.c the rest. */
#ifndef TUTTI_TESTS_FAULT_NETWORK_H
#define TUTTI_TESTS_FAULT_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define NETWORK_NODES_MAX 17
#define NETWORK_HOSTS_MAX 17
#define NS_PER_US         INT64_C(1000)
#define NS_PER_MS         INT64_C(1000000)

/* ---- Chance -------------------------------------------------------------------------------------- */

/* splitmix64 */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* From 0 to `below` - 1; `below` fits 32 bits. */
static inline uint64_t random_below(uint64_t *state, uint64_t below)
{
    return ((random_next(state) >> 32) * below) >> 32;
}

static inline bool random_chance(uint64_t *state, unsigned percent)
{
    return random_below(state, 100) < percent;
}

/* ---- Events -------------------------------------------------------------------------------------- */

struct node;
struct network;

/* Zeroed: not set.  Lies in the memory of whoever sets it, who cancels it before that goes. */
struct event {
    int64_t due_ns;
    uint64_t order;
    int slot;          /* in the heap, from 1; 0: not there */
    bool held;         /* its node is frozen */
    struct node *node; /* the process that it happens to; NULL: the kernel or the world */
    void (*action)(void *context);
    void *context;
    TAILQ_ENTRY(event) entry; /* among those held */
};
TAILQ_HEAD(event_list, event);

/* ---- Processes ----------------------------------------------------------------------------------- */

struct end;
TAILQ_HEAD(end_list, end);

struct node {
    struct network *network;
    int number, host;
    bool dead;      /* its process has ended */
    bool unplugged; /* with its host: nobody is told */
    bool frozen;
    bool refuses; /* whoever dials it */
    struct event_list held;
    struct end_list ends; /* that are open in this process */
    struct event death;
};

/* ---- Streams ------------------------------------------------------------------------------------- */

enum { READ_NOTHING = 0, READ_END = -1, READ_RESET = -2 }; /* instead of a number of bytes */

struct pipe {
    uint8_t *bytes;
    uint32_t capacity, head; /* capacity: a power of two */
    uint32_t visible, used;  /* bytes that have arrived, and those with the ones under way */
    bool finished;           /* nothing follows the bytes under way */
    struct event arrival;
};

/* One end of a stream, as its process sees it. */
struct end {
    struct stream *stream;
    struct node *node;
    int side;
    bool open, write_shut, reset, wants_room;
    struct listener *accepting; /* it has not been accepted yet */
    struct event notify;        /* something may be read or written */
    struct event broken;        /* a reset that is under way to here */
    void (*ready)(void *context);
    void *context;
    TAILQ_ENTRY(end) entry;
};

struct stream {
    struct network *network;
    struct end ends[2];
    struct pipe pipes[2]; /* pipes[i] carries what ends[i] writes */
    int64_t extra_ns;     /* that everything takes longer */
    LIST_ENTRY(stream) entry;
};
LIST_HEAD(stream_list, stream);

struct listener {
    struct node *node; /* NULL: it does not listen */
    int address;
    void (*accept)(void *context, struct end *end);
    void *context;
    LIST_ENTRY(listener) entry;
};
LIST_HEAD(listener_list, listener);

/* A connection that is being made. */
struct dial {
    struct event event;
    struct network *network;
    struct node *node;
    int address;
    struct end *end;
    void (*done)(void *context, struct end *end); /* NULL: refused, or no answer in time */
    void *context;
};

struct control_stream;
LIST_HEAD(control_list, control_stream);

struct network {
    int64_t now_ns;
    uint64_t random, order, events, trace;
    struct event **heap; /* from 1 */
    int heap_count, heap_capacity;
    struct node nodes[NETWORK_NODES_MAX];
    bool cut[NETWORK_HOSTS_MAX][NETWORK_HOSTS_MAX]; /* from, to: nothing arrives */
    struct stream_list streams;
    struct listener_list listeners;
    struct control_list controls; /* of control_stream.h */
    int last_address, open_ends;
    const struct node *harmed; /* at the other end of the link that a failpoint has harmed; NULL: none */
    /* What kind of network it is. */
    int64_t delay_min_ns, delay_max_ns, dial_max_ns;
    uint32_t capacity;
    unsigned stutter_percent; /* of arrivals and writes that go only in part */
};

void network_init(struct network *network, uint64_t seed);
void network_free(struct network *network);

/* Sets the event, anew if it is set already. */
void event_set(struct network *network, struct event *event, struct node *node, int64_t delay_ns,
               void (*action)(void *context), void *context);
void event_cancel(struct network *network, struct event *event);
static inline bool event_is_set(const struct event *event)
{
    return event->slot != 0 || event->held;
}

/* Lets the next event happen; false when there is none. */
bool network_step(struct network *network);

/* From here to the end of the event this process acts. */
void network_enter(struct network *network, const struct node *node);

/* Mixes something that has happened into the hash of the run. */
static inline void network_trace(struct network *network, uint64_t what)
{
    network->trace = (network->trace ^ what) * UINT64_C(0x9e3779b97f4a7c15);
    network->trace ^= network->trace >> 29;
}

/* A stopped process does nothing; what comes to it waits, and happens when it goes on. */
void node_freeze(struct node *node);
void node_thaw(struct node *node);

/* The process ends, and its streams close as a kernel closes them: whoever held them must not touch them any
 * more.  May be called from within what the process does: from then on that has no effect. */
void node_kill(struct node *node);
/* Its host loses power: nobody hears of it. */
void node_unplug(struct node *node);
void node_close_ends(struct node *node); /* for the two above */

/* Nothing more arrives from one host at the other until it is healed; nothing is lost either. */
void network_cut(struct network *network, int from, int to);
void network_heal(struct network *network, int from, int to);

/* Listens, at a new address (0), or at one that nobody listens at. */
void network_listen(struct network *network, struct listener *listener, struct node *node, int address,
                    void (*accept)(void *context, struct end *end), void *context);
void network_unlisten(struct listener *listener);
struct listener *network_find_listener(struct network *network, int address);

void network_dial(struct network *network, struct dial *dial, struct node *node, int address,
                  int64_t timeout_ns, void (*done)(void *context, struct end *end), void *context);
void network_hang_up(struct dial *dial); /* if it is under way */

/* Who is to be called when something may be read or written; once without a reason. */
void end_attach(struct end *end, void (*ready)(void *context), void *context);
/* Offers it to its listener again after the delay. */
void end_postpone_accept(struct end *end, struct listener *listener, int64_t delay_ns);

int end_read(struct end *end, void *bytes, uint32_t most);        /* or READ_... */
int end_write(struct end *end, const void *bytes, uint32_t size); /* how many went, or READ_RESET */
void end_close(struct end *end);      /* what was written arrives, unless what arrived here is unread */
void end_shut_write(struct end *end); /* half-close */
void end_abort(struct end *end);      /* resets: the other end hears of it, this one at once */
void end_forget(struct end *end);     /* half-open: this end is reset, the other hears of it when it writes */
bool end_corrupt(struct end *end);    /* a byte under way to this end is changed; false: there is none */
struct end *end_other(const struct end *end);

#endif
