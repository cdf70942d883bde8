#include "harness.h"

#include <pthread.h>

static gomlx_status provoke(gomlx_error *error)
{
    return gomlx_memory_describe(NULL, error);
}

static void *fresh_thread(void *out)
{
    *(gomlx_error *)out = *gomlx_last_error();
    return provoke(NULL) == GOMLX_ERR_ARGUMENT ? out : NULL;
}

static void belongs_to_its_thread(void)
{
    gomlx_error theirs;
    pthread_t thread;
    void *result = NULL;
    FAILS(gomlx_request_init(NULL, 8, &error), GOMLX_ERR_ARGUMENT, "gomlx_request is NULL");
    CHECK(pthread_create(&thread, NULL, fresh_thread, &theirs) == 0);
    pthread_join(thread, &result);
    CHECK(result == &theirs);
    CHECK(theirs.code == GOMLX_OK && theirs.message[0] == 0);
    CHECK(strstr(gomlx_last_error()->message, "gomlx_request is NULL"));
}

static void record_is_nullable(void)
{
    CHECK(provoke(NULL) == GOMLX_ERR_ARGUMENT);
    CHECK(gomlx_last_error()->code == GOMLX_ERR_ARGUMENT);
}

static void success_leaves_it_alone(void)
{
    gomlx_error error = {.code = 77, .message = "mine"};
    gomlx_memory_info info = {.struct_size = sizeof info};
    provoke(NULL);
    gomlx_error before = *gomlx_last_error();
    OK(gomlx_memory_describe(&info, &error));
    CHECK(error.code == 77 && strcmp(error.message, "mine") == 0);
    CHECK(memcmp(&before, gomlx_last_error(), sizeof before) == 0);
}

static void long_messages_are_cut_between_characters(void)
{
    for (size_t pad = 0; pad < 4; pad++) {
        char path[2048] = "/missing/xxx";
        char *at = path + strlen(path) - pad;
        for (int i = 0; i < 400; i++, at += 4)
            memcpy(at, "\xf0\x9f\x98\x80", 5);
        gomlx_model *model = NULL;
        /* FAILS looks for the terminator and for broken characters. */
        FAILS(gomlx_model_load(path, strlen(path), NULL, &model, &error), GOMLX_ERR_IO, "/missing/");
        CHECK(strlen(gomlx_last_error()->message) > 500);
    }
}

const test error_tests[] = {
    {"error belongs to its thread", belongs_to_its_thread},
    {"error record is nullable", record_is_nullable},
    {"error is left alone by success", success_leaves_it_alone},
    {"error messages are cut between characters", long_messages_are_cut_between_characters},
    {0},
};
