/* Least squares, repeated with weights that make it what is wanted.
 *
 * The model is linear in its constants: the count by which one of them is multiplied is the time that is
 * predicted when this one is 1 and all others are 0.  So a row of the equations comes out of select.c itself,
 * and the fit cannot disagree with the choice about what the model is.
 *
 * A residual is weighed by 1 / sqrt(measured * predicted), which makes its square nearly that of the
 * logarithm of the ratio; and further by the distance, once that is far, so that a time that the model cannot
 * explain does not bend the others. */
#include "algorithm/fit.h"

#include <assert.h>
#include <math.h>

#define CONSTANTS_MAX  4
#define PASSES         20 /* of new weights */
#define CHOICE_SWEEPS  100
#define REGRET_SQUARED 2.0  /* what a choice that is twice as slow counts beyond its logarithm */
#define ERROR_SHARE    0.1  /* what errors of prediction count, beside choices */
#define SWEEPS         2000 /* over the constants, for given weights */
#define FAR            0.3  /* a logarithm of predicted / measured: from here on an outlier */
#define UNIT           1e6  /* times are predicted to a nanosecond, so a row is predicted on a larger scale */
#define PREDICTED_MIN  0.01 /* share of the measured time */

/* The constants that are fitted. */
struct constants {
    double *list[CONSTANTS_MAX];
    int count;
};

/* All samples depend on the same. */
static struct constants constants_of(const struct fit_sample *sample, struct tuning *tuning)
{
    if (algorithm_is_shared(sample->algorithm)) {
        struct tuning_shared *shared = &tuning->shared;
        return (struct constants){{&shared->latency_us, &shared->shared_latency_us, &shared->us_per_byte}, 3};
    }
    struct tuning_link *link = sample->group.local == LOCAL_SHM   ? &tuning->shm
                               : sample->group.local == LOCAL_UDS ? &tuning->uds
                                                                  : &tuning->tcp_local;
    return (struct constants){
        {&link->latency_us, &link->shared_latency_us, &link->overhead_us, &link->us_per_byte}, 4};
}

static double predict(const struct fit_sample *sample, const struct tuning *tuning)
{
    struct select_group group = sample->group;
    group.tuning = *tuning;
    return select_predict_us(&group, &sample->call, sample->algorithm);
}

/* By what each constant is multiplied, and what the others make of the time. */
static double count_row(const struct fit_sample *sample, const struct tuning *tuning,
                        double row[CONSTANTS_MAX])
{
    struct tuning unit = {.version = TUNING_VERSION}, others = *tuning;
    struct constants units = constants_of(sample, &unit), zeros = constants_of(sample, &others);
    for (int i = 0; i < units.count; i++) {
        *units.list[i] = UNIT;
        row[i] = predict(sample, &unit) / UNIT;
        *units.list[i] = *zeros.list[i] = 0;
    }
    return predict(sample, &others);
}

/* The normal equations: matrix * x = vector. */
struct equations {
    double matrix[CONSTANTS_MAX][CONSTANTS_MAX], vector[CONSTANTS_MAX];
};

static double weight_of(double measured, double predicted)
{
    double least = PREDICTED_MIN * measured;
    double distance = fabs(log((predicted > least ? predicted : least) / measured));
    double weight = 1 / (measured * (predicted > least ? predicted : least));
    return distance > FAR ? weight * FAR / distance : weight;
}

static void add_sample(const struct fit_sample *sample, const struct tuning *tuning, bool is_first,
                       struct equations *equations)
{
    double row[CONSTANTS_MAX] = {0};
    double rest = count_row(sample, tuning, row);
    double predicted = is_first ? sample->us : predict(sample, tuning);
    double weight = weight_of(sample->us, predicted), target = sample->us - rest;
    for (int i = 0; i < CONSTANTS_MAX; i++) {
        equations->vector[i] += weight * row[i] * target;
        for (int k = 0; k < CONSTANTS_MAX; k++)
            equations->matrix[i][k] += weight * row[i] * row[k];
    }
}

/* One constant after the other takes the value that is best for those of the rest, and at least 0; which ends
 * at the best of all that are not negative, since the error is convex. */
static void solve(const struct equations *equations, const struct constants *constants)
{
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        for (int i = 0; i < constants->count; i++) {
            double rest = equations->vector[i];
            if (equations->matrix[i][i] <= 0)
                continue;
            for (int k = 0; k < constants->count; k++)
                if (k != i)
                    rest -= equations->matrix[i][k] * *constants->list[k];
            double best = rest / equations->matrix[i][i];
            *constants->list[i] = best > 0 ? best : 0;
        }
    }
}

void fit_times(const struct fit_sample *samples, size_t count, struct tuning *tuning)
{
    for (int pass = 0; pass < PASSES && count > 0; pass++) {
        struct equations equations = {.vector = {0}};
        for (size_t i = 0; i < count; i++)
            add_sample(&samples[i], tuning, pass == 0, &equations);
        struct constants constants = constants_of(&samples[0], tuning);
        solve(&equations, &constants);
    }
}

double fit_error(const struct fit_sample *samples, size_t count, const struct tuning *tuning)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double predicted = predict(&samples[i], tuning), least = PREDICTED_MIN * samples[i].us;
        sum += fabs(log((predicted > least ? predicted : least) / samples[i].us));
    }
    return count > 0 ? exp(sum / (double)count) : 1;
}

/* ---- By choice --------------------------------------------------------------------------------- */

/* Two samples of one call in one group. */
static bool is_same_case(const struct fit_sample *a, const struct fit_sample *b)
{
    return a->group.size == b->group.size && a->group.crowding == b->group.crowding &&
           a->call.operation == b->call.operation && a->call.bytes == b->call.bytes &&
           a->call.type == b->call.type;
}

/* Is there an earlier sample of the same case? */
static bool was_seen(const struct fit_sample *samples, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (is_same_case(&samples[i], &samples[index]))
            return true;
    return false;
}

/* How much slower the choice is than the best, as a logarithm, in the case of which `first` is the first
 * sample. */
static double case_regret(const struct fit_sample *samples, size_t first, size_t count,
                          const struct tuning *tuning)
{
    double least = INFINITY, chosen_us = 0, best_us = INFINITY;
    for (size_t i = first; i < count; i++) {
        if (!is_same_case(&samples[first], &samples[i]))
            continue;
        double predicted = predict(&samples[i], tuning);
        if (predicted < least) {
            least = predicted;
            chosen_us = samples[i].us;
        }
        best_us = samples[i].us < best_us ? samples[i].us : best_us;
    }
    return log(chosen_us / best_us);
}

/* The mean of the cases, in which one that is far off may count more (`squared`) than several that are a
 * little. */
static double mean_regret(const struct fit_sample *samples, size_t count, const struct tuning *tuning,
                          double squared)
{
    double sum = 0;
    size_t cases = 0;
    for (size_t i = 0; i < count; i++) {
        if (was_seen(samples, i))
            continue;
        double regret = case_regret(samples, i, count, tuning);
        sum += regret + squared * regret * regret;
        cases++;
    }
    return cases > 0 ? sum / (double)cases : 0;
}

double fit_regret(const struct fit_sample *samples, size_t count, const struct tuning *tuning)
{
    return exp(mean_regret(samples, count, tuning, 0));
}

static double badness(const struct fit_sample *samples, size_t count, const struct tuning *tuning)
{
    return mean_regret(samples, count, tuning, REGRET_SQUARED) +
           ERROR_SHARE * log(fit_error(samples, count, tuning));
}

/* One constant after the other is tried a little and a lot larger and smaller, for as long as that helps. */
void fit_choice(const struct fit_sample *samples, size_t count, struct tuning *tuning)
{
    static const double factors[] = {0.25, 0.5, 0.8, 0.95, 1.05, 1.25, 2, 4};
    static const double least[CONSTANTS_MAX] = {0.05, 0.05, 0.05,
                                                1e-6}; /* from which a constant of 0 begins to grow */
    if (count == 0)
        return;
    struct constants constants = constants_of(&samples[0], tuning);
    assert(constants.count == CONSTANTS_MAX);
    double best = badness(samples, count, tuning);
    bool improved = true;
    for (int sweep = 0; sweep < CHOICE_SWEEPS && improved; sweep++) {
        improved = false;
        for (int i = 0; i < constants.count; i++) {
            double *constant = constants.list[i];
            for (size_t k = 0; k < sizeof factors / sizeof *factors; k++) {
                double before = *constant;
                *constant = (before > least[i] ? before : least[i]) * factors[k];
                double now = badness(samples, count, tuning);
                if (now < best) {
                    best = now;
                    improved = true;
                } else {
                    *constant = before;
                }
            }
        }
    }
}
