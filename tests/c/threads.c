#define _POSIX_C_SOURCE 200809L
#include "harness.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

enum { THREADS = 8 };

typedef struct job {
    const gomlx_model *model;
    char prompt[64];
    answer alone, together;
    pthread_t thread;
} job;

static job jobs[THREADS];

static gomlx_request request_of(const job *job)
{
    gomlx_request request = greedy(job->prompt, 40);
    request.temperature = 0.8f;
    request.flags = GOMLX_REQUEST_SEED;
    request.seed = (uint64_t)(job - jobs);
    return request;
}

static void *run_job(void *argument)
{
    job *job = argument;
    gomlx_request request = request_of(job);
    pull(job->model, &request, &job->together);
    return NULL;
}

/* Whoever else is served: the same answer. */
static void share_a_model(void)
{
    static const char *const prompts[] = {"Once upon a time", "The dog", "A long time ago, in a far land", "Hi"};
    CHECK(stories());
    for (int i = 0; i < THREADS; i++) {
        jobs[i].model = stories();
        snprintf(jobs[i].prompt, sizeof jobs[i].prompt, "%s", prompts[i % 4]);
        gomlx_request request = request_of(&jobs[i]);
        pull(jobs[i].model, &request, &jobs[i].alone);
    }
    for (int round = 0; round < rounds(5); round++) {
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&jobs[i].thread, NULL, run_job, &jobs[i]) == 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(jobs[i].thread, NULL);
        for (int i = 0; i < THREADS; i++) {
            CHECK(jobs[i].together.status == GOMLX_DONE && jobs[i].together.len > 10);
            CHECK(strcmp(jobs[i].alone.text, jobs[i].together.text) == 0);
        }
    }
}

static gomlx_generation *contested;

static void *wait_inside(void *outcome)
{
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    gomlx_status status;
    do
        status = gomlx_generation_next(contested, -1, &chunk, NULL);
    while (status == GOMLX_OK || status == GOMLX_ERR_STATE);
    *(gomlx_status *)outcome = status;
    return NULL;
}

/* Two threads inside one generation: one of them hears of it, and neither breaks anything. */
static void inside_one_generation_are_refused(void)
{
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    gomlx_metrics metrics = {.struct_size = sizeof metrics};
    pthread_t thread;
    gomlx_status theirs = GOMLX_OK, ours;
    int refused = 0;
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", 150);
    request.flags = GOMLX_REQUEST_IGNORE_END;
    OK(gomlx_generation_start(stories(), &request, &contested, NULL));
    CHECK(pthread_create(&thread, NULL, wait_inside, &theirs) == 0);
    do {
        ours = gomlx_generation_next(contested, 0, &chunk, NULL);
        if (ours == GOMLX_ERR_STATE) {
            refused++;
            if (!strstr(gomlx_last_error()->message, "another thread is inside"))
                fail(__FILE__, __LINE__, "%s", gomlx_last_error()->message);
            sched_yield();
        }
        gomlx_status described = gomlx_generation_metrics(contested, &metrics, NULL);
        if (described != GOMLX_OK && described != GOMLX_ERR_STATE)
            fail(__FILE__, __LINE__, "%s", gomlx_last_error()->message);
    } while (ours == GOMLX_OK || ours == GOMLX_PENDING || ours == GOMLX_ERR_STATE);
    pthread_join(thread, NULL);
    gomlx_generation_free(contested);
    CHECK(ours == GOMLX_DONE && theirs == GOMLX_DONE);
    CHECK(refused > 0);
}

static void *cancel_soon(void *control)
{
    struct timespec moment = {0, 20000000};
    nanosleep(&moment, NULL);
    gomlx_control_cancel(control);
    gomlx_control_free(control);
    return NULL;
}

static void cancel_each_other(void)
{
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    pthread_t thread;
    gomlx_status status;
    CHECK(stories());
    for (int round = 0; round < rounds(10); round++) {
        gomlx_request request = greedy("Once upon a time", UINT32_MAX);
        request.flags = GOMLX_REQUEST_IGNORE_END;
        gomlx_control *control = gomlx_control_new();
        request.control = control;
        OK(gomlx_generation_start(stories(), &request, &generation, NULL));
        CHECK(pthread_create(&thread, NULL, cancel_soon, gomlx_control_clone(control)) == 0);
        while ((status = gomlx_generation_next(generation, -1, &chunk, NULL)) == GOMLX_OK)
            ;
        pthread_join(thread, NULL);
        gomlx_generation_free(generation);
        gomlx_control_free(control);
        CHECK(status == GOMLX_ERR_CANCELLED || status == GOMLX_DONE);
    }
}

/* A generation may begin on one thread, go on on another and be freed on a third. */
static void *one_chunk(void *generation)
{
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    return gomlx_generation_next(generation, -1, &chunk, NULL) == GOMLX_OK ? generation : NULL;
}

static void *free_it(void *generation)
{
    gomlx_generation_free(generation);
    return generation;
}

static void hand_a_generation_on(void)
{
    gomlx_generation *generation = NULL;
    pthread_t thread;
    void *result = NULL;
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", 50);
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    for (int i = 0; i < 5; i++) {
        CHECK(pthread_create(&thread, NULL, i < 4 ? one_chunk : free_it, generation) == 0);
        pthread_join(thread, &result);
        CHECK(result == generation);
    }
}

/* Full queue: the next request is refused, and the model goes on. */
static void too_many_are_refused(void)
{
    gomlx_model *model = NULL;
    gomlx_generation *generations[8] = {0};
    gomlx_model_options options = {.struct_size = sizeof options, .max_sequences = 1, .max_queue = 2};
    int started = 0, busy = 0;
    OK(gomlx_model_load(STORIES, strlen(STORIES), &options, &model, NULL));
    gomlx_request request = greedy("Once upon a time", UINT32_MAX);
    request.flags = GOMLX_REQUEST_IGNORE_END;
    for (int i = 0; i < 8; i++) {
        gomlx_status status = gomlx_generation_start(model, &request, &generations[i], NULL);
        started += status == GOMLX_OK;
        busy += status == GOMLX_ERR_BUSY;
    }
    for (int i = 0; i < 8; i++)
        gomlx_generation_free(generations[i]);
    gomlx_model_free(model);
    CHECK(started >= 2 && started <= 4 && busy == 8 - started);
}

const test threads_tests[] = {
    {"threads share a model", share_a_model},
    {"threads inside one generation are refused", inside_one_generation_are_refused},
    {"threads cancel each other", cancel_each_other},
    {"threads hand a generation on", hand_a_generation_on},
    {"threads too many are refused", too_many_are_refused},
    {0},
};
