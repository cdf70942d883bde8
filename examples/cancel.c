/* cancel [MODEL_FOLDER]: one thread reads an answer, another one stops it, within one step of the model. */
#define _POSIX_C_SOURCE 200809L
#include <gomlx.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void *stop_soon(void *control)
{
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    return gomlx_control_cancel(control), NULL;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "models/llama-tales-16m-4bit";
    gomlx_error error;
    gomlx_model *model = NULL;
    gomlx_generation *generation = NULL;
    gomlx_request request;
    gomlx_request_init(&request, sizeof request, NULL);
    request.prompt = (gomlx_string){"Once upon a time", 16};
    request.flags = GOMLX_REQUEST_IGNORE_END; /* it would go on until the context is full */
    request.control = gomlx_control_new();
    if (gomlx_model_load(folder, strlen(folder), NULL, &model, &error) != GOMLX_OK ||
        gomlx_generation_start(model, &request, &generation, &error) != GOMLX_OK)
        return fprintf(stderr, "cancel: %s\n", error.message), 1;
    pthread_t thread;
    if (pthread_create(&thread, NULL, stop_soon, (void *)request.control) != 0)
        return fputs("cancel: no thread\n", stderr), 1;
    gomlx_chunk chunk = {.struct_size = sizeof chunk};
    gomlx_status status;
    while ((status = gomlx_generation_next(generation, -1, &chunk, &error)) == GOMLX_OK)
        fwrite(chunk.text.data, 1, chunk.text.len, stdout);
    printf("\n[%s]\n", status == GOMLX_DONE ? "complete before it was cancelled" : error.message);
    pthread_join(thread, NULL);
    gomlx_generation_free(generation), gomlx_control_free((gomlx_control *)request.control);
    return gomlx_model_free(model), 0;
}
