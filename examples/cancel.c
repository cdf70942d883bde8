/* cancel: one thread reads an answer, another one stops it, within one step of the model.
 *
 *     cancel [MILLISECONDS [MODEL_FOLDER]]
 */
#define _POSIX_C_SOURCE 200809L
#include <gomlx.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long milliseconds = 20;

static void *stop_later(void *control)
{
    nanosleep(&(struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000}, NULL);
    gomlx_control_cancel(control);
    return NULL;
}

int main(int argc, char **argv)
{
    milliseconds = argc > 1 ? atol(argv[1]) : milliseconds;
    const char *folder = argc > 2 ? argv[2] : "models/llama-tales-16m-4bit";
    gomlx_error error;
    gomlx_model *model = NULL;
    if (gomlx_model_load(folder, strlen(folder), NULL, &model, &error) != GOMLX_OK)
        return fprintf(stderr, "cancel: %s\n", error.message), 1;

    gomlx_request request;
    gomlx_request_init(&request, sizeof request, NULL);
    request.prompt = (gomlx_string){"Once upon a time", 16};
    request.flags = GOMLX_REQUEST_IGNORE_END; /* it would go on until the context is full */
    request.control = gomlx_control_new();

    pthread_t thread;
    gomlx_generation *generation = NULL;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    gomlx_status status = gomlx_generation_start(model, &request, &generation, &error);
    if (status != GOMLX_OK || pthread_create(&thread, NULL, stop_later, (void *)request.control) != 0)
        return fprintf(stderr, "cancel: %s\n", status != GOMLX_OK ? error.message : "no thread"), 1;
    while ((status = gomlx_generation_next(generation, -1, &chunk, &error)) == GOMLX_OK)
        fwrite(chunk.text.data, 1, chunk.text.len, stdout);
    printf("\n[%s]\n", status == GOMLX_DONE ? "complete before it was cancelled" : error.message);

    pthread_join(thread, NULL);
    gomlx_generation_free(generation);
    gomlx_control_free((gomlx_control *)request.control);
    gomlx_model_free(model);
    return 0;
}
