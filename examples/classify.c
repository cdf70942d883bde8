/* classify [TEXT...]: which of a few labels fits each text, without generating anything. */
#include <gomlx.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 16 };

int main(int argc, char **argv)
{
    static const gomlx_string labels[] = {{" banking", 8}, {" travel", 7}, {" kitchen", 8}, {" work", 5}};
    const char *folder = "models/gemma3-domains-6m-4bit", *pattern = "Sentence: {text}\nDomain:";
    const char *given[MOST] = {"what is my balance at the bank", "book a flight to paris", "how long do i boil an egg"};
    size_t count = argc > 1 ? 0 : 3;
    for (int i = 1; i < argc && count < MOST; i++)
        given[count++] = argv[i];

    gomlx_error error;
    gomlx_model *model = NULL;
    gomlx_string texts[MOST];
    gomlx_classification results[MOST];
    gomlx_classify_request request;
    gomlx_classify_request_init(&request, sizeof request, NULL);
    for (size_t i = 0; i < count; i++)
        texts[i] = (gomlx_string){given[i], strlen(given[i])};
    request.pattern = (gomlx_string){pattern, strlen(pattern)};
    request.texts = texts, request.text_count = count;
    request.labels = labels, request.label_count = sizeof labels / sizeof *labels;

    if (gomlx_model_load(folder, strlen(folder), NULL, &model, &error) != GOMLX_OK ||
        gomlx_classify(model, &request, results, MOST, NULL, NULL, NULL, &error) != GOMLX_OK)
        return gomlx_model_free(model), fprintf(stderr, "classify: %s\n", error.message), 1;
    for (size_t i = 0; i < count; i++)
        printf("%s:%s (%.0f %%)\n", given[i], labels[results[i].label].data, (double)results[i].probability * 100);
    gomlx_model_free(model);
    return 0;
}
