/* gomlx_model_options.sharing: one model for all who ask for it. */
#define _POSIX_C_SOURCE 200809L
#include "harness.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOADERS = 8 };

static gomlx_model *shared_load(const char *folder, gomlx_sharing sharing, uint32_t context, gomlx_status *status)
{
    gomlx_model_options options;
    gomlx_model *model = NULL;
    gomlx_model_options_init(&options, sizeof options, NULL);
    options.sharing = sharing;
    options.context_length = context;
    *status = gomlx_model_load(folder, strlen(folder), &options, &model, NULL);
    return model;
}

static uint64_t mapped(void)
{
    gomlx_memory_info info = {.struct_size = sizeof info};
    return gomlx_memory_describe(&info, NULL) == GOMLX_OK ? info.mapped : 0;
}

typedef struct loader {
    pthread_t thread;
    const char *folder;
    gomlx_model *model;
    gomlx_status status;
} loader;

static void *run_loader(void *argument)
{
    loader *l = argument;
    l->model = shared_load(l->folder, GOMLX_SHARING_PROCESS, 0, &l->status);
    return NULL;
}

/* Many threads load at once: one model, a handle each, freed in any order; then it is gone. */
static void threads_load_one_model(void)
{
    static loader loaders[LOADERS];
    gomlx_status status;
    uint64_t before = mapped(), handles = live_handles();
    gomlx_model *alone = shared_load(DOMAINS, GOMLX_SHARING_NONE, 0, &status);
    uint64_t size = mapped() - before;
    CHECK(alone && size > 0);
    gomlx_model_free(alone);
    CHECK(mapped() == before);
    for (int round = 0; round < rounds(10); round++) {
        for (int i = 0; i < LOADERS; i++) {
            loaders[i].folder = i % 2 ? DOMAINS : DOMAINS "/../gemma3-domains-6m-4bit";
            CHECK(pthread_create(&loaders[i].thread, NULL, run_loader, &loaders[i]) == 0);
        }
        for (int i = 0; i < LOADERS; i++)
            pthread_join(loaders[i].thread, NULL);
        for (int i = 0; i < LOADERS; i++)
            CHECK(loaders[i].status == GOMLX_OK && loaders[i].model);
        CHECK(mapped() == before + size && live_handles() == handles + LOADERS);
        for (int i = 0; i < LOADERS; i++) {
            static answer said;
            gomlx_request request = greedy("Sentence:", 3);
            int at = (i * 3 + round) % LOADERS;
            pull(loaders[at].model, &request, &said);
            CHECK(said.status == GOMLX_DONE);
            gomlx_model_free(loaders[at].model);
        }
        CHECK(mapped() == before && live_handles() == handles);
    }
}

/* Other options, or an owner who does not share: another model. */
static void other_options_are_another_model(void)
{
    gomlx_status status;
    uint64_t before = mapped();
    gomlx_model *one = shared_load(DOMAINS, GOMLX_SHARING_PROCESS, 100, &status);
    uint64_t size = mapped() - before;
    gomlx_model *two = shared_load(DOMAINS, GOMLX_SHARING_PROCESS, 101, &status);
    gomlx_model *own = shared_load(DOMAINS, GOMLX_SHARING_NONE, 100, &status);
    CHECK(one && two && own && mapped() == before + 3 * size);
    gomlx_model_free(one);
    gomlx_model_free(two);
    gomlx_model_free(own);
    CHECK(mapped() == before);
}

/* A load that fails is everybody's failure, and nobody waits for it afterwards. */
static void failures_are_not_shared(void)
{
    static loader loaders[LOADERS];
    gomlx_status status;
    for (int i = 0; i < LOADERS; i++) {
        loaders[i].folder = "models/nobody";
        CHECK(pthread_create(&loaders[i].thread, NULL, run_loader, &loaders[i]) == 0);
    }
    for (int i = 0; i < LOADERS; i++)
        pthread_join(loaders[i].thread, NULL);
    for (int i = 0; i < LOADERS; i++)
        CHECK(loaders[i].status == GOMLX_ERR_IO && loaders[i].model == NULL);
    CHECK(shared_load(DOMAINS, 7, 0, &status) == NULL && status == GOMLX_ERR_ARGUMENT);

    gomlx_model_options options;
    gomlx_model *model = NULL;
    gomlx_control *control = gomlx_control_new();
    OK(gomlx_model_options_init(&options, sizeof options, NULL));
    options.sharing = GOMLX_SHARING_PROCESS;
    options.control = control;
    gomlx_control_cancel(control);
    FAILS(gomlx_model_load(DOMAINS, strlen(DOMAINS), &options, &model, &error), GOMLX_ERR_CANCELLED, "cancelled");
    gomlx_control_free(control);
    model = shared_load(DOMAINS, GOMLX_SHARING_PROCESS, 0, &status);
    CHECK(model != NULL);
    gomlx_model_free(model);
}

/* A kept model stays without any handle. In a child, because it would stay for all tests; a child also has none of its
 * parent's shared models. */
static void kept_models_stay(void)
{
    gomlx_status status;
    gomlx_model *parents = shared_load(DOMAINS, GOMLX_SHARING_PROCESS, 0, &status);
    CHECK(parents != NULL);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        uint64_t before = mapped(), handles = live_handles();
        gomlx_model *model = shared_load(DOMAINS, GOMLX_SHARING_KEPT, 0, &status);
        uint64_t held = mapped();
        static answer said;
        gomlx_request request = greedy("Sentence:", 3);
        bool right = model && held > before;
        if (right)
            pull(model, &request, &said);
        right = right && said.status == GOMLX_DONE;
        gomlx_model_free(model);
        right = right && mapped() == held && live_handles() == handles;
        model = shared_load(DOMAINS, GOMLX_SHARING_PROCESS, 0, &status);
        right = right && model && mapped() == held;
        gomlx_model_free(model);
        leave_child(right && mapped() == held ? 0 : 1);
    }
    int outcome = -1;
    CHECK(child > 0 && waitpid(child, &outcome, 0) == child);
    gomlx_model_free(parents);
    CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0);
}

const test sharing_tests[] = {
    {"threads load one model", threads_load_one_model},
    {"other options are another model", other_options_are_another_model},
    {"failures are not shared", failures_are_not_shared},
    {"kept models stay", kept_models_stay},
    {0},
};
