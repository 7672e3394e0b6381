/* Binomial trees.  Ranks are numbered from the root, 0, by their distance behind it: node v hangs below v
 * without its lowest bit, so its children are v + 1, v + 2, v + 4, ... as long as that bit is clear in v, and
 * the child v + step has the `step` nodes from itself on below it. */
#ifndef TUTTI_ALGORITHM_BINOMIAL_H
#define TUTTI_ALGORITHM_BINOMIAL_H

/* The largest step to a child of node v in a tree of n; 0: v is a leaf. */
static inline int binomial_top(int v, int n)
{
    int top = 0;
    for (int step = 1; (v & step) == 0 && v + step < n; step *= 2)
        top = step;
    return top;
}

/* The node above v > 0. */
static inline int binomial_parent(int v)
{
    return v & (v - 1);
}

/* How many nodes are in the tree that hangs at v, itself included. */
static inline int binomial_nodes(int v, int n)
{
    int nodes = v == 0 ? n : v & -v;
    return v + nodes <= n ? nodes : n - v;
}

#endif
