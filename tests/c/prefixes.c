#define _XOPEN_SOURCE 700
#include "harness.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define FILE_NAME "target/c-test-prefixes"

static uint64_t cached_tokens(const gomlx_model *model, const gomlx_request *request)
{
    static answer out;
    pull(model, request, &out);
    return out.metrics.cached_tokens;
}

static void survive_a_restart(void)
{
    size_t saved = 0, taken = 0;
    gomlx_request request = greedy("Once upon a time there was a king who had a dog, and the dog had a ball", 9);
    gomlx_model *model = load(STORIES);
    CHECK(model && cached_tokens(model, &request) == 0);
    OK(gomlx_model_save_prefixes(model, FILE_NAME, strlen(FILE_NAME), &saved, NULL));
    gomlx_model_free(model);
    model = load(STORIES);
    CHECK(model);
    OK(gomlx_model_restore_prefixes(model, FILE_NAME, strlen(FILE_NAME), &taken, NULL));
    CHECK(saved == taken && saved > 20);
    CHECK(cached_tokens(model, &request) > 15);
    gomlx_model_free(model);
    model = load(DOMAINS);
    CHECK(model);
    FAILS(gomlx_model_restore_prefixes(model, FILE_NAME, strlen(FILE_NAME), NULL, &error), GOMLX_ERR_FORMAT,
          "another checkpoint");
    FAILS(gomlx_model_restore_prefixes(model, "nowhere", 7, NULL, &error), GOMLX_ERR_IO, "nowhere");
    FAILS(gomlx_model_save_prefixes(model, "tests/c", 7, NULL, &error), GOMLX_ERR_IO, "not a file");
    FAILS(gomlx_model_save_prefixes(model, "no/such/folder", 14, NULL, &error), GOMLX_ERR_IO, "no/such");
    FAILS(gomlx_model_save_prefixes(NULL, "a", 1, NULL, &error), GOMLX_ERR_ARGUMENT, "NULL");
    gomlx_model_free(model);
    unlink(FILE_NAME);
}

static long size_of(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size = -1;
    if (file && fseek(file, 0, SEEK_END) == 0)
        size = ftell(file);
    if (file)
        fclose(file);
    return size;
}

/* No file of this process may pass 64 KiB: writing fails as on a full disk. */
static void full_disk_is_told(void)
{
    struct rlimit old, small;
    size_t first = 0, second = 0;
    char leftover[64];
    gomlx_request request = greedy("Once upon a time", 40), longer = greedy("The king", 400);
    longer.flags = GOMLX_REQUEST_IGNORE_END;
    gomlx_model *model = load(STORIES);
    CHECK(model && cached_tokens(model, &request) == 0);
    OK(gomlx_model_save_prefixes(model, FILE_NAME, strlen(FILE_NAME), &first, NULL));
    long size = size_of(FILE_NAME);
    cached_tokens(model, &longer);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
    small = old;
    small.rlim_cur = 65536;
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    gomlx_error error = {0};
    gomlx_status status = gomlx_model_save_prefixes(model, FILE_NAME, strlen(FILE_NAME), &second, &error);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    CHECK(status == GOMLX_ERR_IO && strstr(error.message, FILE_NAME) && second == 0);
    /* The file that was there is whole, and nothing lies beside it. */
    CHECK(size_of(FILE_NAME) == size);
    for (int i = 0; i < 8; i++) {
        snprintf(leftover, sizeof leftover, FILE_NAME ".%ld-%d.tmp", (long)getpid(), i);
        CHECK(size_of(leftover) == -1);
    }
    OK(gomlx_model_restore_prefixes(model, FILE_NAME, strlen(FILE_NAME), NULL, NULL));
    OK(gomlx_model_save_prefixes(model, FILE_NAME, strlen(FILE_NAME), &second, NULL));
    CHECK(second > first && size_of(FILE_NAME) > size);
    gomlx_model_free(model);
    unlink(FILE_NAME);
}

/* The context is full and the answer goes on, if asked to. */
static void full_context_rolls(void)
{
    static answer out;
    gomlx_model *model = NULL;
    gomlx_model_options options = {.struct_size = sizeof options, .context_length = 64};
    OK(gomlx_model_load(STORIES, strlen(STORIES), &options, &model, NULL));
    gomlx_request request = greedy("Once upon a time", 300);
    request.flags = GOMLX_REQUEST_IGNORE_END;
    pull(model, &request, &out);
    CHECK(out.status == GOMLX_DONE && out.metrics.stop_reason == GOMLX_STOP_CONTEXT_FULL);
    CHECK(out.metrics.rolled_tokens == 0);
    request.when_full = GOMLX_FULL_ROLL;
    pull(model, &request, &out);
    CHECK(out.status == GOMLX_DONE && out.metrics.stop_reason == GOMLX_STOP_MAX_TOKENS);
    CHECK(out.metrics.generated_tokens == 300 && out.metrics.rolled_tokens > 200);
    gomlx_generation *generation = NULL;
    request.keep_tokens = 33;
    FAILS(gomlx_generation_start(model, &request, &generation, &error), GOMLX_ERR_ARGUMENT, "half");
    request.when_full = 7;
    FAILS(gomlx_generation_start(model, &request, &generation, &error), GOMLX_ERR_ARGUMENT, "when_full");
    gomlx_model_free(model);
}

/* Idle models go when a limit says so, and come back when they are used. */
static void idle_models_unload(void)
{
    static answer before, after;
    gomlx_runtime_info runtime = {.struct_size = sizeof runtime};
    gomlx_memory_info memory = {.struct_size = sizeof memory};
    gomlx_request request = greedy("Once upon a time", 20);
    gomlx_model *model = load(STORIES);
    CHECK(model);
    pull(model, &request, &before);
    OK(gomlx_memory_set_idle_limit(0, NULL));
    gomlx_runtime_describe(&runtime, NULL);
    for (int i = 0; i < 10000 && runtime.live_workers > 0; i++) {
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        gomlx_runtime_describe(&runtime, NULL);
    }
    OK(gomlx_memory_describe(&memory, NULL));
    pull(model, &request, &after);
    OK(gomlx_memory_set_idle_limit(UINT64_MAX, NULL));
    CHECK(runtime.live_workers == 0 && memory.idle == 0 && memory.idle_limit == 0);
    CHECK(after.status == GOMLX_DONE && strcmp(before.text, after.text) == 0);
    gomlx_model_free(model);
}

const test prefixes_tests[] = {
    {"prefixes survive a restart", survive_a_restart},
    {"prefixes: a full disk is told", full_disk_is_told},
    {"prefixes: a full context rolls", full_context_rolls},
    {"prefixes: idle models unload", idle_models_unload},
    {0},
};
