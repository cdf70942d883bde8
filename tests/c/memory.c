#include "harness.h"

static gomlx_memory_info now(void)
{
    gomlx_memory_info info = {.struct_size = sizeof info};
    if (gomlx_memory_describe(&info, NULL) != GOMLX_OK)
        fail(__FILE__, __LINE__, "%s", gomlx_last_error()->message);
    return info;
}

static void follows_a_load(void)
{
    gomlx_memory_info before = now();
    gomlx_model *model = load(STORIES);
    gomlx_memory_info loaded = now();
    CHECK(loaded.active >= before.active + 8000000); /* the weights' 8.9 MB */
    CHECK(loaded.mapped >= before.mapped + 8000000);
    CHECK(loaded.peak >= loaded.active);
    gomlx_model_free(model);
    CHECK(now().active == before.active);
    CHECK(now().mapped == before.mapped);
    gomlx_memory_reset_peak();
    CHECK(now().peak == now().active);
}

static void limit_refuses_a_load(void)
{
    gomlx_model *model = NULL;
    gomlx_memory_info before = now();
    CHECK(before.limit == UINT64_MAX);
    OK(gomlx_memory_set_limit(before.active + 1000000, NULL));
    CHECK(now().limit == before.active + 1000000);
    FAILS(gomlx_model_load(STORIES, strlen(STORIES), NULL, &model, &error), GOMLX_ERR_MEMORY, "limit");
    CHECK(model == NULL);
    CHECK(now().active == before.active);
    OK(gomlx_memory_set_limit(UINT64_MAX, NULL));
    model = load(STORIES);
    CHECK(model);
    gomlx_model_free(model);
}

/* A generation that the limit ends leaves the model usable. */
static void limit_ends_a_generation(void)
{
    static answer ended, after;
    gomlx_model *model = load(STORIES);
    CHECK(model);
    gomlx_request request = greedy("Once upon a time", 64);
    OK(gomlx_memory_set_limit(now().active, NULL));
    pull(model, &request, &ended);
    OK(gomlx_memory_set_limit(UINT64_MAX, NULL));
    CHECK(ended.status == GOMLX_ERR_MEMORY);
    CHECK(strstr(ended.error.message, "limit"));
    pull(model, &request, &after);
    CHECK(after.status == GOMLX_DONE && after.metrics.generated_tokens == 64);
    gomlx_model_free(model);
}

static void cache_is_limited_and_cleared(void)
{
    static answer out;
    gomlx_model *model = load(STORIES);
    CHECK(model);
    gomlx_request request = greedy("Once upon a time", 8);
    OK(gomlx_memory_set_cache_limit(0, NULL));
    CHECK(now().cache_limit == 0);
    pull(model, &request, &out);
    CHECK(out.status == GOMLX_DONE);
    CHECK(now().cached == 0);
    OK(gomlx_memory_set_cache_limit(UINT64_MAX, NULL));
    gomlx_memory_clear_cache();
    pull(model, &request, &out);
    CHECK(out.status == GOMLX_DONE);
    gomlx_model_free(model);
}

const test memory_tests[] = {
    {"memory follows a load", follows_a_load},
    {"memory limit refuses a load", limit_refuses_a_load},
    {"memory limit ends a generation", limit_ends_a_generation},
    {"memory cache is limited and cleared", cache_is_limited_and_cleared},
    {0},
};
