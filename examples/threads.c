/* threads [MODEL_FOLDER]: four threads share one model, which computes together what each would get alone. */
#include <gomlx.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 4, LONGEST = 1024 };
static gomlx_model *model;

static int32_t append(const gomlx_chunk *chunk, void *story)
{
    return strlen(story) + chunk->text.len >= LONGEST || !strcat(story, chunk->text.data);
}

static void *go_on(void *story) /* its beginning is the prompt */
{
    gomlx_error error; /* each thread has its own, on its stack */
    gomlx_request request;
    gomlx_request_init(&request, sizeof request, NULL);
    request.prompt = (gomlx_string){story, strlen(story)}, request.max_tokens = 40;
    if (gomlx_generate(model, &request, append, story, NULL, &error) != GOMLX_OK)
        fprintf(stderr, "threads: %s\n", error.message);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "models/llama-tales-16m-4bit";
    char stories[THREADS][LONGEST] = {"Once upon a time", "The sun", "One day", "Tom"};
    pthread_t threads[THREADS];
    gomlx_error error;
    if (gomlx_model_load(folder, strlen(folder), NULL, &model, &error) != GOMLX_OK)
        return fprintf(stderr, "threads: %s\n", error.message), 1;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, go_on, stories[i]) != 0)
            return fputs("threads: no thread\n", stderr), 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL), printf("%s\n\n", stories[i]);
    return gomlx_model_free(model), 0;
}
