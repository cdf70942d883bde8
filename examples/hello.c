/* hello [PROMPT [MODEL_FOLDER]]: a model continues a text, in this very process. */
#include <gomlx.h>
#include <stdio.h>
#include <string.h>

static int32_t print_chunk(const gomlx_chunk *chunk, void *user_data)
{
    (void)user_data;
    fwrite(chunk->text.data, 1, chunk->text.len, stdout);
    return fflush(stdout); /* whatever is not 0 stops the model: nobody reads on */
}

int main(int argc, char **argv)
{
    const char *prompt = argc > 1 ? argv[1] : "Once upon a time";
    const char *folder = argc > 2 ? argv[2] : "models/llama-tales-16m-4bit";
    gomlx_error error;
    gomlx_model *model = NULL;
    if (gomlx_model_load(folder, strlen(folder), NULL, &model, &error) != GOMLX_OK)
        return fprintf(stderr, "hello: %s\n", error.message), 1;

    gomlx_request request;
    gomlx_request_init(&request, sizeof request, NULL);
    request.prompt = (gomlx_string){prompt, strlen(prompt)};
    request.flags = GOMLX_REQUEST_ECHO | GOMLX_REQUEST_SEED;
    request.temperature = 0.6f;
    request.top_p = 0.9f;
    request.seed = 7;
    request.max_tokens = 600;

    gomlx_metrics metrics = {.struct_size = sizeof metrics};
    gomlx_status status = gomlx_generate(model, &request, print_chunk, NULL, &metrics, &error);
    gomlx_model_free(model);
    if (status != GOMLX_OK)
        return fprintf(stderr, "hello: %s\n", error.message), 1;
    printf("\n\n[%u + %u tokens; first after %.0f ms; prompt %.0f, answer %.0f tokens/s; peak %.0f MB]\n",
           (unsigned)metrics.prompt_tokens, (unsigned)metrics.generated_tokens, metrics.first_token_seconds * 1e3,
           metrics.prefill_tokens_per_second, metrics.decode_tokens_per_second, (double)metrics.peak_memory / 1e6);
    return 0;
}
