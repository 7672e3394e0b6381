/* A two-layer MLP that is split over the ranks of a group ("tensor parallelism").
 *
 * A layer is y = relu(x * up) * down, where up is width x hidden and down is hidden x width.  A rank holds
 * some columns of `up` and the same rows of `down`: its hidden units.  It computes them from x without asking
 * anybody, and then what they add to y.  The sum of that over the ranks is y: one all_reduce for each layer.
 *
 * The weights are -1, 0 or 1, and what enters a layer are integers from -8 to 8, as in quantised models. Sums
 * of such products are exact in float32, in whatever order they are added, as long as they stay below 2^24.
 * So an answer has the same bits on any number of ranks, and a client can demand them. */
#ifndef INFERENCE_MLP_H
#define INFERENCE_MLP_H

#include <stdbool.h>
#include <stddef.h>

#define MLP_LAYERS    2
#define MLP_INPUT_MAX 8

struct mlp {
    size_t width, hidden;
    size_t units; /* hidden units that this rank holds */
    float *up[MLP_LAYERS], *down[MLP_LAYERS];
    float *activations; /* of those units, while a layer is computed */
};

/* Whether every sum is exact, for which width * hidden may be 2^21 at most. */
bool mlp_is_exact(size_t width, size_t hidden);

/* The part of rank `rank` of `size`; 0 of 1 is the whole.  False when there is no memory; to be cleaned up in
 * either case. */
bool mlp_init(struct mlp *mlp, size_t width, size_t hidden, int rank, int size);
void mlp_clean_up(struct mlp *mlp);

/* What this rank's units add to the output of `layer`.  x, y: `width` elements; they do not overlap. */
void mlp_layer(const struct mlp *mlp, int layer, const float *restrict x, float *restrict y);

/* Makes the output of a layer the input of the next one, in place. */
void mlp_quantise(const struct mlp *mlp, float *y);

#endif
