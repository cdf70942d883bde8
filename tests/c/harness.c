/* What the tests share. */
#include "harness.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

static gomlx_model *shared;

bool failed_as(const char *file, int line, const char *call, gomlx_status got, const gomlx_error *error,
               gomlx_status status, const char *words)
{
    if (got != status) {
        fail(file, line, "%s: status %d, not %d; latest error: %s", call, got, status, gomlx_last_error()->message);
        return false;
    }
    if (error->code != status || !memchr(error->message, 0, sizeof error->message) ||
        !is_utf8(error->message, strlen(error->message))) {
        fail(file, line, "%s: a damaged error record", call);
        return false;
    }
    if (!strstr(error->message, words)) {
        fail(file, line, "%s: \"%s\" does not say \"%s\"", call, error->message, words);
        return false;
    }
    if (strchr(error->message, '\n')) {
        fail(file, line, "%s: more than one line: %s", call, error->message);
        return false;
    }
    if (memcmp(error, gomlx_last_error(), sizeof *error) != 0) {
        fail(file, line, "%s: gomlx_last_error says \"%s\"", call, gomlx_last_error()->message);
        return false;
    }
    return true;
}

bool is_utf8(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + len;
    while (at < end) {
        size_t more = *at < 0x80 ? 0 : *at >= 0xc2 && *at < 0xe0 ? 1 : *at >= 0xe0 && *at < 0xf0 ? 2 : 3;
        if (*at >= 0xf5 || (*at >= 0x80 && *at < 0xc2) || (size_t)(end - at) <= more)
            return false;
        for (size_t i = 1; i <= more; i++)
            if ((at[i] & 0xc0) != 0x80)
                return false;
        at += more + 1;
    }
    return true;
}

gomlx_string str(const char *text)
{
    return (gomlx_string){text, strlen(text)};
}

gomlx_model *load(const char *folder)
{
    gomlx_model *model = NULL;
    gomlx_error error;
    if (gomlx_model_load(folder, strlen(folder), NULL, &model, &error) != GOMLX_OK)
        fail(folder, 0, "does not load: %s", error.message);
    return model;
}

const gomlx_model *stories(void)
{
    if (!shared)
        shared = load(STORIES);
    return shared;
}

void free_stories(void)
{
    gomlx_model_free(shared);
    shared = NULL;
}

gomlx_request greedy(const char *prompt, uint32_t max_tokens)
{
    gomlx_request request;
    if (gomlx_request_init(&request, sizeof request, NULL) != GOMLX_OK)
        abort();
    request.prompt = str(prompt);
    request.max_tokens = max_tokens;
    return request;
}

static int32_t collect(const gomlx_chunk *chunk, void *user_data)
{
    answer *out = user_data;
    if (!is_utf8(chunk->text.data, chunk->text.len) || chunk->text.data[chunk->text.len] != 0)
        fail(__FILE__, __LINE__, "a chunk is not whole, terminated UTF-8");
    if (out->len + chunk->text.len < sizeof out->text) {
        memcpy(out->text + out->len, chunk->text.data, chunk->text.len);
        out->len += chunk->text.len;
        out->text[out->len] = 0;
    }
    out->chunks++;
    out->tokens += chunk->token_count;
    return 0;
}

static void begin(answer *out)
{
    memset(out, 0, sizeof *out);
    out->metrics.struct_size = sizeof out->metrics;
}

void pull(const gomlx_model *model, const gomlx_request *request, answer *out)
{
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    begin(out);
    out->status = gomlx_generation_start(model, request, &generation, &out->error);
    if (out->status != GOMLX_OK)
        return;
    while ((out->status = gomlx_generation_next(generation, -1, &chunk, &out->error)) == GOMLX_OK)
        collect(&chunk, out);
    if (gomlx_generation_metrics(generation, &out->metrics, NULL) != GOMLX_OK)
        fail(__FILE__, __LINE__, "no metrics: %s", gomlx_last_error()->message);
    gomlx_generation_free(generation);
}

void push(const gomlx_model *model, const gomlx_request *request, answer *out)
{
    begin(out);
    out->status = gomlx_generate(model, request, collect, out, &out->metrics, &out->error);
}

void leave_child(int code)
{
    char command[16];
    snprintf(command, sizeof command, "exit %d", code);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(code ? code : 1);
}

uint64_t live_handles(void)
{
    gomlx_runtime_info info = {.struct_size = sizeof info};
    if (gomlx_runtime_describe(&info, NULL) != GOMLX_OK)
        fail(__FILE__, __LINE__, "%s", gomlx_last_error()->message);
    return info.live_controls + info.live_catalogs + info.live_models + info.live_generations;
}

int rounds(int usual)
{
    const char *share = getenv("GOMLX_TEST_SHARE");
    int some = share ? usual * atoi(share) / 100 : usual;
    return some > 0 ? some : 1;
}
