#define _POSIX_C_SOURCE 200809L
#include "harness.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static gomlx_catalog *discover(const char *dir)
{
    gomlx_catalog *catalog = NULL;
    if (gomlx_discover(dir, strlen(dir), &catalog, NULL) != GOMLX_OK)
        fail(__FILE__, __LINE__, "%s: %s", dir, gomlx_last_error()->message);
    return catalog;
}

static void finds_the_models(void)
{
    gomlx_catalog *catalog = discover("models");
    gomlx_model_info gemma = {.struct_size = sizeof gemma}, llama = gemma, loaded = gemma;
    CHECK(catalog && gomlx_catalog_count(catalog) == 2);
    OK(gomlx_catalog_get(catalog, 0, &gemma, NULL));
    OK(gomlx_catalog_get(catalog, 1, &llama, NULL));
    CHECK(gemma.status == GOMLX_OK && gemma.reason.len == 0);
    CHECK(strcmp(gemma.path.data, DOMAINS) == 0 && strcmp(gemma.family.data, "gemma3_text") == 0);
    CHECK(strcmp(llama.path.data, STORIES) == 0 && strcmp(llama.family.data, "llama") == 0);

    /* What it says is what the loaded model says. */
    CHECK(stories());
    OK(gomlx_model_describe(stories(), &loaded, NULL));
    CHECK(strcmp(llama.name.data, loaded.name.data) == 0 && strcmp(llama.dtype.data, loaded.dtype.data) == 0);
    CHECK(llama.parameters == loaded.parameters && llama.bytes_on_disk == loaded.bytes_on_disk);
    CHECK(llama.layers == loaded.layers && llama.hidden == loaded.hidden && llama.vocabulary == loaded.vocabulary);
    CHECK(llama.quantisation_bits == 4 && llama.quantisation_group == 64 && llama.context == loaded.context);
    CHECK(llama.has_chat_template == loaded.has_chat_template);
    CHECK(llama.context_length == 0 && llama.threads == 0 && llama.backend.len == 0);
    gomlx_catalog_free(catalog);
}

static void says_why_not(void)
{
    char folder[] = "/tmp/gomlx-XXXXXX", inner[64], config[80];
    gomlx_model_info info = {.struct_size = sizeof info};
    CHECK(mkdtemp(folder));
    snprintf(inner, sizeof inner, "%s/broken", folder);
    snprintf(config, sizeof config, "%s/config.json", inner);
    CHECK(mkdir(inner, 0700) == 0);
    FILE *file = fopen(config, "w");
    CHECK(file);
    fputs("{\"model_type\": \"none-such\"}", file);
    fclose(file);
    gomlx_catalog *catalog = discover(folder);
    size_t count = gomlx_catalog_count(catalog);
    gomlx_status status = gomlx_catalog_get(catalog, 0, &info, NULL);
    unlink(config);
    rmdir(inner);
    rmdir(folder);
    CHECK(count == 1 && status == GOMLX_OK);
    CHECK(info.status == GOMLX_ERR_UNSUPPORTED && strstr(info.reason.data, "none-such"));
    CHECK(strcmp(info.name.data, "broken") == 0 && strcmp(info.path.data, inner) == 0 && info.layers == 0);
    gomlx_catalog_free(catalog);
}

static void refuses_bad_input(void)
{
    gomlx_catalog *catalog = NULL;
    gomlx_model_info info = {.struct_size = sizeof info};
    FAILS(gomlx_discover("/no/such/folder", 15, &catalog, &error), GOMLX_ERR_IO, "/no/such/folder");
    FAILS(gomlx_discover("Makefile", 8, &catalog, &error), GOMLX_ERR_IO, "Makefile");
    FAILS(gomlx_discover("", 0, &catalog, &error), GOMLX_ERR_ARGUMENT, "dir is empty");
    FAILS(gomlx_discover("a\xff", 2, &catalog, &error), GOMLX_ERR_ARGUMENT, "dir is not UTF-8");
    FAILS(gomlx_discover("models", 6, NULL, &error), GOMLX_ERR_ARGUMENT, "out_catalog is NULL");
    CHECK(catalog == NULL);
    CHECK(gomlx_catalog_count(NULL) == 0);
    FAILS(gomlx_catalog_get(NULL, 0, &info, &error), GOMLX_ERR_ARGUMENT, "gomlx_catalog is NULL");
    catalog = discover("tests/c");
    CHECK(catalog && gomlx_catalog_count(catalog) == 0);
    FAILS(gomlx_catalog_get(catalog, 0, &info, &error), GOMLX_ERR_ARGUMENT, "index 0 of 0");
    FAILS(gomlx_catalog_get(catalog, 0, NULL, &error), GOMLX_ERR_ARGUMENT, "gomlx_model_info is NULL");
    gomlx_catalog_free(catalog);
    gomlx_catalog_free(NULL);
}

const test discover_tests[] = {
    {"discover finds the models", finds_the_models},
    {"discover says why not", says_why_not},
    {"discover refuses bad input", refuses_bad_input},
    {0},
};
