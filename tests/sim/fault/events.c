/* The heap of events and the processes that they happen to. */
#include <assert.h>
#include "tests/sim/fault/allocation.h"
#include "tests/sim/fault/network.h"

/* ---- The heap ------------------------------------------------------------------------------------ */

static bool before(const struct event *a, const struct event *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void put_at(struct network *n, int slot, struct event *event)
{
    n->heap[slot] = event;
    event->slot = slot;
}

static void sift_up(struct network *n, int slot, struct event *event)
{
    for (; slot > 1 && before(event, n->heap[slot / 2]); slot /= 2)
        put_at(n, slot, n->heap[slot / 2]);
    put_at(n, slot, event);
}

static void sift_down(struct network *n, int slot, struct event *event)
{
    for (int child; (child = 2 * slot) <= n->heap_count; slot = child) {
        if (child < n->heap_count && before(n->heap[child + 1], n->heap[child]))
            child++;
        if (!before(n->heap[child], event))
            break;
        put_at(n, slot, n->heap[child]);
    }
    put_at(n, slot, event);
}

static void heap_add(struct network *n, struct event *event)
{
    if (n->heap_count + 1 >= n->heap_capacity) {
        n->heap_capacity = n->heap_capacity > 0 ? 2 * n->heap_capacity : 256;
        n->heap = world_resize(n->heap, (size_t)n->heap_capacity * sizeof *n->heap);
    }
    sift_up(n, ++n->heap_count, event);
}

static void heap_remove(struct network *n, struct event *event)
{
    int slot = event->slot;
    struct event *last = n->heap[n->heap_count--];
    event->slot = 0;
    if (last == event)
        return;
    if (slot > 1 && before(last, n->heap[slot / 2]))
        sift_up(n, slot, last);
    else
        sift_down(n, slot, last);
}

/* ---- Events -------------------------------------------------------------------------------------- */

void event_cancel(struct network *n, struct event *event)
{
    if (event->held)
        TAILQ_REMOVE(&event->node->held, event, entry);
    else if (event->slot != 0)
        heap_remove(n, event);
    event->held = false;
}

void event_set(struct network *n, struct event *event, struct node *node, int64_t delay_ns,
               void (*action)(void *context), void *context)
{
    assert(delay_ns >= 0);
    event_cancel(n, event);
    event->due_ns = n->now_ns + delay_ns;
    event->order = ++n->order;
    event->node = node;
    event->action = action;
    event->context = context;
    heap_add(n, event);
}

void network_enter(struct network *n, const struct node *node)
{
    (void)n;
    allocation.running = node;
}

bool network_step(struct network *n)
{
    if (n->heap_count == 0)
        return false;
    struct event *event = n->heap[1];
    struct node *node = event->node;
    heap_remove(n, event);
    n->now_ns = event->due_ns;
    if (node && node->dead)
        return true;
    if (node && node->frozen) {
        event->held = true;
        TAILQ_INSERT_TAIL(&node->held, event, entry);
        return true;
    }
    n->events++;
    network_trace(n, (uint64_t)n->now_ns ^ (node ? (uint64_t)node->number + 1 : 0) << 56);
    network_enter(n, node);
    event->action(event->context);
    network_enter(n, NULL);
    return true;
}

/* ---- Processes ----------------------------------------------------------------------------------- */

void node_freeze(struct node *node)
{
    node->frozen = true;
}

void node_thaw(struct node *node)
{
    struct event *event;
    node->frozen = false;
    while ((event = TAILQ_FIRST(&node->held)))
        event_set(node->network, event, node, 0, event->action, event->context);
}

static void forget_held(struct node *node)
{
    struct event *event;
    while ((event = TAILQ_FIRST(&node->held))) {
        TAILQ_REMOVE(&node->held, event, entry);
        event->held = false;
    }
    node->frozen = false;
}

static void close_listeners(struct node *node)
{
    struct listener *listener, *next;
    for (listener = LIST_FIRST(&node->network->listeners); listener; listener = next) {
        next = LIST_NEXT(listener, entry);
        if (listener->node == node)
            network_unlisten(listener);
    }
}

/* What the kernel does for a process that has ended. */
static void on_death(void *context)
{
    struct node *node = context;
    close_listeners(node);
    forget_held(node);
    node_close_ends(node);
}

void node_kill(struct node *node)
{
    if (node->dead)
        return;
    node->dead = true; /* at once; what is on the stack at this moment cannot do anything any more */
    event_set(node->network, &node->death, NULL, 0, on_death, node);
}

void node_unplug(struct node *node)
{
    node->unplugged = true;
    node_kill(node);
}

/* ---- The network --------------------------------------------------------------------------------- */

void network_init(struct network *n, uint64_t seed)
{
    *n = (struct network){.random = seed, .trace = seed};
    LIST_INIT(&n->streams);
    LIST_INIT(&n->listeners);
    LIST_INIT(&n->controls);
    for (int i = 0; i < NETWORK_NODES_MAX; i++) {
        n->nodes[i].network = n;
        n->nodes[i].number = n->nodes[i].host = i;
        TAILQ_INIT(&n->nodes[i].held);
        TAILQ_INIT(&n->nodes[i].ends);
    }
}

void network_free(struct network *n)
{
    world_free(n->heap);
}
