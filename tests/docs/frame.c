/* What the fragments of docs/c.md stand in. */
#include <gomlx.h>
#include <stdio.h>
#include <string.h>

@definitions@
int main(void)
{
    const char *stories = "models/llama-tales-16m-4bit";
    gomlx_error error;
    gomlx_model *model = NULL;
    if (gomlx_model_load(stories, strlen(stories), NULL, &model, &error) != GOMLX_OK)
        return puts(error.message), 1;
@fragments@
    gomlx_model_free(model);
    return 0;
}
