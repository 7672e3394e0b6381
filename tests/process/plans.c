/* Plans: the same calls again and again, with new data each time; beside other calls, together, refused where
 * they must be.  Any group of 1 to 8 ranks: tutti run -n 3 -- plans */
#include "check.h"
#include "exercise.h"

#define RUNS      25
#define CALLS_MAX 20

static struct job job;

/* Every operation as a plan of its own, run many times, started and waited for, or run. */
static void a_plan_gives_the_right_result_each_time(void)
{
    static const size_t counts[] = {0, 1, 257, 20000};
    for (int o = 0; o < OPERATIONS; o++)
        for (int c = 0; c < 4; c++)
            for (int in_place = 0; in_place < 2; in_place++) {
                struct exercise e = {.in_place = in_place == 1, .scattered = c % 2 == 1, .issue = ISSUE_PLAN};
                tutti_plan *plan = NULL;
                tutti_request *request = NULL;
                e.call = (struct tutti_call){.op = operations[o].op,
                                             .count = counts[c],
                                             .type = c % 2 == 0 ? TUTTI_FLOAT32 : TUTTI_INT64,
                                             .reduction = TUTTI_AVG,
                                             .root = (o + c) % job.size};
                if (!operations[o].reduces)
                    e.call.reduction = TUTTI_SUM;
                exercise_prepare(&job, &e);
                expect(&job, &e, tutti_plan_new(job.comm, &e.call, 1, &plan));
                for (int run = 0; run < RUNS; run++) {
                    exercise_refill(&job, &e);
                    if (run % 2 == 0) {
                        expect(&job, &e, tutti_plan_run(plan, -1, NULL));
                    } else {
                        expect(&job, &e, tutti_plan_start(plan, &request));
                        expect(&job, &e, tutti_wait(&request, -1));
                        CHECK(request == NULL);
                    }
                    exercise_verify(&job, &e);
                }
                tutti_plan_free(plan);
                exercise_finish(&job, &e);
            }
}

/* Several calls, some of which run as one. */
static void a_plan_of_several_calls_gives_each_its_own_result(void)
{
    struct exercise exercises[CALLS_MAX] = {{{0}}};
    struct tutti_call calls[CALLS_MAX];
    tutti_plan *plan = NULL;
    for (int i = 0; i < CALLS_MAX; i++) {
        struct exercise *e = &exercises[i];
        e->issue = ISSUE_PLAN;
        e->in_place = i % 3 == 0;
        e->call = (struct tutti_call){.op = i % 7 == 6 ? TUTTI_ALL_TO_ALL : TUTTI_ALL_REDUCE,
                                      .count = (size_t)i * 37,
                                      .type = TUTTI_BFLOAT16,
                                      .reduction = TUTTI_PREMULTIPLIED_SUM};
        if (i % 7 == 6)
            e->call.reduction = TUTTI_SUM;
        exercise_prepare(&job, e);
        calls[i] = e->call;
    }
    expect(&job, NULL, tutti_plan_new(job.comm, calls, CALLS_MAX, &plan));
    memset(calls, 0xff, sizeof calls); /* they were copied */
    for (int run = 0; run < RUNS; run++) {
        for (int i = 0; i < CALLS_MAX; i++)
            exercise_refill(&job, &exercises[i]);
        expect(&job, &exercises[0], tutti_plan_run(plan, -1, NULL));
        for (int i = 0; i < CALLS_MAX; i++)
            exercise_verify(&job, &exercises[i]);
    }
    tutti_plan_free(plan);
    for (int i = 0; i < CALLS_MAX; i++)
        exercise_finish(&job, &exercises[i]);
}

/* It exchanges nothing, so a rank may have a plan for what others call without. */
static void a_plan_meets_the_same_call_without_one(void)
{
    for (int planner = 0; planner < job.size; planner++) {
        struct exercise e = {
            .issue = ISSUE_PLAN,
            .call = {.op = TUTTI_ALL_REDUCE, .count = 5000, .type = TUTTI_FLOAT32, .reduction = TUTTI_SUM}};
        tutti_plan *plan = NULL;
        tutti_request *request = NULL;
        exercise_prepare(&job, &e);
        if (job.rank == planner) {
            expect(&job, &e, tutti_plan_new(job.comm, &e.call, 1, &plan));
            expect(&job, &e, tutti_plan_run(plan, -1, NULL));
        } else {
            expect(&job, &e, tutti_run(job.comm, &e.call, 1, -1, &request));
        }
        tutti_plan_free(plan);
        exercise_finish(&job, &e);
    }
}

/* Several plans and plain calls under way at once, waited for in the reverse order. */
static void plans_are_in_flight_with_other_calls(void)
{
    enum { PLANS = 8 };
    struct exercise exercises[PLANS] = {{{0}}};
    tutti_plan *plans[PLANS];
    for (int i = 0; i < PLANS; i++) {
        exercises[i].issue = ISSUE_PLAN;
        exercises[i].call = (struct tutti_call){.op = i % 2 == 0 ? TUTTI_ALL_REDUCE : TUTTI_ALL_GATHER,
                                                .count = (size_t)1 << (2 * i),
                                                .type = TUTTI_INT32,
                                                .reduction = TUTTI_SUM};
        exercise_prepare(&job, &exercises[i]);
        expect(&job, &exercises[i], tutti_plan_new(job.comm, &exercises[i].call, 1, &plans[i]));
    }
    for (int run = 0; run < RUNS; run++) {
        tutti_request *requests[PLANS];
        const struct exercise between = {.call = {.op = TUTTI_BROADCAST,
                                                  .count = 99,
                                                  .type = TUTTI_INT16,
                                                  .reduction = TUTTI_SUM,
                                                  .root = run % job.size}};
        for (int i = 0; i < PLANS; i++) {
            exercise_refill(&job, &exercises[i]);
            expect(&job, &exercises[i], tutti_plan_start(plans[i], &requests[i]));
            if (i == run % PLANS)
                exercise_run(&job, between, ISSUE_BLOCKING);
        }
        for (int i = PLANS - 1; i >= 0; i--) {
            expect(&job, &exercises[i], tutti_wait(&requests[i], -1));
            exercise_verify(&job, &exercises[i]);
        }
    }
    for (int i = 0; i < PLANS; i++) {
        tutti_plan_free(plans[i]);
        exercise_finish(&job, &exercises[i]);
    }
}

/* An argument error on one rank disturbs nobody. */
static void what_a_plan_refuses(void)
{
    float buffer[8] = {0};
    struct tutti_error error = TUTTI_ERROR_INIT;
    const struct tutti_call good = {.op = TUTTI_ALL_REDUCE,
                                    .send = buffer,
                                    .recv = buffer,
                                    .count = 8,
                                    .type = TUTTI_FLOAT32,
                                    .reduction = TUTTI_SUM};
    struct tutti_call bad = good;
    const struct tutti_call message = {.op = TUTTI_SEND, .send = buffer, .count = 1, .type = TUTTI_FLOAT32};
    tutti_plan *plan = (tutti_plan *)buffer;
    tutti_request *first = NULL, *second = (tutti_request *)buffer;
    bad.reduction = 0;
    CHECK(tutti_plan_new(job.comm, &bad, 1, &plan) == TUTTI_ERR_ARGUMENT && plan == NULL);
    plan = (tutti_plan *)buffer;
    CHECK(tutti_plan_new(job.comm, &message, 1, &plan) == TUTTI_ERR_ARGUMENT && plan == NULL);
    OK(job.comm, tutti_get_error(job.comm, &error));
    CHECK(error.code == TUTTI_ERR_ARGUMENT && strstr(error.message, "plan") != NULL);
    CHECK(tutti_plan_new(job.comm, &good, 1, NULL) == TUTTI_ERR_ARGUMENT);
    CHECK(tutti_plan_new(job.comm, &good, 0, &plan) == TUTTI_ERR_ARGUMENT && plan == NULL);
    CHECK(tutti_plan_new(job.comm, NULL, 1, &plan) == TUTTI_ERR_ARGUMENT && plan == NULL);
    CHECK(tutti_plan_new(NULL, &good, 1, &plan) == TUTTI_ERR_ARGUMENT);
    tutti_plan_free(NULL);

    OK(job.comm, tutti_plan_new(job.comm, &good, 1, &plan));
    OK(job.comm, tutti_plan_start(plan, &first));
    CHECK(tutti_plan_start(plan, &second) == TUTTI_ERR_ARGUMENT && second == NULL);
    CHECK(tutti_plan_run(plan, -1, NULL) == TUTTI_ERR_ARGUMENT);
    OK(job.comm, tutti_wait(&first, -1));
    OK(job.comm, tutti_plan_run(plan, -1, NULL));
    tutti_plan_free(plan);
}

/* A plan of a group that has ended gives its error, and can be freed. */
static void a_plan_outlives_the_group_only_to_be_freed(void)
{
    const struct tutti_call barrier = {.op = TUTTI_BARRIER};
    tutti_plan *plan = NULL;
    tutti_request *request = NULL;
    OK(job.comm, tutti_plan_new(job.comm, &barrier, 1, &plan));
    OK(job.comm, tutti_finalize(job.comm, 60000));
    CHECK(tutti_plan_run(plan, -1, NULL) == TUTTI_ERR_FINALIZED);
    CHECK(tutti_plan_start(plan, &request) == TUTTI_ERR_FINALIZED && request == NULL);
    tutti_plan_free(plan);
}

int main(void)
{
    job_init(&job);
    check_rank = job.rank;
    a_plan_gives_the_right_result_each_time();
    a_plan_of_several_calls_gives_each_its_own_result();
    a_plan_meets_the_same_call_without_one();
    plans_are_in_flight_with_other_calls();
    what_a_plan_refuses();
    a_plan_outlives_the_group_only_to_be_freed();
    tutti_free(job.comm);
    if (job.rank == 0)
        printf("plans of %d ranks are right\n", job.size);
    return 0;
}
