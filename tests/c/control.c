#define _POSIX_C_SOURCE 200809L
#include "harness.h"

#include <signal.h>

static void counts_nothing_before_the_work(void)
{
    uint64_t done = 9, total = 9;
    gomlx_control *control = gomlx_control_new();
    OK(gomlx_control_progress(control, &done, &total, NULL));
    CHECK(done == 0 && total == 0);
    FAILS(gomlx_control_progress(control, NULL, &total, &error), GOMLX_ERR_ARGUMENT, "out_done is NULL");
    FAILS(gomlx_control_progress(control, &done, NULL, &error), GOMLX_ERR_ARGUMENT, "out_total is NULL");
    gomlx_control_free(control);
}

static void null_is_harmless(void)
{
    uint64_t done, total;
    gomlx_control_cancel(NULL);
    gomlx_control_free(NULL);
    CHECK(gomlx_control_clone(NULL) == NULL);
    CHECK(strstr(gomlx_last_error()->message, "gomlx_control is NULL"));
    FAILS(gomlx_control_progress(NULL, &done, &total, &error), GOMLX_ERR_ARGUMENT, "gomlx_control is NULL");
}

static void shows_the_progress_of_a_load(void)
{
    uint64_t done = 0, total = 0;
    gomlx_model *model = NULL;
    gomlx_model_options options;
    OK(gomlx_model_options_init(&options, sizeof options, NULL));
    gomlx_control *control = gomlx_control_new();
    options.control = control;
    OK(gomlx_model_load(STORIES, strlen(STORIES), &options, &model, NULL));
    gomlx_model_free(model);
    OK(gomlx_control_progress(control, &done, &total, NULL));
    CHECK(done > 0 && done == total);
    gomlx_control_free(control);
}

static gomlx_control *handled;

static void on_signal(int number)
{
    (void)number;
    gomlx_control_cancel(handled);
}

/* A clone cancels what its original was given to, also from a signal handler, also before the work begins. */
static void cancels_from_a_signal_handler(void)
{
    gomlx_model *model = NULL;
    gomlx_model_options options;
    OK(gomlx_model_options_init(&options, sizeof options, NULL));
    gomlx_control *control = gomlx_control_new();
    handled = gomlx_control_clone(control);
    options.control = control;
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_DFL);
    FAILS(gomlx_model_load(STORIES, strlen(STORIES), &options, &model, &error), GOMLX_ERR_CANCELLED, "cancelled");
    CHECK(model == NULL);
    gomlx_control_free(control);
    gomlx_control_free(handled);
}

/* Freed in either order, what is left still works. */
static void outlives_its_clones(void)
{
    uint64_t done, total;
    gomlx_control *control = gomlx_control_new(), *clone = gomlx_control_clone(control);
    gomlx_control_free(control);
    OK(gomlx_control_progress(clone, &done, &total, NULL));
    gomlx_control_cancel(clone);
    gomlx_control_free(clone);
}

static void is_not_another_kind_of_handle(void)
{
    gomlx_control *control = gomlx_control_new();
    gomlx_model_info info = {.struct_size = sizeof info};
    FAILS(gomlx_model_describe((const gomlx_model *)(const void *)control, &info, &error), GOMLX_ERR_ARGUMENT,
          "not a live gomlx_model");
    gomlx_control_free(control);
}

const test control_tests[] = {
    {"control counts nothing before the work", counts_nothing_before_the_work},
    {"control takes NULL", null_is_harmless},
    {"control shows the progress of a load", shows_the_progress_of_a_load},
    {"control cancels from a signal handler", cancels_from_a_signal_handler},
    {"control outlives its clones", outlives_its_clones},
    {"control is not another kind of handle", is_not_another_kind_of_handle},
    {0},
};
