/* Runs tests/scenarios: what every surface of the library must do, told once as data (see README.md there). */
#define _POSIX_C_SOURCE 200809L
#include "harness.h"
#include "json.h"

#include <dirent.h>
#include <stdlib.h>

enum { MOST = 32 };

/* A number by its name in a scenario file: the enumerator without its prefix, in small letters. */
typedef struct name {
    const char *name;
    int32_t value;
} name;

static const name statuses[] = {
    {"ok", GOMLX_OK},
    {"argument", GOMLX_ERR_ARGUMENT},
    {"unsupported", GOMLX_ERR_UNSUPPORTED},
    {"io", GOMLX_ERR_IO},
    {"format", GOMLX_ERR_FORMAT},
    {"context_full", GOMLX_ERR_CONTEXT_FULL},
    {"deadline", GOMLX_ERR_DEADLINE},
    {0},
};
static const name reasons[] = {
    {"end_token", GOMLX_STOP_END_TOKEN},       {"stop", GOMLX_STOP_STOP}, {"max_tokens", GOMLX_STOP_MAX_TOKENS},
    {"context_full", GOMLX_STOP_CONTEXT_FULL}, {0},
};
static const name flags[] = {
    {"ignore_end", GOMLX_REQUEST_IGNORE_END},
    {"special_in_text", GOMLX_REQUEST_SPECIAL_IN_TEXT},
    {"echo", GOMLX_REQUEST_ECHO},
    {"continue_final", GOMLX_REQUEST_CONTINUE_FINAL},
    {0},
};
static const name precisions[] = {{"fast", GOMLX_PRECISION_FAST}, {"exact", GOMLX_PRECISION_EXACT}, {0}};

/* The number of `text`, or one that nothing has, so that a misspelt scenario fails. */
static int32_t number_of(const name *names, const char *text)
{
    for (; names->name; names++)
        if (strcmp(names->name, text) == 0)
            return names->value;
    fail(__FILE__, __LINE__, "no such name: %s", text);
    return INT32_MIN;
}

static size_t count_of(const json *array)
{
    size_t count = 0;
    for (const json *item = array ? array->first : NULL; item; item = item->next)
        count++;
    return count;
}

/* Arrays that a request points to. */
typedef struct arrays {
    gomlx_message messages[MOST];
    gomlx_string stop[MOST];
    gomlx_logit_bias bias[MOST];
    uint32_t tokens[MOST], stop_tokens[MOST];
} arrays;

static gomlx_request request_from(const json *told, arrays *out)
{
    gomlx_request request = greedy(json_text(told, "prompt", ""), UINT32_MAX);
    size_t at = 0;
    request.max_tokens = (uint32_t)json_number(told, "max_tokens", request.max_tokens);
    request.temperature = (float)json_number(told, "temperature", request.temperature);
    request.top_k = (uint32_t)json_number(told, "top_k", request.top_k);
    request.top_p = (float)json_number(told, "top_p", request.top_p);
    request.min_p = (float)json_number(told, "min_p", request.min_p);
    request.repetition_penalty = (float)json_number(told, "repetition_penalty", request.repetition_penalty);
    request.deadline_ms = (uint64_t)json_number(told, "deadline_ms", 0);
    request.messages_json = str(json_text(told, "messages_json", ""));
    request.template_variables = str(json_text(told, "template_variables", ""));
    if (json_get(told, "seed")) {
        request.seed = (uint64_t)json_number(told, "seed", 0);
        request.flags |= GOMLX_REQUEST_SEED;
    }
    const json *list = json_get(told, "flags");
    for (const json *item = list ? list->first : NULL; item; item = item->next)
        request.flags |= (uint32_t)number_of(flags, item->text);

    list = json_get(told, "messages");
    for (const json *item = list ? list->first : NULL; item && at < MOST; item = item->next)
        out->messages[at++] = (gomlx_message){str(json_text(item, "role", "")), str(json_text(item, "content", ""))};
    request.messages = out->messages;
    request.message_count = at;

    list = json_get(told, "stop");
    at = 0;
    for (const json *item = list ? list->first : NULL; item && at < MOST; item = item->next)
        out->stop[at++] = str(item->text);
    request.stop = out->stop;
    request.stop_count = at;

    list = json_get(told, "tokens");
    at = 0;
    for (const json *item = list ? list->first : NULL; item && at < MOST; item = item->next)
        out->tokens[at++] = (uint32_t)item->number;
    request.tokens = out->tokens;
    request.token_count = at;

    list = json_get(told, "stop_tokens");
    at = 0;
    for (const json *item = list ? list->first : NULL; item && at < MOST; item = item->next)
        out->stop_tokens[at++] = (uint32_t)item->number;
    request.stop_tokens = out->stop_tokens;
    request.stop_token_count = at;

    list = json_get(told, "logit_bias");
    at = 0;
    for (const json *item = list ? list->first : NULL; item && at < MOST; item = item->next)
        out->bias[at++] = (gomlx_logit_bias){(uint32_t)json_number(item, "token", 0), (float)json_number(item, "bias", 0)};
    request.logit_bias = out->bias;
    request.logit_bias_count = at;
    return request;
}

/* Every word of `expected` is in the text; the scenario's own words name what is missing. */
static void compare(const char *file, const json *expected, const answer *out)
{
    const char *text = json_text(expected, "text", NULL), *begin = json_text(expected, "text_begins", NULL);
    const char *reason = json_text(expected, "stop_reason", NULL), *words = json_text(expected, "message", NULL);
    int32_t status = number_of(statuses, json_text(expected, "status", "ok"));
    if (out->status != status)
        fail(file, 0, "status %d, not %d: %s", out->status, status, out->status ? out->error.message : "");
    else if (words && !strstr(out->error.message, words))
        fail(file, 0, "\"%s\" does not say \"%s\"", out->error.message, words);
    else if (text && strcmp(out->text, text) != 0)
        fail(file, 0, "text \"%s\", not \"%s\"", out->text, text);
    else if (begin && strncmp(out->text, begin, strlen(begin)) != 0)
        fail(file, 0, "text \"%s\" does not begin with \"%s\"", out->text, begin);
    else if (reason && out->metrics.stop_reason != number_of(reasons, reason))
        fail(file, 0, "stop reason %d, not %s", out->metrics.stop_reason, reason);
    else if (json_get(expected, "prompt_tokens") &&
             (double)out->metrics.prompt_tokens != json_number(expected, "prompt_tokens", -1))
        fail(file, 0, "%d prompt tokens", (int)out->metrics.prompt_tokens);
    else if (json_get(expected, "generated_tokens") &&
             (double)out->metrics.generated_tokens != json_number(expected, "generated_tokens", -1))
        fail(file, 0, "%d generated tokens", (int)out->metrics.generated_tokens);
}

static void run(const char *file, const json *told)
{
    static answer pushed;
    static arrays arrays;
    gomlx_model *model = NULL;
    char folder[256];
    const json *options_told = json_get(told, "options");
    gomlx_model_options options = {.struct_size = sizeof options};
    options.precision = number_of(precisions, json_text(options_told, "precision", "fast"));
    options.context_length = (uint32_t)json_number(options_told, "context_length", 0);
    snprintf(folder, sizeof folder, "models/%s", json_text(told, "model", "?"));
    memset(&pushed, 0, sizeof pushed);
    pushed.status = gomlx_model_load(folder, strlen(folder), &options, &model, &pushed.error);
    if (pushed.status == GOMLX_OK) {
        gomlx_request request = request_from(json_get(told, "request"), &arrays);
        push(model, &request, &pushed);
    }
    compare(file, json_get(told, "expect"), &pushed);
    gomlx_model_free(model);
}

static int is_scenario(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return len > 5 && strcmp(entry->d_name + len - 5, ".json") == 0;
}

static void run_all(void)
{
    struct dirent **entries = NULL;
    int count = scandir("tests/scenarios", &entries, is_scenario, alphasort), ran = 0;
    for (int i = 0; i < count; i++) {
        char path[512];
        static char text[1 << 16];
        snprintf(path, sizeof path, "tests/scenarios/%s", entries[i]->d_name);
        FILE *file = fopen(path, "rb");
        size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
        text[len] = 0;
        if (file)
            fclose(file);
        json *list = json_parse(text);
        if (count_of(list) == 0)
            fail(path, 0, "not a JSON array of scenarios");
        for (const json *told = list ? list->first : NULL; told; told = told->next, ran++) {
            char where[640];
            snprintf(where, sizeof where, "%s \"%s\"", path, json_text(told, "name", "?"));
            run(where, told);
        }
        json_free(list);
        free(entries[i]);
    }
    free(entries);
    CHECK(ran > 0);
}

const test scenario_tests[] = {{"scenarios: every one, through gomlx_generate", run_all}, {0}};
