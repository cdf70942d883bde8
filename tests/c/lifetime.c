#include "harness.h"

#include <pthread.h>
#include <sched.h>

/* load, generate, cancel, free: every order of freeing model, clone, generation and control, with the answer
 * untouched, in progress, cancelled or complete. */
static void frees_in_every_order(void)
{
    enum { UNTOUCHED, IN_PROGRESS, CANCELLED, COMPLETE, STATES };
    uint64_t before = live_handles();
    for (int state = 0; state < STATES; state++) {
        for (int order = 0; order < 24; order++) {
            gomlx_chunk chunk = {.struct_size = sizeof chunk};
            gomlx_generation *generation = NULL;
            gomlx_model *model = load(STORIES), *clone = gomlx_model_clone(model);
            gomlx_control *control = gomlx_control_new();
            CHECK(model && clone && control);
            gomlx_request request = greedy("Once upon a time", state == COMPLETE ? 3 : UINT32_MAX);
            request.flags = GOMLX_REQUEST_IGNORE_END;
            request.control = control;
            OK(gomlx_generation_start(model, &request, &generation, NULL));
            CHECK(live_handles() == before + 4);
            if (state != UNTOUCHED)
                OK(gomlx_generation_next(generation, -1, &chunk, NULL));
            if (state == CANCELLED)
                gomlx_control_cancel(control);
            while (state == COMPLETE && gomlx_generation_next(generation, -1, &chunk, NULL) == GOMLX_OK)
                ;
            int left[4] = {0, 1, 2, 3}, code = order;
            for (int count = 4; count > 0; count--) {
                int at = code % count, which = left[at];
                code /= count;
                left[at] = left[count - 1];
                switch (which) {
                case 0: gomlx_model_free(model); break;
                case 1: gomlx_model_free(clone); break;
                case 2: gomlx_generation_free(generation); break;
                case 3: gomlx_control_free(control); break;
                }
            }
            CHECK(live_handles() == before);
        }
    }
}

/* One handle of two is gone: answers go on to their end. */
static void another_handle_keeps_the_model(void)
{
    static answer expected;
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    char text[4096] = "";
    gomlx_status status;
    CHECK(stories());
    gomlx_request request = greedy("The king", 60);
    pull(stories(), &request, &expected);
    gomlx_model *model = load(STORIES), *clone = gomlx_model_clone(model);
    CHECK(model && clone);
    OK(gomlx_generation_start(model, &request, &generation, NULL));
    gomlx_model_free(model);
    while ((status = gomlx_generation_next(generation, -1, &chunk, NULL)) == GOMLX_OK)
        strcat(text, chunk.text.data);
    gomlx_generation_free(generation);
    gomlx_model_free(clone);
    CHECK(status == GOMLX_DONE && strcmp(text, expected.text) == 0);
}

static uint64_t active(void)
{
    gomlx_memory_info info = {.struct_size = sizeof info};
    return gomlx_memory_describe(&info, NULL) == GOMLX_OK ? info.active : 0;
}

/* A caller that is inside a call when its model goes. */
typedef struct caller {
    const gomlx_model *model;
    gomlx_model *frees; /* frees this one from inside its callback */
    bool inside; /* by __atomic_*: C99 has no atomics of its own */
    gomlx_status status;
    gomlx_error error;
    pthread_t thread;
} caller;

static gomlx_request endless(const char *prompt)
{
    gomlx_request request = greedy(prompt, UINT32_MAX);
    request.flags = GOMLX_REQUEST_IGNORE_END;
    return request;
}

static int noted(const gomlx_chunk *chunk, void *caller_of)
{
    caller *self = caller_of;
    (void)chunk;
    __atomic_store_n(&self->inside, true, __ATOMIC_SEQ_CST);
    gomlx_model_free(self->frees);
    self->frees = NULL;
    return 0;
}

static void *generates(void *caller_of)
{
    caller *self = caller_of;
    gomlx_request request = endless("Once upon a time");
    self->status = gomlx_generate(self->model, &request, noted, self, NULL, &self->error);
    return NULL;
}

static void *generates_a_batch(void *caller_of)
{
    caller *self = caller_of;
    gomlx_request requests[2] = {endless("The dog"), endless("A cat")};
    self->status = gomlx_generate_batch(self->model, requests, 2, noted, self, NULL, NULL, &self->error);
    return NULL;
}

static void *pulls(void *caller_of)
{
    caller *self = caller_of;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    gomlx_generation *generation = NULL;
    gomlx_request request = endless("The king");
    self->status = gomlx_generation_start(self->model, &request, &generation, &self->error);
    while (self->status == GOMLX_OK) {
        self->status = gomlx_generation_next(generation, -1, &chunk, &self->error);
        __atomic_store_n(&self->inside, true, __ATOMIC_SEQ_CST);
    }
    gomlx_generation_free(generation);
    return NULL;
}

static bool ended_by_the_free(const caller *caller)
{
    return caller->status == GOMLX_ERR_STATE && strstr(caller->error.message, "the model was freed");
}

/* The last handle goes while others are inside calls, or wait their turn: all of them hear of it, and when free comes
 * back nothing of the model is left. */
static void freeing_ends_what_runs_and_waits(void)
{
    enum { CALLERS = 6 };
    static void *(*const kinds[])(void *) = {generates, pulls, generates_a_batch};
    static caller callers[CALLERS];
    for (int round = 0; round < rounds(20); round++) {
        uint64_t before = active();
        gomlx_model *model = load(STORIES);
        gomlx_generation *unread = NULL;
        gomlx_chunk chunk = {.struct_size = sizeof chunk};
        gomlx_request request = endless("Hi");
        gomlx_status status;
        CHECK(model);
        OK(gomlx_generation_start(model, &request, &unread, NULL));
        for (int i = 0; i < CALLERS; i++) {
            callers[i] = (caller){.model = model};
            CHECK(pthread_create(&callers[i].thread, NULL, kinds[i % 3], &callers[i]) == 0);
        }
        for (int i = 0; i < CALLERS; i++)
            while (!__atomic_load_n(&callers[i].inside, __ATOMIC_SEQ_CST))
                sched_yield();
        gomlx_model_free(model);
        CHECK(active() == before);
        for (int i = 0; i < CALLERS; i++)
            pthread_join(callers[i].thread, NULL);
        for (int i = 0; i < CALLERS; i++)
            CHECK(ended_by_the_free(&callers[i]));
        while ((status = gomlx_generation_next(unread, -1, &chunk, NULL)) == GOMLX_OK)
            ;
        CHECK(status == GOMLX_ERR_STATE);
        CHECK(gomlx_generation_next(unread, -1, &chunk, NULL) == GOMLX_ERR_STATE); /* it says the same again */
        gomlx_generation_free(unread);
    }
}

static void a_callback_may_free_its_model(void)
{
    uint64_t before = active();
    for (int i = 0; i < 2; i++) {
        gomlx_model *model = load(STORIES);
        caller self = {.model = model, .frees = model};
        CHECK(model);
        (i ? generates : generates_a_batch)(&self);
        CHECK(ended_by_the_free(&self));
        CHECK(active() == before);
    }
}

/* What a leak checker then looks at. */
static void loads_two_hundred_times(void)
{
    uint64_t before = active();
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    for (int i = 0; i < rounds(200); i++) {
        gomlx_generation *generation = NULL;
        gomlx_model *model = load(i % 2 ? STORIES : DOMAINS);
        CHECK(model);
        gomlx_request request = greedy("Once", 1 + (uint32_t)i % 3);
        OK(gomlx_generation_start(model, &request, &generation, NULL));
        if (i % 3)
            OK(gomlx_generation_next(generation, -1, &chunk, NULL));
        gomlx_generation_free(generation);
        gomlx_model_free(model);
        CHECK(active() == before);
    }
}

static void failed_loads_leave_nothing(void)
{
    uint64_t before = active(), handles = live_handles();
    gomlx_model *model = NULL;
    for (int i = 0; i < rounds(100); i++)
        FAILS(gomlx_model_load("tests/c", 7, NULL, &model, &error), GOMLX_ERR_IO, "config.json");
    CHECK(active() == before && live_handles() == handles);
}

const test lifetime_tests[] = {
    {"lifetime: frees in every order", frees_in_every_order},
    {"lifetime: another handle keeps the model", another_handle_keeps_the_model},
    {"lifetime: freeing ends what runs and waits", freeing_ends_what_runs_and_waits},
    {"lifetime: a callback may free its model", a_callback_may_free_its_model},
    {"lifetime: loads two hundred times", loads_two_hundred_times},
    {"lifetime: failed loads leave nothing", failed_loads_leave_nothing},
    {0},
};
