#include "harness.h"

#include <stdlib.h>
#include <unistd.h>

static void is_described(void)
{
    gomlx_model_info info = {.struct_size = sizeof info};
    CHECK(stories());
    OK(gomlx_model_describe(stories(), &info, NULL));
    CHECK(strcmp(info.name.data, "llama-tales-16m-4bit") == 0 && info.name.len == strlen(info.name.data));
    CHECK(strcmp(info.architecture.data, "LlamaForCausalLM") == 0);
    CHECK(strcmp(info.family.data, "llama") == 0);
    CHECK(strcmp(info.quantisation_mode.data, "affine") == 0);
    CHECK(strcmp(info.dtype.data, "bf16") == 0);
    CHECK(strcmp(info.backend.data, "cpu") == 0);
    CHECK(strstr(info.path.data, "llama-tales-16m-4bit"));
    CHECK(info.layers == 8 && info.hidden == 384 && info.vocabulary == 8192);
    CHECK(info.context == 2048 && info.context_length == 2048);
    CHECK(info.quantisation_bits == 4 && info.quantisation_group == 64);
    CHECK(info.parameters > 15500000 && info.parameters < 15900000); /* its card: 15.7 M */
    CHECK(info.bytes_on_disk > 8000000 && info.bytes_on_disk < 10000000);
    CHECK(info.has_chat_template == 1);
    CHECK(info.threads >= 1);
}

static void refuses_bad_paths(void)
{
    gomlx_model *model = NULL;
    FAILS(gomlx_model_load("/no/such/folder", 15, NULL, &model, &error), GOMLX_ERR_IO, "/no/such/folder");
    FAILS(gomlx_model_load("Makefile", 8, NULL, &model, &error), GOMLX_ERR_IO, "Makefile");
    FAILS(gomlx_model_load("tests/c", 7, NULL, &model, &error), GOMLX_ERR_IO, "config.json");
    FAILS(gomlx_model_load("", 0, NULL, &model, &error), GOMLX_ERR_ARGUMENT, "path is empty");
    FAILS(gomlx_model_load(NULL, 0, NULL, &model, &error), GOMLX_ERR_ARGUMENT, "path is empty");
    FAILS(gomlx_model_load(NULL, 5, NULL, &model, &error), GOMLX_ERR_ARGUMENT, "path is NULL");
    FAILS(gomlx_model_load("models\xff", 7, NULL, &model, &error), GOMLX_ERR_ARGUMENT, "not UTF-8 from byte 6");
    FAILS(gomlx_model_load("models\0x", 8, NULL, &model, &error), GOMLX_ERR_IO, "models");
    FAILS(gomlx_model_load("models", SIZE_MAX, NULL, &model, &error), GOMLX_ERR_ARGUMENT, "length");
    FAILS(gomlx_model_load(STORIES, strlen(STORIES), NULL, NULL, &error), GOMLX_ERR_ARGUMENT, "out_model is NULL");
    CHECK(model == NULL);
}

/* The length counts, not what stands behind it. */
static void path_needs_no_terminator(void)
{
    gomlx_model *model = NULL;
    OK(gomlx_model_load(STORIES "-and-more", strlen(STORIES), NULL, &model, NULL));
    gomlx_model_free(model);
}

static gomlx_status load_with(const gomlx_model_options *options, gomlx_error *error)
{
    gomlx_model *model = NULL;
    gomlx_status status = gomlx_model_load(STORIES, strlen(STORIES), options, &model, error);
    gomlx_model_free(model);
    return status;
}

static void options_have_defaults(void)
{
    gomlx_model_options options, zero = {.struct_size = sizeof zero};
    OK(gomlx_model_options_init(&options, sizeof options, NULL));
    CHECK(memcmp(&options, &zero, sizeof zero) == 0);
    OK(load_with(&options, NULL));
    FAILS(gomlx_model_options_init(NULL, sizeof options, &error), GOMLX_ERR_ARGUMENT, "gomlx_model_options is NULL");
    FAILS(gomlx_model_options_init(&options, 0, &error), GOMLX_ERR_ARGUMENT, "sizeof(gomlx_model_options)");
}

static void options_keep_to_struct_size(void)
{
    gomlx_model_options options = {.struct_size = offsetof(gomlx_model_options, control), .precision = 1};
    options.control = (const gomlx_control *)(const void *)&options; /* behind the older struct's end: never looked at */
    OK(load_with(&options, NULL));
    options = (gomlx_model_options){.struct_size = 0};
    FAILS(load_with(&options, &error), GOMLX_ERR_ARGUMENT, "struct_size 0");
    struct {
        gomlx_model_options known;
        uint64_t unknown;
    } newer = {.known.struct_size = sizeof newer};
    OK(load_with(&newer.known, NULL));
    newer.unknown = 1;
    FAILS(load_with(&newer.known, &error), GOMLX_ERR_ARGUMENT, "gomlx_model_options: byte");
}

static void options_refuse_unknown_values(void)
{
    gomlx_model_options options = {.struct_size = sizeof options};
    options.backend = 9;
    FAILS(load_with(&options, &error), GOMLX_ERR_ARGUMENT, "backend: unknown value 9");
    options.backend = GOMLX_BACKEND_CPU;
    options.kv_type = -1;
    FAILS(load_with(&options, &error), GOMLX_ERR_ARGUMENT, "kv_type: unknown value -1");
    options.kv_type = GOMLX_KV_BF16;
    options.weights = INT32_MAX;
    FAILS(load_with(&options, &error), GOMLX_ERR_ARGUMENT, "weights: unknown value");
    options.weights = GOMLX_WEIGHTS_READ;
    options.precision = 2;
    FAILS(load_with(&options, &error), GOMLX_ERR_ARGUMENT, "precision: unknown value 2");
    options.precision = GOMLX_PRECISION_EXACT;
    options.context_length = 4096;
    FAILS(load_with(&options, &error), GOMLX_ERR_ARGUMENT, "context_length 4096");
    options.context_length = 128;
    OK(load_with(&options, NULL));
}

/* Every way to hold cache and weights answers, and exact arithmetic answers the same through each. */
static void options_choose_storage(void)
{
    static answer first, other;
    gomlx_request request = greedy("The little dog", 8);
    for (int weights = GOMLX_WEIGHTS_MAPPED; weights <= GOMLX_WEIGHTS_READ; weights++) {
        for (int kv = GOMLX_KV_AUTO; kv <= GOMLX_KV_BF16; kv++) {
            gomlx_model *model = NULL;
            gomlx_model_options options = {.struct_size = sizeof options, .kv_type = kv, .weights = weights};
            options.precision = GOMLX_PRECISION_EXACT;
            OK(gomlx_model_load(STORIES, strlen(STORIES), &options, &model, NULL));
            answer *out = first.chunks ? &other : &first;
            pull(model, &request, out);
            gomlx_model_free(model);
            CHECK(out->status == GOMLX_DONE && out->metrics.generated_tokens == 8);
            CHECK(kv > GOMLX_KV_F32 || strcmp(first.text, out->text) == 0);
        }
    }
}

static void clone_owns_it_too(void)
{
    static answer out;
    gomlx_model *model = load(STORIES), *clone = gomlx_model_clone(model);
    CHECK(model && clone && clone != model);
    gomlx_model_free(model);
    gomlx_model_info info = {.struct_size = sizeof info};
    OK(gomlx_model_describe(clone, &info, NULL));
    CHECK(info.layers == 8);
    gomlx_request request = greedy("One day", 4);
    pull(clone, &request, &out);
    gomlx_model_free(clone);
    CHECK(out.status == GOMLX_DONE);
    CHECK(gomlx_model_clone(NULL) == NULL);
    gomlx_model_free(NULL);
}

static void text_makes_the_way_to_tokens_and_back(void)
{
    static const char *const texts[] = {"Once upon a time", "", "na\xc3\xafve \xf0\x9f\x98\x80 \xe4\xbd\xa0", " two  spaces\n"};
    CHECK(stories());
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        uint32_t tokens[64];
        char text[256];
        size_t count = 99, len = 99;
        OK(gomlx_model_tokenize(stories(), texts[i], strlen(texts[i]), 0, tokens, 64, &count, NULL));
        OK(gomlx_model_detokenize(stories(), tokens, count, 0, text, sizeof text, &len, NULL));
        CHECK(len == strlen(texts[i]) && strcmp(text, texts[i]) == 0);
        size_t with_bos = 0;
        OK(gomlx_model_tokenize(stories(), texts[i], strlen(texts[i]), 1, tokens, 64, &with_bos, NULL));
        CHECK(with_bos == count + 1 && tokens[0] == 8187); /* bos_token_id of its config.json */
        OK(gomlx_model_detokenize(stories(), tokens, with_bos, 1, text, sizeof text, &len, NULL));
        CHECK(strcmp(text, texts[i]) == 0);
    }
}

/* A buffer too small says how large it must be, and nothing else is written. */
static void buffers_too_small_say_the_size(void)
{
    const char *prompt = "Once upon a time there was a little girl";
    uint32_t tokens[32], none = 0x55555555;
    char text[64], nothing = 'x';
    size_t count = 0, again = 0, len = 0;
    CHECK(stories());
    FAILS(gomlx_model_tokenize(stories(), prompt, strlen(prompt), 0, NULL, 0, &count, &error), GOMLX_ERR_BUFFER,
          "capacity");
    CHECK(count > 4 && count < 32);
    FAILS(gomlx_model_tokenize(stories(), prompt, strlen(prompt), 0, &none, 1, &again, &error), GOMLX_ERR_BUFFER,
          "capacity");
    CHECK(again == count && none == 0x55555555);
    OK(gomlx_model_tokenize(stories(), prompt, strlen(prompt), 0, tokens, count, &again, NULL));
    CHECK(again == count);
    FAILS(gomlx_model_detokenize(stories(), tokens, count, 0, NULL, 0, &len, &error), GOMLX_ERR_BUFFER, "capacity");
    CHECK(len == strlen(prompt));
    FAILS(gomlx_model_detokenize(stories(), tokens, count, 0, text, len, &len, &error), GOMLX_ERR_BUFFER, "capacity");
    OK(gomlx_model_detokenize(stories(), tokens, count, 0, text, len + 1, &len, NULL));
    CHECK(strcmp(text, prompt) == 0);
    FAILS(gomlx_model_tokenize(stories(), prompt, strlen(prompt), 0, NULL, 5, &count, &error), GOMLX_ERR_ARGUMENT,
          "out_tokens is NULL");
    FAILS(gomlx_model_detokenize(stories(), tokens, count, 0, &nothing, 1, NULL, &error), GOMLX_ERR_ARGUMENT,
          "out_len is NULL");
    CHECK(nothing == 'x');
}

static void text_tools_refuse_bad_input(void)
{
    uint32_t tokens[8] = {8192};
    char text[64];
    size_t count;
    CHECK(stories());
    FAILS(gomlx_model_tokenize(stories(), "ab\xc3", 3, 0, tokens, 8, &count, &error), GOMLX_ERR_ARGUMENT,
          "text is not UTF-8 from byte 2");
    FAILS(gomlx_model_tokenize(stories(), NULL, 3, 0, tokens, 8, &count, &error), GOMLX_ERR_ARGUMENT, "text is NULL");
    FAILS(gomlx_model_tokenize(NULL, "a", 1, 0, tokens, 8, &count, &error), GOMLX_ERR_ARGUMENT, "gomlx_model is NULL");
    FAILS(gomlx_model_detokenize(stories(), NULL, 1, 0, text, 64, &count, &error), GOMLX_ERR_ARGUMENT,
          "tokens is NULL");
    FAILS(gomlx_model_detokenize(stories(), tokens, 1, 0, text, 64, &count, &error), GOMLX_ERR_ARGUMENT, "8192");
}

static void a_megabyte_of_emoji_is_tokenized(void)
{
    const size_t len = 1 << 20;
    char *emoji = malloc(len), *back = malloc(len + 1);
    uint32_t *tokens = malloc(len * sizeof *tokens);
    size_t count = 0, back_len = 0;
    for (size_t i = 0; i < len; i += 4)
        memcpy(emoji + i, "\xf0\x9f\x90\xb6", 4);
    gomlx_status forth = gomlx_model_tokenize(stories(), emoji, len, 0, tokens, len, &count, NULL);
    gomlx_status again = gomlx_model_detokenize(stories(), tokens, count, 0, back, len + 1, &back_len, NULL);
    bool same = back_len == len && memcmp(emoji, back, len) == 0;
    free(emoji);
    free(back);
    free(tokens);
    CHECK(forth == GOMLX_OK && again == GOMLX_OK && same);
}

static void chat_is_rendered(void)
{
    /* What its chat_template.jinja says, read by a person. */
    const char *expected = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|>"
                           "<|start_header_id|>assistant<|end_header_id|>\n\n";
    gomlx_message turn = {str("user"), str("  Hi there ")};
    char text[512];
    size_t len = 0;
    CHECK(stories());
    gomlx_request request = greedy("", 1);
    request.messages = &turn;
    request.message_count = 1;
    OK(gomlx_model_render_chat(stories(), &request, text, sizeof text, &len, NULL));
    CHECK(len == strlen(text) && strcmp(text, expected) == 0);
    FAILS(gomlx_model_render_chat(stories(), &request, text, len, &len, &error), GOMLX_ERR_BUFFER, "capacity");

    request.flags = GOMLX_REQUEST_CONTINUE_FINAL;
    OK(gomlx_model_render_chat(stories(), &request, text, sizeof text, &len, NULL));
    CHECK(strncmp(text, expected, len) == 0 && strncmp(expected + len, "<|eot_id|>", 10) == 0);

    request.flags = 0;
    request.messages = NULL;
    request.message_count = 0;
    request.messages_json = str("[{\"role\": \"user\", \"content\": \"Hi there\"}]");
    OK(gomlx_model_render_chat(stories(), &request, text, sizeof text, &len, NULL));
    CHECK(strcmp(text, expected) == 0);
}

static void null_handles_are_refused(void)
{
    gomlx_model_info info = {.struct_size = sizeof info};
    FAILS(gomlx_model_describe(NULL, &info, &error), GOMLX_ERR_ARGUMENT, "gomlx_model is NULL");
    FAILS(gomlx_model_describe(stories(), NULL, &error), GOMLX_ERR_ARGUMENT, "gomlx_model_info is NULL");
}

const test model_tests[] = {
    {"model is described", is_described},
    {"model refuses bad paths", refuses_bad_paths},
    {"model path needs no terminator", path_needs_no_terminator},
    {"model options have defaults", options_have_defaults},
    {"model options keep to struct_size", options_keep_to_struct_size},
    {"model options refuse unknown values", options_refuse_unknown_values},
    {"model options choose storage", options_choose_storage},
    {"model clone owns it too", clone_owns_it_too},
    {"model text makes the way to tokens and back", text_makes_the_way_to_tokens_and_back},
    {"model buffers too small say the size", buffers_too_small_say_the_size},
    {"model text tools refuse bad input", text_tools_refuse_bad_input},
    {"model tokenizes a megabyte of emoji", a_megabyte_of_emoji_is_tokenized},
    {"model renders a chat", chat_is_rendered},
    {"model NULL handles are refused", null_handles_are_refused},
    {0},
};
