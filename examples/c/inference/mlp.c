#include "mlp.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

bool mlp_is_exact(size_t width, size_t hidden)
{
    const size_t most = ((size_t)1 << 24) / MLP_INPUT_MAX;
    return width > 0 && hidden > 0 && width <= most && hidden <= most / width;
}

/* -1, 0 or 1.  Made from its place, so that each rank makes its own part only. */
static float weight(int matrix, size_t row, size_t column)
{
    uint64_t bits = ((uint64_t)matrix << 56) + ((uint64_t)row << 28) + column + 1;
    for (int turn = 0; turn < 3; turn++) {
        bits *= 0xd1342543de82ef95u;
        bits ^= bits >> 31;
    }
    return (float)(bits % 3) - 1;
}

static float *make_matrix(int matrix, size_t rows, size_t columns, size_t first_row, size_t first_column)
{
    float *weights = malloc((rows * columns + 1) * sizeof *weights); /* + 1: a rank may hold no unit */
    if (!weights)
        return NULL;
    for (size_t row = 0; row < rows; row++)
        for (size_t column = 0; column < columns; column++)
            weights[row * columns + column] = weight(matrix, first_row + row, first_column + column);
    return weights;
}

bool mlp_init(struct mlp *mlp, size_t width, size_t hidden, int rank, int size)
{
    size_t begin = hidden * (size_t)rank / (size_t)size, end = hidden * ((size_t)rank + 1) / (size_t)size;
    *mlp = (struct mlp){.width = width, .hidden = hidden, .units = end - begin};
    mlp->activations = malloc((mlp->units + 1) * sizeof *mlp->activations);
    bool complete = mlp->activations != NULL;
    for (int layer = 0; layer < MLP_LAYERS; layer++) {
        mlp->up[layer] = make_matrix(2 * layer, width, mlp->units, 0, begin);
        mlp->down[layer] = make_matrix(2 * layer + 1, mlp->units, width, begin, 0);
        complete = complete && mlp->up[layer] && mlp->down[layer];
    }
    return complete;
}

void mlp_clean_up(struct mlp *mlp)
{
    free(mlp->activations);
    for (int layer = 0; layer < MLP_LAYERS; layer++) {
        free(mlp->up[layer]);
        free(mlp->down[layer]);
    }
}

/* y += x * matrix, row by row: a compiler makes vector instructions of that without changing any sum. */
static void multiply_add(const float *restrict x, size_t rows, const float *restrict matrix, size_t columns,
                         float *restrict y)
{
    for (size_t row = 0; row < rows; row++)
        for (size_t column = 0; column < columns; column++)
            y[column] += x[row] * matrix[row * columns + column];
}

void mlp_layer(const struct mlp *mlp, int layer, const float *restrict x, float *restrict y)
{
    float *hidden = mlp->activations;
    memset(hidden, 0, mlp->units * sizeof *hidden);
    multiply_add(x, mlp->width, mlp->up[layer], mlp->units, hidden);
    for (size_t unit = 0; unit < mlp->units; unit++)
        hidden[unit] = hidden[unit] > 0 ? hidden[unit] : 0;
    memset(y, 0, mlp->width * sizeof *y);
    multiply_add(hidden, mlp->units, mlp->down[layer], mlp->width, y);
}

void mlp_quantise(const struct mlp *mlp, float *y)
{
    float scale = 1; /* a power of 2 near a quarter of the standard deviation of y: most of it fits */
    while (4 * scale * scale < (float)mlp->width * (float)mlp->hidden)
        scale *= 2;
    for (size_t i = 0; i < mlp->width; i++)
        y[i] = fminf(fmaxf(rintf(y[i] / scale), -MLP_INPUT_MAX), MLP_INPUT_MAX);
}
