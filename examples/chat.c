/* chat: a conversation on the terminal. Ctrl-C stops an answer, Ctrl-D ends.
 *
 *     chat MODEL_FOLDER
 */
#define _POSIX_C_SOURCE 200809L /* strndup */
#include <gomlx.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TURNS = 64 };

static gomlx_control *volatile current;

static void stop_answer(int signal_number)
{
    (void)signal_number;
    gomlx_control_cancel(current); /* one of the few calls that a signal handler may make */
}

/* Prints an answer as it comes. Its text is the caller's, to be freed; NULL where memory ran out. */
static char *answer(const gomlx_model *model, const gomlx_request *request)
{
    gomlx_error error;
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    char *text = calloc(1, 1);
    size_t len = 0;
    gomlx_status status = gomlx_generation_start(model, request, &generation, &error);
    while (status == GOMLX_OK && (status = gomlx_generation_next(generation, -1, &chunk, &error)) == GOMLX_OK) {
        printf("%s", chunk.text.data);
        fflush(stdout);
        char *longer = realloc(text, len + chunk.text.len + 1);
        if (!longer)
            break;
        text = longer;
        memcpy(text + len, chunk.text.data, chunk.text.len + 1);
        len += chunk.text.len;
    }
    puts(status < 0 ? error.message : "");
    gomlx_generation_free(generation); /* stops it, were it not complete */
    return text;
}

int main(int argc, char **argv)
{
    gomlx_model *model = NULL;
    const char *folder = argc > 1 ? argv[1] : "models/llama-tales-16m-4bit";
    if (gomlx_model_load(folder, strlen(folder), NULL, &model, NULL) != GOMLX_OK)
        return fprintf(stderr, "chat: %s\n", gomlx_last_error()->message), 1;

    gomlx_message turns[MAX_TURNS];
    size_t count = 0;
    char line[4096];
    signal(SIGINT, stop_answer);
    while (count + 2 <= MAX_TURNS && (printf("> "), fflush(stdout), fgets(line, sizeof line, stdin))) {
        size_t len = strcspn(line, "\n");
        turns[count++] = (gomlx_message){{"user", 4}, {strndup(line, len), len}};

        gomlx_request request;
        gomlx_request_init(&request, sizeof request, NULL);
        request.messages = turns;
        request.message_count = count;
        request.temperature = 0.7f;
        request.control = current = gomlx_control_new();
        char *text = answer(model, &request);
        turns[count++] = (gomlx_message){{"assistant", 9}, {text, text ? strlen(text) : 0}};

        gomlx_control *used = current;
        current = NULL;
        gomlx_control_free(used);
    }
    while (count > 0)
        free((char *)turns[--count].content.data);
    gomlx_model_free(model);
    return 0;
}
