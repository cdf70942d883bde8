#define _POSIX_C_SOURCE 200809L
#include "harness.h"

#include <math.h>
#include <time.h>

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void pull_and_push_agree(void)
{
    static answer pulled, pushed;
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", 60);
    pull(stories(), &request, &pulled);
    push(stories(), &request, &pushed);
    CHECK(pulled.status == GOMLX_DONE && pushed.status == GOMLX_OK);
    CHECK(pulled.len > 60 && strcmp(pulled.text, pushed.text) == 0);
    CHECK(pulled.chunks > 10 && pulled.chunks == pushed.chunks);
    CHECK(pulled.metrics.generated_tokens == pushed.metrics.generated_tokens);
}

static void says_the_end_again(void)
{
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    CHECK(stories());
    gomlx_request request = greedy("Hello", 2);
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    while (gomlx_generation_next(generation, -1, &chunk, NULL) == GOMLX_OK)
        ;
    const char *text = chunk.text.data;
    for (int i = 0; i < 3; i++)
        CHECK(gomlx_generation_next(generation, i - 1, &chunk, NULL) == GOMLX_DONE);
    CHECK(chunk.text.data == text); /* not written */
    gomlx_generation_free(generation);
}

static void waits_no_longer_than_asked(void)
{
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    CHECK(stories());
    gomlx_request request = greedy("Hello", 100);
    request.flags = GOMLX_REQUEST_IGNORE_END;
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    int chunks = 0, pending = 0;
    gomlx_status status;
    do {
        status = gomlx_generation_next(generation, 0, &chunk, NULL);
        chunks += status == GOMLX_OK;
        pending += status == GOMLX_PENDING;
    } while (status == GOMLX_OK || status == GOMLX_PENDING);
    gomlx_generation_free(generation);
    CHECK(status == GOMLX_DONE && chunks > 50 && pending > 0);
}

static void metrics_add_up(void)
{
    static answer out;
    uint32_t tokens[64];
    size_t count = 0;
    CHECK(stories());
    gomlx_request request = greedy("There was a small cat who lived in a tree", 50);
    request.flags = GOMLX_REQUEST_IGNORE_END;
    OK(gomlx_model_tokenize(stories(), request.prompt.data, request.prompt.len, 1, tokens, 64, &count, NULL));
    double before = seconds();
    pull(stories(), &request, &out);
    double wall = seconds() - before;
    const gomlx_metrics *m = &out.metrics;
    CHECK(m->stop_reason == GOMLX_STOP_MAX_TOKENS);
    CHECK(m->prompt_tokens == count && m->generated_tokens == 50 && out.tokens == 50);
    CHECK(m->queue_seconds >= 0 && m->prefill_seconds > 0 && m->decode_seconds > 0);
    CHECK(m->queue_seconds + m->prefill_seconds + m->decode_seconds <= wall * 1.01 + 1e-3);
    CHECK(m->first_token_seconds > 0 && m->first_token_seconds <= wall);
    CHECK(fabs(m->decode_tokens_per_second * m->decode_seconds - 49) < 0.5);
    double computed = (double)(m->prompt_tokens - m->cached_tokens);
    CHECK(fabs(m->prefill_tokens_per_second * m->prefill_seconds - computed) < 0.5);
    CHECK(m->peak_memory >= m->active_memory && m->active_memory > 8000000);
}

/* max_tokens, the end of the context, an end token, a stop text, a stop token. */
static void says_why_it_stopped(void)
{
    static answer out, whole;
    uint32_t tokens[120];
    gomlx_model *small = NULL;
    gomlx_model_options options = {.struct_size = sizeof options, .context_length = 128};
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", 5);
    pull(stories(), &request, &out);
    CHECK(out.status == GOMLX_DONE && out.metrics.stop_reason == GOMLX_STOP_MAX_TOKENS);
    CHECK(out.metrics.generated_tokens == 5);

    for (size_t i = 0; i < 120; i++)
        tokens[i] = 100 + (uint32_t)(i % 50);
    request = greedy("", UINT32_MAX);
    request.tokens = tokens;
    request.token_count = 120;
    request.flags = GOMLX_REQUEST_IGNORE_END;
    OK(gomlx_model_load(STORIES, strlen(STORIES), &options, &small, NULL));
    pull(small, &request, &out);
    gomlx_model_free(small);
    CHECK(out.status == GOMLX_DONE && out.metrics.stop_reason == GOMLX_STOP_CONTEXT_FULL);
    CHECK(out.metrics.generated_tokens == 8);

    request = greedy("Once upon a time", UINT32_MAX);
    pull(stories(), &request, &whole);
    CHECK(whole.status == GOMLX_DONE && whole.metrics.stop_reason == GOMLX_STOP_END_TOKEN);
    CHECK(whole.len > 200 && !strstr(whole.text, "<|"));

    gomlx_string stop = {whole.text + 60, 7};
    request.stop = &stop;
    request.stop_count = 1;
    pull(stories(), &request, &out);
    char expected[8] = {0};
    memcpy(expected, whole.text + 60, 7);
    CHECK(out.status == GOMLX_DONE && out.metrics.stop_reason == GOMLX_STOP_STOP);
    CHECK(out.len <= 60 && strncmp(whole.text, out.text, out.len) == 0); /* stops where the text first occurs */
    CHECK(strstr(whole.text, expected) == whole.text + out.len);

    uint32_t ids[512];
    size_t count = 0;
    OK(gomlx_model_tokenize(stories(), whole.text, whole.len, 0, ids, 512, &count, NULL));
    request = greedy("Once upon a time", UINT32_MAX);
    request.stop_tokens = ids + 20;
    request.stop_token_count = 1;
    pull(stories(), &request, &out);
    CHECK(out.status == GOMLX_DONE && out.metrics.stop_reason == GOMLX_STOP_STOP);
    CHECK(out.len < 200 && strncmp(whole.text, out.text, out.len) == 0);
}

static void repeats_itself_by_seed(void)
{
    static answer first, same, other;
    CHECK(stories());
    gomlx_request request = greedy("One day", 60);
    request.temperature = 1;
    request.flags = GOMLX_REQUEST_SEED;
    request.seed = 1234;
    pull(stories(), &request, &first);
    pull(stories(), &request, &same);
    request.seed = 1235;
    pull(stories(), &request, &other);
    CHECK(first.status == GOMLX_DONE && first.len > 20);
    CHECK(strcmp(first.text, same.text) == 0);
    CHECK(strcmp(first.text, other.text) != 0);
}

static void echo_begins_with_the_prompt(void)
{
    static answer out;
    CHECK(stories());
    gomlx_request request = greedy("The red hen", 5);
    request.flags = GOMLX_REQUEST_ECHO;
    pull(stories(), &request, &out);
    CHECK(out.status == GOMLX_DONE && strncmp(out.text, "The red hen", 11) == 0 && out.len > 11);
    CHECK(out.tokens == out.metrics.generated_tokens);
}

static void special_tokens_show_on_request(void)
{
    static answer out;
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", UINT32_MAX);
    request.flags = GOMLX_REQUEST_SPECIAL_IN_TEXT | GOMLX_REQUEST_ECHO;
    pull(stories(), &request, &out);
    CHECK(out.status == GOMLX_DONE && strncmp(out.text, "<|begin_of_text|>Once", 21) == 0);
}

/* Greedy: the chosen token is the best one, log-probabilities fall, and are probabilities. */
static void logprobs_come_with_each_token(void)
{
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    size_t tokens = 0;
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", 20);
    request.logprobs = 4;
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    while (gomlx_generation_next(generation, -1, &chunk, NULL) == GOMLX_OK) {
        CHECK(chunk.logprobs && chunk.top_tokens && chunk.top_logprobs && chunk.top_count == 4);
        for (size_t i = 0; i < chunk.token_count; i++, tokens++) {
            const float *top = chunk.top_logprobs + i * 4;
            float sum = 0;
            CHECK(chunk.top_tokens[i * 4] == chunk.tokens[i] && top[0] == chunk.logprobs[i]);
            for (size_t j = 0; j < 4; sum += expf(top[j]), j++)
                CHECK(top[j] <= 0 && (j == 0 || top[j] <= top[j - 1]));
            CHECK(sum <= 1.0001f);
        }
    }
    gomlx_generation_free(generation);
    CHECK(tokens == 20);

    request.logprobs = 0;
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    OK(gomlx_generation_next(generation, -1, &chunk, NULL));
    CHECK(!chunk.logprobs && !chunk.top_tokens && !chunk.top_logprobs && chunk.top_count == 0);
    gomlx_generation_free(generation);
}

static int32_t stop_at_third(const gomlx_chunk *chunk, void *user_data)
{
    (void)chunk;
    return ++*(int *)user_data == 3 ? 42 : 0;
}

static void callback_stops_it(void)
{
    int calls = 0;
    gomlx_metrics metrics = {.struct_size = sizeof metrics};
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", 200);
    OK(gomlx_generate(stories(), &request, stop_at_third, &calls, &metrics, NULL));
    CHECK(calls == 3 && metrics.stop_reason == GOMLX_STOP_CANCELLED);
    CHECK(metrics.generated_tokens >= 3 && metrics.generated_tokens < 200);
    calls = -1000;
    request.max_tokens = 4;
    OK(gomlx_generate(stories(), &request, stop_at_third, &calls, NULL, NULL)); /* no metrics wanted */
    FAILS(gomlx_generate(stories(), &request, NULL, NULL, NULL, &error), GOMLX_ERR_ARGUMENT, "on_chunk is NULL");
    metrics.struct_size = 0;
    FAILS(gomlx_generate(stories(), &request, stop_at_third, &calls, &metrics, &error), GOMLX_ERR_ARGUMENT,
          "sizeof(gomlx_metrics)");
}

/* A callback may use the library, even for another answer of the same model. */
static int32_t generate_inside(const gomlx_chunk *chunk, void *user_data)
{
    static answer inner;
    (void)chunk;
    gomlx_request request = greedy("Inside", 3);
    pull(stories(), &request, &inner);
    *(int *)user_data += inner.status == GOMLX_DONE && inner.metrics.generated_tokens == 3;
    return 0;
}

static void callback_may_call_the_library(void)
{
    int inner = 0;
    gomlx_metrics metrics = {.struct_size = sizeof metrics};
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", 5);
    OK(gomlx_generate(stories(), &request, generate_inside, &inner, &metrics, NULL));
    CHECK(inner >= 3 && metrics.stop_reason == GOMLX_STOP_MAX_TOKENS);
}

static int32_t cancel_inside(const gomlx_chunk *chunk, void *user_data)
{
    (void)chunk;
    gomlx_control_cancel(user_data);
    return 0;
}

static void control_cancels_it(void)
{
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    gomlx_metrics metrics = {.struct_size = sizeof metrics};
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", UINT32_MAX);
    request.flags = GOMLX_REQUEST_IGNORE_END;
    gomlx_control *control = gomlx_control_new();
    request.control = control;
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    OK(gomlx_generation_next(generation, -1, &chunk, NULL));
    uint64_t done = 0, total = 0;
    OK(gomlx_control_progress(control, &done, &total, NULL));
    CHECK(done == total && total > 0);
    gomlx_control_cancel(control);
    gomlx_status status;
    while ((status = gomlx_generation_next(generation, -1, &chunk, NULL)) == GOMLX_OK)
        ;
    CHECK(status == GOMLX_ERR_CANCELLED);
    FAILS(gomlx_generation_next(generation, 0, &chunk, &error), GOMLX_ERR_CANCELLED, "cancelled");
    OK(gomlx_generation_metrics(generation, &metrics, NULL));
    CHECK(metrics.stop_reason == GOMLX_STOP_CANCELLED && metrics.generated_tokens < 2000);
    gomlx_generation_free(generation);

    /* Cancelled already: nothing is computed. */
    FAILS(gomlx_generate(stories(), &request, cancel_inside, control, NULL, &error), GOMLX_ERR_CANCELLED, "cancelled");
    gomlx_control_free(control);

    /* From inside the callback. */
    request.control = control = gomlx_control_new();
    FAILS(gomlx_generate(stories(), &request, cancel_inside, control, NULL, &error), GOMLX_ERR_CANCELLED, "cancelled");
    gomlx_control_free(control);
}

static void deadline_ends_it(void)
{
    static answer out;
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", UINT32_MAX);
    request.flags = GOMLX_REQUEST_IGNORE_END;
    request.deadline_ms = 1;
    pull(stories(), &request, &out);
    CHECK(out.status == GOMLX_ERR_DEADLINE && strstr(out.error.message, "deadline"));
    CHECK(out.metrics.stop_reason == GOMLX_STOP_DEADLINE);
    request = greedy("Once upon a time", 3);
    request.deadline_ms = UINT64_MAX;
    pull(stories(), &request, &out);
    CHECK(out.status == GOMLX_DONE);
}

/* A bad out struct loses no chunk. */
static void bad_out_structs_lose_nothing(void)
{
    static answer expected;
    gomlx_generation *generation = NULL;
    gomlx_chunk good = {.struct_size = sizeof good}, bad = {.struct_size = 4};
    gomlx_metrics metrics = {.struct_size = 12};
    char text[256] = "";
    CHECK(stories());
    gomlx_request request = greedy("Once upon a time", 6);
    pull(stories(), &request, &expected);
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    for (gomlx_status status = GOMLX_OK; status != GOMLX_DONE;) {
        FAILS(gomlx_generation_next(generation, -1, &bad, &error), GOMLX_ERR_ARGUMENT, "sizeof(gomlx_chunk)");
        FAILS(gomlx_generation_next(generation, -1, NULL, &error), GOMLX_ERR_ARGUMENT, "gomlx_chunk is NULL");
        status = gomlx_generation_next(generation, -1, &good, NULL);
        if (status == GOMLX_OK)
            strcat(text, good.text.data);
    }
    FAILS(gomlx_generation_metrics(generation, &metrics, &error), GOMLX_ERR_ARGUMENT, "sizeof(gomlx_metrics)");
    FAILS(gomlx_generation_metrics(NULL, &metrics, &error), GOMLX_ERR_ARGUMENT, "gomlx_generation is NULL");
    FAILS(gomlx_generation_next(NULL, 0, &good, &error), GOMLX_ERR_ARGUMENT, "gomlx_generation is NULL");
    gomlx_generation_free(generation);
    gomlx_generation_free(NULL);
    CHECK(strcmp(text, expected.text) == 0);
}

/* The request's memory is the caller's again as soon as the answer has started. */
static void request_is_copied(void)
{
    static answer expected;
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    char prompt[] = "Once upon a time", stop_text[] = "\n\n", text[2048] = "";
    gomlx_string stop = {stop_text, 2};
    gomlx_logit_bias bias = {100, -5};
    CHECK(stories());
    gomlx_request request = greedy(prompt, 40);
    request.stop = &stop;
    request.stop_count = 1;
    request.logit_bias = &bias;
    request.logit_bias_count = 1;
    pull(stories(), &request, &expected);
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    memset(prompt, 'x', sizeof prompt);
    memset(stop_text, 'e', sizeof stop_text);
    memset(&stop, 0, sizeof stop);
    memset(&bias, 0x11, sizeof bias);
    memset(&request, 0x11, sizeof request);
    while (gomlx_generation_next(generation, -1, &chunk, NULL) == GOMLX_OK)
        strcat(text, chunk.text.data);
    gomlx_generation_free(generation);
    CHECK(expected.len > 40 && strcmp(text, expected.text) == 0);
}

/* Banned by its bias, the first greedy token is another one. */
static void logit_bias_bans_a_token(void)
{
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    CHECK(stories());
    gomlx_request request = greedy("Once upon a", 1);
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    OK(gomlx_generation_next(generation, -1, &chunk, NULL));
    gomlx_logit_bias bias = {chunk.tokens[0], -INFINITY};
    gomlx_generation_free(generation);
    request.logit_bias = &bias;
    request.logit_bias_count = 1;
    OK(gomlx_generation_start(stories(), &request, &generation, NULL));
    OK(gomlx_generation_next(generation, -1, &chunk, NULL));
    uint32_t other = chunk.tokens[0];
    gomlx_generation_free(generation);
    CHECK(other != bias.token);
}

const test generation_tests[] = {
    {"generation: pull and push agree", pull_and_push_agree},
    {"generation says the end again", says_the_end_again},
    {"generation waits no longer than asked", waits_no_longer_than_asked},
    {"generation metrics add up", metrics_add_up},
    {"generation says why it stopped", says_why_it_stopped},
    {"generation repeats itself by seed", repeats_itself_by_seed},
    {"generation echo begins with the prompt", echo_begins_with_the_prompt},
    {"generation special tokens show on request", special_tokens_show_on_request},
    {"generation logprobs come with each token", logprobs_come_with_each_token},
    {"generation callback stops it", callback_stops_it},
    {"generation callback may call the library", callback_may_call_the_library},
    {"generation control cancels it", control_cancels_it},
    {"generation deadline ends it", deadline_ends_it},
    {"generation bad out structs lose nothing", bad_out_structs_lose_nothing},
    {"generation request is copied", request_is_copied},
    {"generation logit bias bans a token", logit_bias_bans_a_token},
    {0},
};
