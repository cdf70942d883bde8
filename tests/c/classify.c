#include "harness.h"

#include <math.h>

static const char *const LABELS[] = {" banking", " travel", " kitchen and dining", " work"};
enum { N_LABELS = 4, N_TEXTS = 3 };

static void domains(gomlx_classify_request *request, gomlx_string *texts, gomlx_string *labels)
{
    static const char *const sentences[N_TEXTS] = {"what is my balance at the bank", "book a flight to paris",
                                                   "how long do i cook rice"};
    for (int i = 0; i < N_TEXTS; i++)
        texts[i] = str(sentences[i]);
    for (int i = 0; i < N_LABELS; i++)
        labels[i] = str(LABELS[i]);
    gomlx_classify_request_init(request, sizeof *request, NULL);
    request->pattern = str("Sentence: {text}\nDomain:");
    request->texts = texts;
    request->text_count = N_TEXTS;
    request->labels = labels;
    request->label_count = N_LABELS;
}

static void labels_texts(void)
{
    gomlx_model *model = load(DOMAINS);
    CHECK(model);
    gomlx_classify_request request;
    gomlx_string texts[N_TEXTS], labels[N_LABELS];
    domains(&request, texts, labels);
    gomlx_classification results[N_TEXTS];
    float logprobs[N_TEXTS * N_LABELS], probabilities[N_TEXTS * N_LABELS];
    OK(gomlx_classify(model, &request, results, N_TEXTS, logprobs, probabilities, NULL, NULL));
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        CHECK(results[i].label == i);
        CHECK(results[i].logprob == logprobs[i * N_LABELS + i]);
        CHECK(results[i].probability == probabilities[i * N_LABELS + i] && results[i].probability > 0.5f);
        float sum = 0;
        for (int j = 0; j < N_LABELS; j++)
            sum += probabilities[i * N_LABELS + (uint32_t)j];
        CHECK(fabsf(sum - 1) < 1e-4f);
    }
    /* The same figure from scoring one text's label alone. */
    gomlx_request one = greedy("Sentence: book a flight to paris\nDomain:", 1);
    float score;
    uint32_t tokens;
    OK(gomlx_score(model, &one, &labels[1], 1, &score, &tokens, NULL));
    CHECK(score == results[1].logprob && tokens >= 1);

    FAILS(gomlx_classify(model, &request, results, 2, NULL, NULL, NULL, &error), GOMLX_ERR_BUFFER, "capacity of 3");
    request.pattern = str("no slot");
    FAILS(gomlx_classify(model, &request, results, 3, NULL, NULL, NULL, &error), GOMLX_ERR_ARGUMENT, "{text}");
    request.pattern = str("");
    FAILS(gomlx_classify(model, &request, results, 3, NULL, NULL, NULL, &error), GOMLX_ERR_ARGUMENT, "pattern");
    domains(&request, texts, labels);
    request.label_count = 0;
    FAILS(gomlx_classify(model, &request, results, 3, NULL, NULL, NULL, &error), GOMLX_ERR_ARGUMENT, "labels");
    domains(&request, texts, labels);
    labels[2] = str("");
    FAILS(gomlx_classify(model, &request, results, 3, NULL, NULL, NULL, &error), GOMLX_ERR_ARGUMENT, "no tokens");
    domains(&request, texts, labels);
    request.struct_size = 0;
    FAILS(gomlx_classify(model, &request, results, 3, NULL, NULL, NULL, &error), GOMLX_ERR_ARGUMENT, "struct_size");
    domains(&request, texts, labels);
    request.control = gomlx_control_new();
    gomlx_control_cancel((gomlx_control *)request.control);
    FAILS(gomlx_classify(model, &request, results, 3, NULL, NULL, NULL, &error), GOMLX_ERR_CANCELLED, "cancelled");
    gomlx_control_free((gomlx_control *)request.control);
    gomlx_model_free(model);
}

static void embeds_texts(void)
{
    CHECK(stories());
    gomlx_model_info info = {.struct_size = sizeof info};
    OK(gomlx_model_describe(stories(), &info, NULL));
    gomlx_string texts[] = {str("a dog in the garden"), str("the price of gold")};
    static float vectors[2 * 4096];
    OK(gomlx_embed(stories(), texts, 2, GOMLX_POOLING_MEAN, NULL, vectors, 2 * info.hidden, NULL));
    for (uint32_t i = 0; i < 2; i++) {
        double length = 0;
        for (uint32_t j = 0; j < info.hidden; j++)
            length += (double)vectors[i * info.hidden + j] * vectors[i * info.hidden + j];
        CHECK(fabs(length - 1) < 1e-4);
    }
    FAILS(gomlx_embed(stories(), texts, 2, GOMLX_POOLING_LAST, NULL, vectors, 1, &error), GOMLX_ERR_BUFFER, "capacity");
    FAILS(gomlx_embed(stories(), texts, 2, 7, NULL, vectors, sizeof vectors / 4, &error), GOMLX_ERR_ARGUMENT, "pooling");
}

enum { BATCH = 6 };

typedef struct texts {
    char text[BATCH][4096];
} texts;

static int32_t collect(const gomlx_chunk *chunk, void *user_data)
{
    texts *all = user_data;
    char *text = all->text[chunk->request_index];
    size_t len = strlen(text);
    if (len + chunk->text.len < sizeof all->text[0])
        memcpy(text + len, chunk->text.data, chunk->text.len + 1);
    return 0;
}

static void generates_a_batch(void)
{
    static const char *const prompts[BATCH] = {"Once upon a time", "The dog", "Lily", "One day", "A king", "The sea"};
    CHECK(stories());
    gomlx_request requests[BATCH];
    gomlx_status statuses[BATCH];
    gomlx_metrics metrics[BATCH];
    for (int i = 0; i < BATCH; i++) {
        requests[i] = greedy(prompts[i], (uint32_t)(8 + 3 * i));
        metrics[i].struct_size = sizeof metrics[i];
    }
    static texts all;
    memset(&all, 0, sizeof all);
    OK(gomlx_generate_batch(stories(), requests, BATCH, collect, &all, statuses, metrics, NULL));
    for (int i = 0; i < BATCH; i++) {
        static answer alone;
        pull(stories(), &requests[i], &alone);
        CHECK(strcmp(alone.text, all.text[i]) == 0);
        CHECK(statuses[i] == GOMLX_OK && metrics[i].generated_tokens == alone.metrics.generated_tokens);
    }
    /* One that fails leaves the others alone. */
    requests[2].max_tokens = 0;
    memset(&all, 0, sizeof all);
    FAILS(gomlx_generate_batch(stories(), requests, BATCH, collect, &all, statuses, NULL, &error), GOMLX_ERR_ARGUMENT,
          "requests[2]: max_tokens is 0");
    for (int i = 0; i < BATCH; i++)
        CHECK(statuses[i] == (i == 2 ? GOMLX_ERR_ARGUMENT : GOMLX_OK) && (all.text[i][0] != 0) == (i != 2));
    FAILS(gomlx_generate_batch(stories(), NULL, 1, collect, &all, NULL, NULL, &error), GOMLX_ERR_ARGUMENT, "NULL");
}

const test classify_tests[] = {
    {"classify: labels texts", labels_texts},
    {"classify: embeds texts", embeds_texts},
    {"classify: generates a batch", generates_a_batch},
    {0},
};
