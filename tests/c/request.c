#include "harness.h"

#include <math.h>
#include <stdlib.h>

static gomlx_status start(const gomlx_request *request, gomlx_error *error)
{
    gomlx_generation *generation = NULL;
    gomlx_status status = gomlx_generation_start(stories(), request, &generation, error);
    if (status != GOMLX_OK && generation)
        fail(__FILE__, __LINE__, "a failed start wrote a handle");
    gomlx_generation_free(generation);
    return status;
}

static void has_defaults(void)
{
    gomlx_request request;
    memset(&request, 0x55, sizeof request);
    OK(gomlx_request_init(&request, sizeof request, NULL));
    CHECK(request.struct_size == sizeof request && request.flags == 0 && request.priority == 0);
    CHECK(request.prompt.len == 0 && !request.tokens && !request.messages && !request.control);
    CHECK(request.max_tokens == UINT32_MAX);
    CHECK(request.temperature == 0 && request.top_k == 0 && request.top_p == 1 && request.min_p == 0);
    CHECK(request.typical_p == 1 && request.repetition_penalty == 1 && request.logprobs == 0);
    FAILS(gomlx_request_init(NULL, sizeof request, &error), GOMLX_ERR_ARGUMENT, "gomlx_request is NULL");
    FAILS(gomlx_request_init(&request, 3, &error), GOMLX_ERR_ARGUMENT, "struct_size 3");
}

static void keeps_to_struct_size(void)
{
    struct {
        gomlx_request known;
        char unknown[32];
    } newer;
    CHECK(stories());
    OK(gomlx_request_init(&newer.known, sizeof newer, NULL));
    CHECK(newer.known.struct_size == sizeof newer && newer.unknown[31] == 0);
    newer.known.prompt = str("A");
    newer.known.max_tokens = 1;
    OK(start(&newer.known, NULL));
    newer.unknown[31] = 1;
    FAILS(start(&newer.known, &error), GOMLX_ERR_ARGUMENT, "gomlx_request: byte");

    gomlx_request older = greedy("A", 1);
    older.struct_size = offsetof(gomlx_request, stop);
    older.stop_count = 77; /* behind its end */
    OK(start(&older, NULL));
    older.struct_size = 0;
    FAILS(start(&older, &error), GOMLX_ERR_ARGUMENT, "struct_size 0");
    FAILS(start(NULL, &error), GOMLX_ERR_ARGUMENT, "gomlx_request is NULL");
}

static void needs_one_prompt(void)
{
    uint32_t tokens[] = {8187, 100};
    gomlx_message turn = {{"user", 4}, {"Hi", 2}};
    CHECK(stories());
    gomlx_request request = greedy("", 1);
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "prompt is empty");
    request.tokens = tokens;
    request.token_count = 2;
    OK(start(&request, NULL));
    request.prompt = str("text");
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "more than one of prompt");
    request.token_count = 0;
    OK(start(&request, NULL));
    request.messages = &turn;
    request.message_count = 1;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "more than one of prompt");
    request.prompt.len = 0;
    OK(start(&request, NULL));
    request.messages_json = str("[{\"role\": \"user\", \"content\": \"Hi\"}]");
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "both messages and messages_json");
}

static void refuses_broken_text(void)
{
    CHECK(stories());
    gomlx_request request = greedy("ab\xff", 1);
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "prompt is not UTF-8 from byte 2");
    request.prompt = (gomlx_string){NULL, 4};
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "prompt is NULL");
    gomlx_message turns[] = {{{"user", 4}, {"Hi", 2}}, {{"user", 4}, {"\xc0\xaf", 2}}};
    request = greedy("", 1);
    request.messages = turns;
    request.message_count = 2;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "messages[1]: content is not UTF-8 from byte 0");
    request = greedy("a", 1);
    gomlx_string stop[] = {{"x", 1}, {"\x80", 1}};
    request.stop = stop;
    request.stop_count = 2;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "stop[1] is not UTF-8");
}

static void refuses_broken_json(void)
{
    static const struct {
        const char *messages, *variables, *words;
    } cases[] = {
        {"[{\"role\": \"user\"", "", "messages"},
        {"{}", "", "messages"},
        {"[1]", "", "messages[0]"},
        {"[{\"content\": \"no role\"}]", "", "role"},
        {"[{\"role\": \"user\", \"content\": \"Hi\"}]", "[1]", "template_variables"},
        {"[{\"role\": \"user\", \"content\": \"Hi\"}]", "{\"a\": ", "template_variables"},
    };
    CHECK(stories());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gomlx_request request = greedy("", 1);
        request.messages_json = str(cases[i].messages);
        request.template_variables = str(cases[i].variables);
        FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, cases[i].words);
    }
}

static void refuses_bad_numbers(void)
{
    CHECK(stories());
    gomlx_request good = greedy("Hello", 1), bad = good;
    OK(start(&good, NULL));
#define REFUSED(change, words)                                                                                         \
    do {                                                                                                               \
        bad = good;                                                                                                    \
        change;                                                                                                        \
        FAILS(start(&bad, &error), GOMLX_ERR_ARGUMENT, words);                                                         \
    } while (0)
    REFUSED(bad.max_tokens = 0, "max_tokens");
    REFUSED(bad.temperature = NAN, "temperature");
    REFUSED(bad.temperature = INFINITY, "temperature");
    REFUSED(bad.temperature = -1, "temperature");
    REFUSED(bad.top_p = NAN, "top_p");
    REFUSED(bad.top_p = 1.5f, "top_p");
    REFUSED(bad.top_p = -0.5f, "top_p");
    REFUSED(bad.min_p = NAN, "min_p");
    REFUSED(bad.min_p = 2, "min_p");
    REFUSED(bad.typical_p = NAN, "typical_p");
    REFUSED(bad.repetition_penalty = 0, "repetition_penalty");
    REFUSED(bad.repetition_penalty = NAN, "repetition_penalty");
    REFUSED(bad.presence_penalty = NAN, "presence_penalty");
    REFUSED(bad.frequency_penalty = INFINITY, "frequency_penalty");
    REFUSED(bad.flags = 1u << 31, "flags: unknown bits 0x80000000");
#undef REFUSED
}

static void refuses_tokens_outside_the_vocabulary(void)
{
    uint32_t beyond = 8192;
    gomlx_logit_bias bias = {8192, 1};
    CHECK(stories());
    gomlx_request request = greedy("", 1);
    request.tokens = &beyond;
    request.token_count = 1;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "8192");
    request = greedy("a", 1);
    request.stop_tokens = &beyond;
    request.stop_token_count = 1;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "stop_tokens");
    request = greedy("a", 1);
    request.logit_bias = &bias;
    request.logit_bias_count = 1;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "logit_bias");
    bias = (gomlx_logit_bias){5, NAN};
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "logit_bias");
    request.logit_bias = NULL;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "logit_bias is NULL");
    request = greedy("a", 1);
    request.stop_token_count = 3;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "stop_tokens is NULL");
    request = greedy("a", 1);
    request.stop_count = SIZE_MAX / 2;
    request.stop = (const gomlx_string *)(const void *)&request;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "more than memory holds");
}

static void refuses_an_empty_stop(void)
{
    gomlx_string nothing = {"", 0};
    CHECK(stories());
    gomlx_request request = greedy("a", 1);
    request.stop = &nothing;
    request.stop_count = 1;
    FAILS(start(&request, &error), GOMLX_ERR_ARGUMENT, "stop");
}

static void refuses_a_prompt_longer_than_the_context(void)
{
    const size_t len = 1 << 20;
    char *emoji = malloc(len);
    gomlx_error error;
    CHECK(stories());
    for (size_t i = 0; i < len; i += 4)
        memcpy(emoji + i, "\xf0\x9f\x98\x80", 4);
    gomlx_request request = greedy("", 1);
    request.prompt = (gomlx_string){emoji, len};
    gomlx_status status = start(&request, &error);
    free(emoji);
    CHECK(status == GOMLX_ERR_CONTEXT_FULL && strstr(error.message, "context of 2048"));

    static uint32_t tokens[2048];
    request = greedy("", 1);
    request.tokens = tokens;
    request.token_count = 2048;
    FAILS(start(&request, &error), GOMLX_ERR_CONTEXT_FULL, "2048 tokens");
    request.token_count = 2047;
    OK(start(&request, NULL));
}

static void out_generation_is_needed(void)
{
    CHECK(stories());
    gomlx_request request = greedy("a", 1);
    FAILS(gomlx_generation_start(stories(), &request, NULL, &error), GOMLX_ERR_ARGUMENT, "out_generation is NULL");
    FAILS(gomlx_generation_start(NULL, &request, NULL, &error), GOMLX_ERR_ARGUMENT, "gomlx_model is NULL");
}

const test request_tests[] = {
    {"request has defaults", has_defaults},
    {"request keeps to struct_size", keeps_to_struct_size},
    {"request needs one prompt", needs_one_prompt},
    {"request refuses broken text", refuses_broken_text},
    {"request refuses broken JSON", refuses_broken_json},
    {"request refuses bad numbers", refuses_bad_numbers},
    {"request refuses tokens outside the vocabulary", refuses_tokens_outside_the_vocabulary},
    {"request refuses an empty stop", refuses_an_empty_stop},
    {"request refuses a prompt longer than the context", refuses_a_prompt_longer_than_the_context},
    {"request needs a place for the generation", out_generation_is_needed},
    {0},
};
