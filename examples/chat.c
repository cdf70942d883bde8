/* chat: a conversation on the terminal. Ctrl-C stops an answer, Ctrl-D ends.
 *
 *     chat [MODEL_FOLDER]
 */
#include <gomlx.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { TURNS = 64, LONGEST = 8192 };
static char said[TURNS][LONGEST];
static gomlx_control *volatile current;

static void stop_answer(int signal_number)
{
    (void)signal_number;
    gomlx_control_cancel(current); /* one of the few calls that a signal handler may make */
}

static int32_t show(const gomlx_chunk *chunk, void *answer)
{
    size_t len = strlen(answer);
    if (len + chunk->text.len >= LONGEST)
        return 1; /* no room for more: the model stops */
    memcpy((char *)answer + len, chunk->text.data, chunk->text.len + 1);
    printf("%s", chunk->text.data);
    return fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "models/llama-tales-16m-4bit";
    gomlx_error error;
    gomlx_model *model = NULL;
    if (gomlx_model_load(folder, strlen(folder), NULL, &model, &error) != GOMLX_OK)
        return fprintf(stderr, "chat: %s\n", error.message), 1;

    gomlx_message turns[TURNS];
    signal(SIGINT, stop_answer);
    for (size_t n = 0; n < TURNS && (printf("> "), fflush(stdout), fgets(said[n], LONGEST, stdin)); n += 2) {
        turns[n] = (gomlx_message){{"user", 4}, {said[n], strcspn(said[n], "\n")}};
        gomlx_request request;
        gomlx_request_init(&request, sizeof request, NULL);
        request.messages = turns; /* all of them: what earlier answers computed is not computed again */
        request.message_count = n + 1;
        request.temperature = 0.7f;
        request.max_tokens = 200;
        request.control = current = gomlx_control_new();
        gomlx_status status = gomlx_generate(model, &request, show, said[n + 1], NULL, &error);
        puts(status == GOMLX_OK ? "" : error.message);
        turns[n + 1] = (gomlx_message){{"assistant", 9}, {said[n + 1], strlen(said[n + 1])}};

        gomlx_control *used = current;
        current = NULL;
        gomlx_control_free(used);
    }
    gomlx_model_free(model);
    return 0;
}
