#include "harness.h"

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

/* The model's handle is gone, its answer goes on to the end. */
static void generation_keeps_its_model(void)
{
    static answer expected;
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    char text[4096] = "";
    gomlx_status status;
    CHECK(stories());
    gomlx_request request = greedy("The king", 60);
    pull(stories(), &request, &expected);
    gomlx_model *model = load(STORIES);
    CHECK(model);
    OK(gomlx_generation_start(model, &request, &generation, NULL));
    gomlx_model_free(model);
    while ((status = gomlx_generation_next(generation, -1, &chunk, NULL)) == GOMLX_OK)
        strcat(text, chunk.text.data);
    gomlx_generation_free(generation);
    CHECK(status == GOMLX_DONE && strcmp(text, expected.text) == 0);
}

static uint64_t active(void)
{
    gomlx_memory_info info = {.struct_size = sizeof info};
    return gomlx_memory_describe(&info, NULL) == GOMLX_OK ? info.active : 0;
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
    {"lifetime: a generation keeps its model", generation_keeps_its_model},
    {"lifetime: loads two hundred times", loads_two_hundred_times},
    {"lifetime: failed loads leave nothing", failed_loads_leave_nothing},
    {0},
};
