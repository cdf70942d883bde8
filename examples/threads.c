/* threads: four threads share one model, which computes their answers together; each is what it would be alone.
 *
 *     threads [MODEL_FOLDER]
 */
#include <gomlx.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef struct caller {
    const gomlx_model *model;
    const char *prompt;
    char answer[1024];
} caller;

static int32_t append(const gomlx_chunk *chunk, void *answer)
{
    return strlen(answer) + chunk->text.len >= 1024 || !strcat(answer, chunk->text.data);
}

static void *ask(void *argument)
{
    caller *self = argument;
    gomlx_error error; /* each thread has its own, on its stack */
    gomlx_request request;
    gomlx_request_init(&request, sizeof request, NULL);
    request.prompt = (gomlx_string){self->prompt, strlen(self->prompt)};
    request.max_tokens = 40;
    if (gomlx_generate(self->model, &request, append, self->answer, NULL, &error) != GOMLX_OK)
        snprintf(self->answer, sizeof self->answer, ": %s", error.message);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "models/llama-tales-16m-4bit";
    gomlx_error error;
    gomlx_model *model = NULL;
    if (gomlx_model_load(folder, strlen(folder), NULL, &model, &error) != GOMLX_OK)
        return fprintf(stderr, "threads: %s\n", error.message), 1;

    caller callers[4] = {{model, "Once upon a time", ""}, {model, "The sun", ""}, {model, "One day", ""}, {model, "Tom", ""}};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, ask, &callers[i]) != 0)
            return perror("threads"), 1;
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        printf("%s%s\n\n", callers[i].prompt, callers[i].answer);
    }
    gomlx_model_free(model);
    return 0;
}
