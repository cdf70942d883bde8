#define _POSIX_C_SOURCE 200809L
#include "harness.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a child of a process with a model and an answer in progress finds. 0 or the line of the first surprise: the
 * child must not print or leave through the harness. */
static int in_child(const gomlx_model *model, gomlx_generation *generation, gomlx_control *control)
{
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    gomlx_metrics metrics = {.struct_size = sizeof metrics};
    gomlx_model_info info = {.struct_size = sizeof info};
    gomlx_generation *fresh = NULL;
    gomlx_request request = greedy("Once upon a time", 4);
    uint64_t done, total;
    size_t count;
    if (gomlx_generation_start(model, &request, &fresh, NULL) != GOMLX_ERR_FORKED || fresh)
        return __LINE__;
    if (gomlx_generation_next(generation, -1, &chunk, NULL) != GOMLX_ERR_FORKED)
        return __LINE__;
    if (gomlx_generation_metrics(generation, &metrics, NULL) != GOMLX_ERR_FORKED)
        return __LINE__;
    if (gomlx_model_describe(model, &info, NULL) != GOMLX_ERR_FORKED)
        return __LINE__;
    if (gomlx_model_tokenize(model, "a", 1, 0, NULL, 0, &count, NULL) != GOMLX_ERR_FORKED)
        return __LINE__;
    if (gomlx_model_clone(model) || gomlx_last_error()->code != GOMLX_ERR_FORKED)
        return __LINE__;
    if (gomlx_control_progress(control, &done, &total, NULL) != GOMLX_OK)
        return __LINE__;
    gomlx_control_cancel(control);

    /* A model of its own works, also while its parent's threads waited for work. */
    static answer out;
    gomlx_model *own = NULL;
    if (gomlx_model_load(STORIES, strlen(STORIES), NULL, &own, NULL) != GOMLX_OK)
        return __LINE__;
    pull(own, &request, &out);
    if (out.status != GOMLX_DONE || out.metrics.generated_tokens != 4)
        return __LINE__;
    gomlx_model_free(own);

    gomlx_generation_free(generation);
    gomlx_control_free(control);
    gomlx_model_free((gomlx_model *)model);
    return 0;
}

static void child_is_told(void)
{
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    for (int round = 0; round < rounds(10); round++) {
        gomlx_generation *generation = NULL;
        gomlx_model *model = load(STORIES);
        gomlx_control *control = gomlx_control_new();
        CHECK(model && control);
        gomlx_request request = greedy("Once upon a time", UINT32_MAX);
        request.flags = GOMLX_REQUEST_IGNORE_END;
        request.control = control;
        OK(gomlx_generation_start(model, &request, &generation, NULL));
        OK(gomlx_generation_next(generation, -1, &chunk, NULL));

        fflush(NULL);
        pid_t child = fork(); /* while the model computes */
        if (child == 0) {
            alarm(120); /* a hang ends as a signal */
            leave_child(in_child(model, generation, control) % 256);
        }
        int status = -1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status)); /* otherwise it crashed or hung */
        if (WEXITSTATUS(status) != 0)
            fail(__FILE__, WEXITSTATUS(status), "the child was surprised here");

        /* The parent noticed nothing. */
        OK(gomlx_generation_next(generation, -1, &chunk, NULL));
        gomlx_generation_free(generation);
        gomlx_control_free(control);
        gomlx_model_free(model);
    }
}

const test fork_tests[] = {{"fork: the child is told", child_is_told}, {0}};
