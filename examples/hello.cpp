// hello: a model continues a text, in this very process.
//
//     hello [PROMPT [MODEL_FOLDER]]
#include <gomlx.hpp>
#include <iostream>

int main(int argc, char **argv) try {
    gomlx::model model(argc > 2 ? argv[2] : "models/llama-tales-16m-4bit");
    gomlx::request request(argc > 1 ? argv[1] : "Once upon a time");
    request.max_tokens = 100;
    request.flags = GOMLX_REQUEST_ECHO;

    gomlx::generation answer = model.generate(request);
    for (const gomlx_chunk &chunk : answer)
        std::cout << gomlx::view(chunk.text) << std::flush;
    gomlx_metrics metrics = answer.metrics();
    std::cout << "\n\n[" << metrics.generated_tokens << " tokens, " << metrics.decode_tokens_per_second << " tokens/s]\n";
} catch (const gomlx::error &error) {
    std::cerr << "hello: " << error.what() << "\n";
    return 1;
}
