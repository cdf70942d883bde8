// Tests of include/gomlx.hpp: the scenarios through it, and what it adds to the C interface. From the repository's root.
#include <gomlx.hpp>

extern "C" {
#include "../c/json.h"
}

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <numeric>
#include <optional>
#include <sstream>
#include <thread>
#include <type_traits>

namespace {
using namespace std::string_literals;

const char *const STORIES = "models/llama-tales-16m-4bit";
const char *const DOMAINS = "models/gemma3-domains-6m-4bit";

struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct not_known : std::runtime_error {
    using std::runtime_error::runtime_error;
};
#define STRING_OF(x) #x
#define LINE(x) STRING_OF(x)
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            throw failure("line " LINE(__LINE__) ": " #condition);                                                     \
    } while (0)

// The gomlx::error that `call` throws.
gomlx::error thrown(const std::function<void()> &call) {
    try {
        call();
    } catch (const gomlx::error &error) {
        return error;
    }
    throw failure("nothing was thrown");
}
bool has(std::string_view text, std::string_view words) { return text.find(words) != text.npos; }
uint64_t live_handles() {
    auto info = gomlx::detail::told<gomlx_runtime_info>(gomlx_runtime_describe);
    return info.live_catalogs + info.live_controls + info.live_generations + info.live_models;
}
gomlx::request asking(std::string_view prompt, uint32_t max_tokens) {
    gomlx::request out(prompt);
    out.max_tokens = max_tokens;
    return out;
}

// --- The scenarios, whose README says what the fields mean.

int32_t named(const std::map<std::string, int32_t> &names, const char *name) {
    auto found = names.find(name);
    if (found == names.end())
        throw not_known("\""s + name + "\"");
    return found->second;
}
const std::map<std::string, int32_t> statuses{
    {"ok", GOMLX_OK}, {"argument", GOMLX_ERR_ARGUMENT}, {"unsupported", GOMLX_ERR_UNSUPPORTED}, {"io", GOMLX_ERR_IO},
    {"format", GOMLX_ERR_FORMAT}, {"context_full", GOMLX_ERR_CONTEXT_FULL}, {"deadline", GOMLX_ERR_DEADLINE},
    {"cancelled", GOMLX_ERR_CANCELLED}, {"busy", GOMLX_ERR_BUSY}, {"memory", GOMLX_ERR_MEMORY}};
const std::map<std::string, int32_t> reasons{
    {"end_token", GOMLX_STOP_END_TOKEN}, {"stop", GOMLX_STOP_STOP}, {"max_tokens", GOMLX_STOP_MAX_TOKENS},
    {"context_full", GOMLX_STOP_CONTEXT_FULL}};
const std::map<std::string, int32_t> flags{
    {"ignore_end", GOMLX_REQUEST_IGNORE_END}, {"special_in_text", GOMLX_REQUEST_SPECIAL_IN_TEXT},
    {"echo", GOMLX_REQUEST_ECHO}, {"continue_final", GOMLX_REQUEST_CONTINUE_FINAL}};

template <class T> std::vector<T> list(const json &array, const std::function<T(const json &)> &read) {
    std::vector<T> out;
    for (const json *item = array.first; item; item = item->next)
        out.push_back(read(*item));
    return out;
}
uint32_t token_of(const json &item) { return uint32_t(item.number); }

// A request as a scenario tells it, with what it points to.
struct told_request : gomlx::request {
    std::vector<uint32_t> ids, ends;
    std::vector<gomlx_message> turns;
    std::vector<gomlx_string> stops;
    std::vector<gomlx_logit_bias> biases;

    explicit told_request(const json *told) {
        for (const json *field = told ? told->first : nullptr; field; field = field->next)
            set(field->key, *field);
    }
    told_request(const told_request &) = delete;

private:
    void set(std::string_view key, const json &value) {
        auto text = gomlx::view(std::string_view(value.text ? value.text : ""));
        if (key == "prompt")
            prompt = text;
        else if (key == "messages_json")
            messages_json = text;
        else if (key == "template_variables")
            template_variables = text;
        else if (key == "max_tokens")
            max_tokens = uint32_t(value.number);
        else if (key == "temperature")
            temperature = float(value.number);
        else if (key == "top_k")
            top_k = uint32_t(value.number);
        else if (key == "top_p")
            top_p = float(value.number);
        else if (key == "min_p")
            min_p = float(value.number);
        else if (key == "repetition_penalty")
            repetition_penalty = float(value.number);
        else if (key == "deadline_ms")
            deadline_ms = uint64_t(value.number);
        else if (key == "seed") {
            seed = uint64_t(value.number);
            flags |= GOMLX_REQUEST_SEED;
        } else if (key == "flags") {
            for (const json *item = value.first; item; item = item->next)
                flags |= uint32_t(named(::flags, item->text));
        } else if (key == "tokens") {
            ids = list<uint32_t>(value, token_of);
            tokens = ids.data(), token_count = ids.size();
        } else if (key == "stop_tokens") {
            ends = list<uint32_t>(value, token_of);
            stop_tokens = ends.data(), stop_token_count = ends.size();
        } else if (key == "stop") {
            stops = list<gomlx_string>(value, [](const json &item) { return gomlx::view(std::string_view(item.text)); });
            stop = stops.data(), stop_count = stops.size();
        } else if (key == "messages") {
            turns = list<gomlx_message>(value, [](const json &item) {
                return gomlx_message{gomlx::view(std::string_view(json_text(&item, "role", ""))),
                                     gomlx::view(std::string_view(json_text(&item, "content", "")))};
            });
            messages = turns.data(), message_count = turns.size();
        } else if (key == "logit_bias") {
            biases = list<gomlx_logit_bias>(value, [](const json &item) {
                return gomlx_logit_bias{uint32_t(json_number(&item, "token", 0)), float(json_number(&item, "bias", 0))};
            });
            logit_bias = biases.data(), logit_bias_count = biases.size();
        } else
            throw not_known("\""s + std::string(key) + "\"");
    }
};

void scenario(const json &told) {
    const json *how = json_get(&told, "options"), *expect = json_get(&told, "expect");
    gomlx_status status = GOMLX_OK;
    std::string message, text;
    std::optional<gomlx_metrics> metrics;
    try {
        gomlx::options options;
        options.context_length = uint32_t(json_number(how, "context_length", 0));
        options.precision = json_text(how, "precision", "fast") == "exact"s ? GOMLX_PRECISION_EXACT : GOMLX_PRECISION_FAST;
        told_request request(json_get(&told, "request"));
        gomlx::model model("models/"s + json_text(&told, "model", "?"), options);
        gomlx::generation answer = model.generate(request);
        text = answer.text();
        metrics = answer.metrics();
    } catch (const gomlx::error &error) {
        status = error.status;
        message = error.what();
    }
    if (status != named(statuses, json_text(expect, "status", "ok")))
        throw failure("status " + std::to_string(status) + ": " + message);
    if (!has(message, json_text(expect, "message", "")))
        throw failure("the message is: " + message);
    if (const char *wanted = json_text(expect, "text", nullptr); wanted && text != wanted)
        throw failure("the text is: " + text);
    if (text.rfind(json_text(expect, "text_begins", ""), 0) != 0)
        throw failure("the text is: " + text);
    if (!metrics)
        return;
    if (const char *reason = json_text(expect, "stop_reason", nullptr))
        CHECK(metrics->stop_reason == named(reasons, reason));
    CHECK(double(metrics->prompt_tokens) == json_number(expect, "prompt_tokens", double(metrics->prompt_tokens)));
    CHECK(double(metrics->generated_tokens) ==
          json_number(expect, "generated_tokens", double(metrics->generated_tokens)));
}

// --- What the wrapper adds.

static_assert(!std::is_copy_constructible_v<gomlx::model> && std::is_nothrow_move_constructible_v<gomlx::model>);
static_assert(!std::is_copy_constructible_v<gomlx::generation> && std::is_move_constructible_v<gomlx::generation>);
static_assert(!std::is_copy_constructible_v<gomlx::control> && !std::is_copy_constructible_v<gomlx::catalog>);
static_assert(std::is_base_of_v<std::input_iterator_tag, std::iterator_traits<gomlx::generation::iterator>::iterator_category>);

void loops_and_leaves() {
    gomlx::model model(STORIES);
    auto many = asking("Once upon a time", 1000);
    many.flags = GOMLX_REQUEST_IGNORE_END;
    int chunks = 0;
    for (const gomlx_chunk &chunk : model.generate(many)) {
        CHECK(chunk.token_count >= 1);
        if (++chunks == 3)
            break; // stops the model: the temporary goes
    }
    CHECK(chunks == 3);
    // The rest of an answer that a loop left; past its end, no more.
    gomlx::generation answer = model.generate(asking("Once upon a time", 12));
    std::string begun(gomlx::view(answer.begin()->text));
    CHECK(begun + answer.text() == gomlx::model(STORIES).generate(asking("Once upon a time", 12)).text());
    CHECK(answer.text().empty() && answer.begin() == answer.end());
    size_t counted = 0;
    gomlx::generation third = model.generate(asking("The dog", 5));
    std::for_each(third.begin(), third.end(), [&](const gomlx_chunk &chunk) { counted += chunk.token_count; });
    CHECK(counted <= 5 && counted > 0 && third.metrics().stop_reason == GOMLX_STOP_MAX_TOKENS);
}

void any_order_of_destruction() {
    uint64_t before = live_handles();
    {
        auto model = std::make_unique<gomlx::model>(STORIES);
        gomlx::generation answer = model->generate(asking("Once upon a time", 30));
        model.reset(); // the answer keeps it alive
        gomlx::generation moved = std::move(answer);
        CHECK(moved.text().size() > 60);
        answer = std::move(moved); // assigned to again
        gomlx::model other(STORIES), taken(std::move(other));
        other = gomlx::model(DOMAINS);
        CHECK(gomlx::view(taken.info().family) == "llama" && gomlx::view(other.info().family) == "gemma3_text");
        std::vector<gomlx::generation> several;
        for (int i = 0; i < 8; i++)
            several.push_back(taken.generate("Once"));
        several.erase(several.begin() + 2);
    }
    CHECK(live_handles() == before);
    try { // an exception through a running answer
        gomlx::model model(STORIES);
        for (const gomlx_chunk &chunk : model.generate("Once"))
            throw chunk.token_count;
    } catch (size_t) {
    }
    CHECK(live_handles() == before);
}

void errors_are_exceptions() {
    gomlx::error missing = thrown([] { gomlx::model("nowhere"); });
    CHECK(missing.status == GOMLX_ERR_IO && has(missing.what(), "nowhere"));
    gomlx::model model(STORIES);
    auto bad = asking("a", 0);
    CHECK(thrown([&] { model.generate(bad); }).status == GOMLX_ERR_ARGUMENT);
    CHECK(thrown([&] { gomlx::catalog("nowhere"); }).status == GOMLX_ERR_IO);
    CHECK(thrown([&] { model.tokenize("\xff"); }).status == GOMLX_ERR_ARGUMENT);
    CHECK(thrown([&] { model.classify(gomlx::classify_request()); }).status == GOMLX_ERR_ARGUMENT);
    gomlx::catalog found("models");
    CHECK(thrown([&] { found[found.size()]; }).status == GOMLX_ERR_ARGUMENT);
    auto late = asking("Once", 100000);
    late.flags = GOMLX_REQUEST_IGNORE_END, late.deadline_ms = 10;
    CHECK(thrown([&] { model.generate(late).text(); }).status == GOMLX_ERR_DEADLINE);
}

void cancels_from_another_thread() {
    gomlx::model model(STORIES);
    gomlx::control control;
    gomlx::request endless("Once upon a time");
    endless.flags = GOMLX_REQUEST_IGNORE_END, endless.control = control.get();
    gomlx::generation answer = model.generate(endless);
    std::thread other([&control] {
        for (uint64_t done = 0; done < 5; done = control.progress().first) // the prompt
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        control.cancel();
    });
    gomlx_status status = thrown([&] { answer.text(); }).status;
    other.join();
    CHECK(status == GOMLX_ERR_CANCELLED && answer.metrics().stop_reason == GOMLX_STOP_CANCELLED);
    auto [done, total] = control.progress();
    CHECK(done == 5 && total == 5);
    gomlx::options options;
    options.control = control.get(); // stays cancelled
    CHECK(thrown([&] { gomlx::model(STORIES, options); }).status == GOMLX_ERR_CANCELLED);
}

void shared_by_threads() {
    const gomlx::model model(STORIES);
    const std::string alone = model.generate(asking("Once upon a time", 40)).text();
    std::vector<std::string> answers(16);
    std::vector<std::thread> threads;
    for (auto &answer : answers)
        threads.emplace_back([&] { answer = model.generate(asking("Once upon a time", 40)).text(); });
    for (auto &thread : threads)
        thread.join();
    CHECK(std::all_of(answers.begin(), answers.end(), [&](const std::string &text) { return text == alone; }));
}

void several_at_once_and_too_many() {
    gomlx::options options;
    options.max_sequences = 1, options.max_queue = 2;
    gomlx::model model(STORIES, options);
    const char *const prompts[] = {"Once upon a time", "The little dog", "One day"};
    std::vector<std::string> alone;
    for (auto prompt : prompts)
        alone.push_back(model.generate(asking(prompt, 30)).text());
    gomlx::request endless("Once");
    endless.flags = GOMLX_REQUEST_IGNORE_END;
    {
        std::vector<gomlx::generation> waiting; // one runs, two wait, and there is no room for more
        CHECK(thrown([&] {
                  for (int i = 0; i < 10; i++)
                      waiting.push_back(model.generate(endless));
              }).status == GOMLX_ERR_BUSY);
        CHECK(waiting.size() >= 2 && waiting.size() <= 4);
    }
    std::vector<gomlx::generation> together;
    gomlx::model wide(STORIES);
    for (auto prompt : prompts)
        together.push_back(wide.generate(asking(prompt, 30)));
    for (size_t i = 3; i-- > 0;) // read in another order than asked
        CHECK(together[i].text() == alone[i]);
}

void tokens_there_and_back() {
    gomlx::model model(STORIES);
    std::string text;
    for (int i = 0; i < 100; i++) // more than the first guess at the size
        text += "The little dog ran to the " + std::to_string(i) + "th house. ";
    std::vector<uint32_t> tokens = model.tokenize(text);
    CHECK(tokens.size() > 300 && model.tokenize(text, false).size() + 1 == tokens.size());
    CHECK(model.detokenize(tokens) == text);
    CHECK(model.tokenize("", false).empty() && model.detokenize({}).empty());
    gomlx::request chat;
    gomlx_message turn{gomlx::view("user"), gomlx::view(text)};
    chat.messages = &turn, chat.message_count = 1;
    CHECK(has(model.render_chat(chat), std::string_view(text).substr(0, text.size() - 1)));
}

void labels_scores_vectors() {
    gomlx::model model(DOMAINS);
    std::vector<gomlx_string> texts{gomlx::view("what is my balance at the bank"), gomlx::view("book a flight to paris")};
    std::vector<gomlx_string> labels{gomlx::view(" banking"), gomlx::view(" travel"), gomlx::view(" work")};
    gomlx::classify_request request;
    request.pattern = gomlx::view("Sentence: {text}\nDomain:");
    request.texts = texts.data(), request.text_count = texts.size();
    request.labels = labels.data(), request.label_count = labels.size();
    std::vector<gomlx_classification> results = model.classify(request);
    CHECK(results.size() == 2 && results[0].label == 0 && results[1].label == 1 && results[1].probability > 0.5f);
    std::vector<float> scores = model.score(gomlx::request("Sentence: book a flight to paris\nDomain:"), labels);
    CHECK(scores.size() == 3 && scores[1] == results[1].logprob && scores[1] > scores[0]);
    std::vector<float> vectors = model.embed(texts);
    size_t width = vectors.size() / 2;
    CHECK(width == model.info().hidden);
    for (auto row = vectors.begin(); row != vectors.end(); row += std::ptrdiff_t(width))
        CHECK(std::fabs(std::inner_product(row, row + std::ptrdiff_t(width), row, 0.0f) - 1) < 1e-3f);
}

void finds_models() {
    gomlx::catalog found("models");
    CHECK(found.size() == 2 && gomlx::view(found[0].name) == "gemma3-domains-6m-4bit");
    CHECK(gomlx::view(gomlx::model(gomlx::view(found[1].path)).info().family) == "llama");
}

int passed, failed, skipped;
void run(const std::string &name, const std::function<void()> &test) {
    try {
        test();
        passed++;
    } catch (const not_known &what) {
        std::cout << "skip " << name << ": not known to the C++ tests: " << what.what() << "\n";
        skipped++;
    } catch (const std::exception &what) {
        std::cout << "FAIL " << name << ": " << what.what() << "\n";
        failed++;
    }
}
} // namespace

int main() {
    for (const auto &entry : std::filesystem::directory_iterator("tests/scenarios")) {
        if (entry.path().extension() != ".json")
            continue;
        std::ostringstream text;
        text << std::ifstream(entry.path()).rdbuf();
        json *told = json_parse(text.str().c_str());
        run(entry.path().string() + " can be read", [&] { CHECK(told && told->first); });
        for (const json *one = told ? told->first : nullptr; one; one = one->next)
            run("scenario \""s + json_text(one, "name", "?") + "\"", [&] { scenario(*one); });
        json_free(told);
    }
    run("loops, and leaves them", loops_and_leaves);
    run("any order of destruction", any_order_of_destruction);
    run("errors are exceptions", errors_are_exceptions);
    run("cancels from another thread", cancels_from_another_thread);
    run("shared by threads", shared_by_threads);
    run("several at once, and too many", several_at_once_and_too_many);
    run("tokens there and back", tokens_there_and_back);
    run("labels, scores, vectors", labels_scores_vectors);
    run("finds models", finds_models);
    run("nothing is alive at the end", [] { CHECK(live_handles() == 0); });
    std::cout << passed << " passed, " << failed << " failed, " << skipped << " skipped\n";
    return failed != 0;
}
