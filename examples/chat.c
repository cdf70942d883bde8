/* chat [MODEL_FOLDER]: a conversation on the terminal. Ctrl-C stops an answer, Ctrl-D ends. */
#include <gomlx.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
enum { TURNS = 64, ROOM = 8192 };
static char said[TURNS][ROOM];
static gomlx_control *volatile current;

static void stop_answer(int signal_number)
{
    gomlx_control_cancel(signal_number == SIGINT ? current : NULL); /* one of the few calls that a handler may make */
}

static int32_t show(const gomlx_chunk *part, void *all) /* not 0: nobody reads on, or no room; the model stops */
{
    return fputs(part->text.data, stdout) < 0 || strlen(all) + part->text.len >= ROOM || !strcat(all, part->text.data);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "models/llama-tales-16m-4bit";
    gomlx_message turns[TURNS];
    gomlx_error error;
    gomlx_model *model = NULL;
    if (gomlx_model_load(folder, strlen(folder), NULL, &model, &error) != GOMLX_OK)
        return fprintf(stderr, "chat: %s\n", error.message), 1;
    signal(SIGINT, stop_answer), setvbuf(stdout, NULL, _IONBF, 0);
    for (size_t n = 0; n < TURNS && (printf("> "), fgets(said[n], ROOM, stdin)); n += 2) {
        gomlx_request request;
        gomlx_request_init(&request, sizeof request, NULL);
        turns[n] = (gomlx_message){{"user", 4}, {said[n], strcspn(said[n], "\n")}};
        request.messages = turns, request.message_count = n + 1; /* what was computed before is not computed again */
        request.temperature = 0.7f, request.max_tokens = 200, request.control = current = gomlx_control_new();
        puts(gomlx_generate(model, &request, show, said[n + 1], NULL, &error) == GOMLX_OK ? "" : error.message);
        turns[n + 1] = (gomlx_message){{"assistant", 9}, {said[n + 1], strlen(said[n + 1])}};
        current = NULL, gomlx_control_free((gomlx_control *)request.control);
    }
    return gomlx_model_free(model), 0;
}
