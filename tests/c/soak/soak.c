/* soak [SECONDS [SEED]]: 64 threads do whatever callers do, at random, for a long time, under a small memory limit.
 *
 * They start answers, read them slowly or not at all, cancel, time out, let go of handles, classify, save and restore
 * prefixes, load and free models, also under the feet of others. The time is cut into rounds; after each everybody has
 * let go of everything, and then nothing may be left: no handle, no request, no worker, not a byte by the library's
 * count, and by malloc's, after the warm-up, no growth beyond 1 % of what was in use. Every request ends in exactly
 * one way. A watchdog looks for threads that stand still, shows where everybody is, and fails.
 *
 * The last line counts, as a test suite's does. From the repository's root. */
#define _GNU_SOURCE
#include <gomlx.h>

#include <dirent.h>
#include <execinfo.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 64, SLOTS = 4, STANDS_STILL = 90 };
#define LIMIT (96ull << 20)

static const char *const folders[] = {"models/llama-tales-16m-4bit", "models/gemma3-domains-6m-4bit"};

/* How requests end, and the counts of each. */
enum end { DONE, CANCELLED, DEADLINE, BUSY, MEMORY, FREED, WRONG, ENDS };
static const char *const end_names[] = {"done", "cancelled", "deadline", "busy", "memory", "freed", "wrong"};
static unsigned long started, ended[ENDS];

/* Models that all threads share: each use takes a clone. */
static struct slot {
    pthread_mutex_t lock;
    gomlx_model *model;
} slots[SLOTS];

typedef struct worker {
    pthread_t thread;
    uint64_t dice;
    const char *doing; /* what it is inside of, for the watchdog */
    unsigned long steps;
} worker;

static worker workers[THREADS];
static bool round_over;
static unsigned failures;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static unsigned below(worker *self, unsigned n)
{
    self->dice = self->dice * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(self->dice >> 33) % n;
}

static void step(worker *self, const char *doing)
{
    __atomic_store_n(&self->doing, doing, __ATOMIC_RELAXED);
    __atomic_fetch_add(&self->steps, 1, __ATOMIC_RELAXED);
}

static void pause_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static void wrong(const char *what, const gomlx_error *error)
{
    /* The first few say it all. */
    if (__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED) < 20)
        printf("FAIL soak: %s: %s\n", what, error ? error->message : "");
}

/* Books how a request ended. */
static void book(gomlx_status status, const char *what, const gomlx_error *error)
{
    enum end end = WRONG;
    switch (status) {
    case GOMLX_OK:
    case GOMLX_DONE: end = DONE; break;
    case GOMLX_ERR_CANCELLED: end = CANCELLED; break;
    case GOMLX_ERR_DEADLINE: end = DEADLINE; break;
    case GOMLX_ERR_BUSY: end = BUSY; break;
    case GOMLX_ERR_MEMORY: end = MEMORY; break;
    case GOMLX_ERR_STATE:
        /* A batch's record tells of one of its requests only. */
        if (strcmp(what, "gomlx_generate_batch") == 0 || strstr(error->message, "the model was freed") || strstr(error->message, "being freed"))
            end = FREED;
        break;
    default: break;
    }
    if (end == WRONG)
        wrong(what, error);
    __atomic_fetch_add(&ended[end], 1, __ATOMIC_RELAXED);
}

static void begun(unsigned count)
{
    __atomic_fetch_add(&started, count, __ATOMIC_RELAXED);
}

static gomlx_model *load(worker *self)
{
    gomlx_model *model = NULL;
    gomlx_error error = {0};
    gomlx_model_options options = {.struct_size = sizeof options};
    const char *folder = folders[below(self, 2)];
    options.context_length = 128 << below(self, 3);
    options.threads = 1 + below(self, 2);
    options.max_sequences = below(self, 3) ? 0 : 1 + below(self, 4);
    options.max_queue = below(self, 3) ? 0 : 1 + below(self, 8);
    options.prefix_budget = below(self, 4) ? 0 : 1;
    options.weights = below(self, 4) ? GOMLX_WEIGHTS_MAPPED : GOMLX_WEIGHTS_READ;
    step(self, "load");
    gomlx_status status = gomlx_model_load(folder, strlen(folder), &options, &model, &error);
    if (status != GOMLX_OK && status != GOMLX_ERR_MEMORY)
        wrong("load", &error);
    return model;
}

/* A clone of a shared model, loaded where its place is empty. NULL: no memory for it now. */
static gomlx_model *borrow(worker *self)
{
    struct slot *slot = &slots[below(self, SLOTS)];
    gomlx_model *model = NULL, *old = NULL;
    bool replace = below(self, 40) == 0;
    step(self, "wait for a place");
    pthread_mutex_lock(&slot->lock);
    if (replace) {
        old = slot->model;
        slot->model = NULL;
    }
    if (!slot->model)
        slot->model = load(self);
    if (slot->model)
        model = gomlx_model_clone(slot->model);
    pthread_mutex_unlock(&slot->lock);
    step(self, "free a replaced model");
    gomlx_model_free(old);
    return model;
}

static gomlx_request request_of(worker *self)
{
    static const char *const prompts[] = {"Once upon a time", "The dog", "A long time ago, in a far land, there was",
                                          "Hi", "The king had a dog. The dog had a ball. The ball was red. "};
    gomlx_request request;
    const char *prompt = prompts[below(self, 5)];
    gomlx_request_init(&request, sizeof request, NULL);
    request.prompt = (gomlx_string){prompt, strlen(prompt)};
    request.max_tokens = 1 + below(self, 60);
    request.priority = (int)below(self, 3);
    request.temperature = below(self, 2) ? 0.9f : 0;
    if (below(self, 2))
        request.flags |= GOMLX_REQUEST_IGNORE_END;
    if (below(self, 4) == 0)
        request.deadline_ms = 1 + below(self, 300);
    if (below(self, 6) == 0) {
        request.when_full = GOMLX_FULL_ROLL;
        request.max_tokens = 200;
    }
    return request;
}

static int stop_sometimes(const gomlx_chunk *chunk, void *self)
{
    (void)chunk;
    step(self, "callback");
    return below(self, 50) == 0;
}

static void push(worker *self, const gomlx_model *model)
{
    gomlx_request request = request_of(self);
    gomlx_error error = {0};
    begun(1);
    step(self, "gomlx_generate");
    book(gomlx_generate(model, &request, stop_sometimes, self, NULL, &error), "gomlx_generate", &error);
}

/* Reads an answer at its own pace, may cancel it, may leave it. */
static void pull(worker *self, const gomlx_model *model)
{
    gomlx_request request = request_of(self);
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    gomlx_error error = {0};
    gomlx_control *control = below(self, 2) ? gomlx_control_new() : NULL;
    unsigned cancel_after = below(self, 3) ? 1000 : below(self, 10), leave_after = below(self, 4) ? 1000 : below(self, 10);
    unsigned slow = below(self, 4) ? 0 : below(self, 20);
    request.control = control;
    begun(1);
    step(self, "gomlx_generation_start");
    gomlx_status status = gomlx_generation_start(model, &request, &generation, &error);
    for (unsigned chunks = 0; status == GOMLX_OK || status == GOMLX_PENDING; chunks++) {
        if (chunks == cancel_after && control)
            gomlx_control_cancel(control);
        if (chunks == leave_after) {
            status = GOMLX_ERR_CANCELLED;
            break;
        }
        if (slow)
            pause_ms(slow);
        step(self, "gomlx_generation_next");
        status = gomlx_generation_next(generation, (int)below(self, 3) * 50 - 50, &chunk, &error);
    }
    book(status, "gomlx_generation_next", &error);
    step(self, "free an answer");
    if (below(self, 2)) {
        gomlx_control_free(control);
        control = NULL;
    }
    gomlx_generation_free(generation);
    gomlx_control_free(control);
}

static void batch(worker *self, const gomlx_model *model)
{
    gomlx_request requests[3];
    gomlx_status statuses[3] = {GOMLX_ERR_CANCELLED, GOMLX_ERR_CANCELLED, GOMLX_ERR_CANCELLED};
    gomlx_error error = {0};
    for (int i = 0; i < 3; i++)
        requests[i] = request_of(self);
    begun(3);
    step(self, "gomlx_generate_batch");
    gomlx_generate_batch(model, requests, 3, stop_sometimes, self, statuses, NULL, &error);
    for (int i = 0; i < 3; i++)
        book(statuses[i], "gomlx_generate_batch", &error);
}

static void classify(worker *self, const gomlx_model *model)
{
    static const char *const texts[] = {"book a flight to rome", "what is my balance", "play a song", "hello"};
    static const char *const labels[] = {" travel", " banking", " music and film"};
    gomlx_classify_request request;
    gomlx_string text[12], label[3];
    gomlx_classification results[12];
    gomlx_error error = {0};
    gomlx_classify_request_init(&request, sizeof request, NULL);
    request.pattern = (gomlx_string){"Sentence: {text}\nDomain:", 24};
    for (int i = 0; i < 12; i++) {
        const char *t = texts[below(self, 4)];
        text[i] = (gomlx_string){t, strlen(t)};
    }
    for (int i = 0; i < 3; i++)
        label[i] = (gomlx_string){labels[i], strlen(labels[i])};
    for (int i = 0; i < 12; i++)
        results[i] = (gomlx_classification){0};
    request.texts = text;
    request.text_count = 12;
    request.labels = label;
    request.label_count = 3;
    request.deadline_ms = below(self, 4) ? 0 : 1 + below(self, 100);
    begun(1);
    step(self, "gomlx_classify");
    book(gomlx_classify(model, &request, results, 12, NULL, NULL, NULL, &error), "gomlx_classify", &error);
}

static void keep_prefixes(worker *self, const gomlx_model *model)
{
    char path[64];
    gomlx_error error = {0};
    snprintf(path, sizeof path, "target/soak-prefixes-%d", (int)(self - workers) % 8);
    step(self, "gomlx_model_save_prefixes");
    gomlx_status status = gomlx_model_save_prefixes(model, path, strlen(path), NULL, &error);
    if (status != GOMLX_OK && status != GOMLX_ERR_MEMORY)
        wrong("gomlx_model_save_prefixes", &error);
    step(self, "gomlx_model_restore_prefixes");
    status = gomlx_model_restore_prefixes(model, path, strlen(path), NULL, &error);
    /* Another thread's file may be another model's by now. */
    if (status != GOMLX_OK && status != GOMLX_ERR_MEMORY && status != GOMLX_ERR_FORMAT)
        wrong("gomlx_model_restore_prefixes", &error);
}

/* A model of its own that goes while three others are inside calls: one by its only handle, two by their answers. Who
 * comes with the handle after the free would be a caller's mistake, so the first must be known to be inside. */
typedef struct victim {
    const gomlx_model *model;
    gomlx_generation *generation; /* NULL: the caller of gomlx_generate */
    bool inside;
    gomlx_status status;
    gomlx_error error;
    pthread_t thread;
} victim;

static gomlx_request endless(void)
{
    gomlx_request request;
    gomlx_request_init(&request, sizeof request, NULL);
    request.prompt = (gomlx_string){"Once", 4};
    request.flags = GOMLX_REQUEST_IGNORE_END;
    request.when_full = GOMLX_FULL_ROLL;
    return request;
}

static int noted(const gomlx_chunk *chunk, void *self)
{
    (void)chunk;
    __atomic_store_n(&((victim *)self)->inside, true, __ATOMIC_SEQ_CST);
    return 0;
}

static void *suffer(void *argument)
{
    victim *self = argument;
    if (self->generation) {
        gomlx_chunk chunk = {.struct_size = sizeof chunk};
        do
            self->status = gomlx_generation_next(self->generation, -1, &chunk, &self->error);
        while (self->status == GOMLX_OK);
        gomlx_generation_free(self->generation);
    } else {
        gomlx_request request = endless();
        self->status = gomlx_generate(self->model, &request, noted, self, NULL, &self->error);
        __atomic_store_n(&self->inside, true, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void free_under_their_feet(worker *self)
{
    victim victims[3];
    gomlx_model *model = load(self);
    unsigned count = 0;
    if (!model)
        return;
    for (unsigned i = 0; i < 3; i++) {
        victim *one = &victims[count];
        *one = (victim){.model = model};
        begun(1);
        if (i > 0) {
            gomlx_request request = endless();
            step(self, "start under their feet");
            gomlx_status status = gomlx_generation_start(model, &request, &one->generation, &one->error);
            if (status != GOMLX_OK) {
                book(status, "an answer of a model that goes", &one->error);
                continue;
            }
        }
        if (pthread_create(&one->thread, NULL, suffer, one) != 0) {
            wrong("pthread_create", NULL);
            break;
        }
        count++;
        step(self, "wait for the caller");
        while (i == 0 && !__atomic_load_n(&one->inside, __ATOMIC_SEQ_CST))
            pause_ms(1);
    }
    step(self, "free under their feet");
    gomlx_model_free(model);
    step(self, "join the callers");
    for (unsigned i = 0; i < count; i++) {
        pthread_join(victims[i].thread, NULL);
        book(victims[i].status, "a freed model's caller", &victims[i].error);
    }
}

static void *work(void *argument)
{
    worker *self = argument;
    while (!__atomic_load_n(&round_over, __ATOMIC_RELAXED)) {
        if (below(self, 60) == 0) {
            free_under_their_feet(self);
            continue;
        }
        gomlx_model *model = borrow(self);
        if (!model) {
            gomlx_memory_clear_cache();
            pause_ms(1 + below(self, 20));
            continue;
        }
        switch (below(self, 12)) {
        case 0: batch(self, model); break;
        case 1: classify(self, model); break;
        case 2:
            if (below(self, 8) == 0)
                keep_prefixes(self, model);
            break;
        case 3:
            if (below(self, 8) == 0)
                gomlx_memory_set_idle_limit(below(self, 2) ? UINT64_MAX : below(self, 2) ? 0 : 20 << 20, NULL);
            break;
        case 4:
        case 5:
        case 6: push(self, model); break;
        default: pull(self, model); break;
        }
        step(self, "free a clone");
        gomlx_model_free(model);
    }
    step(self, "done");
    return NULL;
}

/* Where a thread stands, written by itself. */
static void show_stack(int signal)
{
    void *frames[40];
    (void)signal;
    backtrace_symbols_fd(frames, backtrace(frames, 40), STDOUT_FILENO);
}

static void show_everybody(void)
{
    gomlx_runtime_info runtime = {.struct_size = sizeof runtime};
    gomlx_memory_info memory = {.struct_size = sizeof memory};
    gomlx_runtime_describe(&runtime, NULL);
    gomlx_memory_describe(&memory, NULL);
    printf("%llu models, %llu workers, %llu answers, %llu requests, %llu bytes active\n",
           (unsigned long long)runtime.live_models, (unsigned long long)runtime.live_workers,
           (unsigned long long)runtime.live_generations, (unsigned long long)runtime.live_requests,
           (unsigned long long)memory.active);
    for (int i = 0; i < THREADS; i++) {
        const char *doing = __atomic_load_n(&workers[i].doing, __ATOMIC_RELAXED);
        printf("thread %d: %s, step %lu\n", i, doing, __atomic_load_n(&workers[i].steps, __ATOMIC_RELAXED));
        fflush(stdout);
        if (strcmp(doing, "done") != 0) {
            pthread_kill(workers[i].thread, SIGUSR1);
            pause_ms(20);
        }
    }
    /* The library's own threads, as the system sees them. */
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    while (tasks && (task = readdir(tasks))) {
        char path[300], name[64] = "", where[128] = "";
        FILE *file;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        if ((file = fopen(path, "r"))) {
            if (!fgets(name, sizeof name, file))
                name[0] = 0;
            fclose(file);
        }
        snprintf(path, sizeof path, "/proc/self/task/%s/syscall", task->d_name);
        if ((file = fopen(path, "r"))) {
            if (!fgets(where, sizeof where, file))
                where[0] = 0;
            fclose(file);
        }
        name[strcspn(name, "\n")] = 0;
        where[strcspn(where, "\n")] = 0;
        printf("task %s %s: syscall %s\n", task->d_name, name, where);
    }
    fflush(stdout);
}

/* Fails the program when a thread makes no step for STANDS_STILL seconds. */
static void *watch(void *nothing)
{
    static unsigned long seen[THREADS];
    static double since[THREADS];
    for (;;) {
        pause_ms(1000);
        for (int i = 0; i < THREADS; i++) {
            const char *doing = __atomic_load_n(&workers[i].doing, __ATOMIC_RELAXED);
            unsigned long steps = __atomic_load_n(&workers[i].steps, __ATOMIC_RELAXED);
            if (steps != seen[i] || since[i] == 0 || strcmp(doing, "done") == 0) {
                seen[i] = steps;
                since[i] = now();
            } else if (now() - since[i] > STANDS_STILL) {
                printf("FAIL soak: thread %d stands still: %s\n", i, doing);
                show_everybody();
                printf("0 passed, 1 failed\n");
                fflush(stdout);
                _exit(1);
            }
        }
    }
    return nothing;
}

/* KiB of memory of our own that the system sees, freed blocks given back first. */
static long resident(void)
{
    char line[256];
    long kib = 0;
    malloc_trim(0);
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "RssAnon: %ld", &kib);
    if (file)
        fclose(file);
    return kib;
}

/* KiB that are allocated: what a leak adds to. The resident size also has what malloc keeps of freed blocks, which differs
 * by megabytes from round to round, up and down. */
static long allocated(void)
{
    struct mallinfo2 info = mallinfo2();
    return (long)((info.uordblks + info.hblkhd) / 1024);
}

static void nothing_is_left(int round)
{
    gomlx_runtime_info runtime = {.struct_size = sizeof runtime};
    gomlx_memory_info memory = {.struct_size = sizeof memory};
    gomlx_runtime_describe(&runtime, NULL);
    gomlx_memory_describe(&memory, NULL);
    if (runtime.live_models || runtime.live_generations || runtime.live_controls || runtime.live_requests ||
        runtime.live_workers || memory.active || memory.cached || memory.idle) {
        wrong("after a round something is left", NULL);
        printf("round %d: cached %llu, idle %llu\n", round, (unsigned long long)memory.cached,
               (unsigned long long)memory.idle);
        show_everybody();
    }
}

int main(int argc, char **argv)
{
    int seconds = argc > 1 ? atoi(argv[1]) : 1200;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    int rounds = seconds / 15 < 8 ? 8 : seconds / 15, warm_up = rounds / 4;
    long warm = 0, most = 0;
    gomlx_memory_info memory = {.struct_size = sizeof memory};
    pthread_t watchdog;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("soak: %d seconds in %d rounds, seed %llu\n", seconds, rounds, (unsigned long long)seed);
    /* One arena a thread would make the system's view depend on which threads met when. */
    mallopt(M_ARENA_MAX, 2);
    signal(SIGUSR1, show_stack);
    gomlx_memory_set_limit(LIMIT, NULL);
    for (int i = 0; i < SLOTS; i++)
        pthread_mutex_init(&slots[i].lock, NULL);
    for (int i = 0; i < THREADS; i++)
        workers[i] = (worker){.dice = seed + (uint64_t)i * 7919, .doing = "done"};
    if (pthread_create(&watchdog, NULL, watch, NULL) != 0)
        return 1;
    for (int round = 0; round < rounds; round++) {
        __atomic_store_n(&round_over, false, __ATOMIC_SEQ_CST);
        for (int i = 0; i < THREADS; i++)
            if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
                return 1;
        for (double began = now(); now() < began + (double)seconds / rounds;)
            pause_ms(20);
        __atomic_store_n(&round_over, true, __ATOMIC_SEQ_CST);
        for (int i = 0; i < THREADS; i++)
            pthread_join(workers[i].thread, NULL);
        for (int i = 0; i < SLOTS; i++) {
            gomlx_model_free(slots[i].model);
            slots[i].model = NULL;
        }
        nothing_is_left(round);
        long resting = resident(), kib = allocated();
        if (round < warm_up)
            warm = kib > warm ? kib : warm;
        else
            most = kib > most ? kib : most;
        printf("round %d: %ld KiB allocated, %ld KiB resident, %lu requests\n", round, kib, resting, started);
    }
    unsigned long sum = 0;
    for (int i = 0; i < ENDS; i++) {
        printf("%s %lu%s", end_names[i], ended[i], i + 1 < ENDS ? ", " : "\n");
        sum += ended[i];
    }
    if (sum != started)
        wrong("requests without an end, or with two", NULL);
    for (int i = 0; i <= MEMORY; i++)
        if (ended[i] == 0)
            wrong("an ending that was never seen; the soak is too short or too tame", NULL), puts(end_names[i]);
    gomlx_memory_describe(&memory, NULL);
    double in_use = (double)memory.peak / 1024 + (double)warm;
    if ((double)(most - warm) > in_use / 100)
        wrong("memory grew", NULL);
    printf("allocated at rest: %ld KiB in the warm-up, %ld KiB at most after it: %+.2f %% of %.0f KiB in use\n", warm, most,
           100.0 * (double)(most - warm) / in_use, in_use);
    printf("%d passed, %d failed\n", failures == 0, failures != 0);
    return failures != 0;
}
