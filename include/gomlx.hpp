// gomlx.hpp: gomlx.h for C++17. Handles that free themselves, failures as exceptions, answers as ranges. Header-only.
//
//     gomlx::model model("models/llama-tales-16m-4bit");
//     for (const gomlx_chunk &chunk : model.generate("Once upon a time"))
//         std::cout << gomlx::view(chunk.text);
//
// What gomlx.h says holds: any number of threads may use a model, one at a time a generation; any order of destruction
// is right. Handles are moved, not copied; one that was moved from may only be assigned to or destroyed.
#ifndef GOMLX_HPP
#define GOMLX_HPP
#include "gomlx.h"

#include <cstddef>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gomlx {
/// A failed call: `what()` is the library's one line, `status` one of GOMLX_ERR_*.
struct error : std::runtime_error {
    error(gomlx_status code, const char *message) : std::runtime_error(message), status(code) {}
    gomlx_status status;
};

/// The library's text, valid as long as what it came with; the caller's, which must outlive the call it is given to.
inline std::string_view view(gomlx_string text) noexcept { return {text.data, text.len}; }
inline gomlx_string view(std::string_view text) noexcept { return {text.data(), text.size()}; }

namespace detail {
/// Calls `function` with these arguments and an error record; throws where it fails.
template <class Function, class... Arguments> gomlx_status check(Function function, Arguments... arguments) {
    gomlx_error record;
    gomlx_status status = function(arguments..., &record);
    return status < 0 ? throw error(status, record.message) : status;
}
struct release {
    void operator()(gomlx_model *handle) const noexcept { gomlx_model_free(handle); }
    void operator()(gomlx_generation *handle) const noexcept { gomlx_generation_free(handle); }
    void operator()(gomlx_control *handle) const noexcept { gomlx_control_free(handle); }
    void operator()(gomlx_catalog *handle) const noexcept { gomlx_catalog_free(handle); }
};
template <class T> using handle = std::unique_ptr<T, release>;
/// A handle of a function that has no error record.
template <class T> handle<T> given(T *out) {
    return out ? handle<T>(out) : throw error(gomlx_last_error()->code, gomlx_last_error()->message);
}
/// The handle or struct that a function hands out.
template <class T, class Function, class... Arguments> handle<T> made(Function function, Arguments... arguments) {
    T *out = nullptr;
    check(function, arguments..., &out);
    return handle<T>(out);
}
template <class T, class Function, class... Arguments> T told(Function function, Arguments... arguments) {
    T out{};
    out.struct_size = sizeof out;
    check(function, arguments..., &out);
    return out;
}
/// Text or tokens, whose size is only known once they were asked for.
template <class Container, class Function, class... Arguments>
Container sized(Container out, Function function, Arguments... arguments) {
    for (size_t needed = 0;; out.resize(needed + 1)) {
        gomlx_error record;
        gomlx_status status = function(arguments..., out.data(), out.size(), &needed, &record);
        if (status != GOMLX_ERR_BUFFER)
            return status < 0 ? throw error(status, record.message) : (out.resize(needed), std::move(out));
    }
}
/// A struct of the C interface with its defaults.
template <class T, gomlx_status (*init)(T *, size_t, gomlx_error *)> struct defaults : T {
    defaults() { check(init, this, sizeof(T)); }
};
} // namespace detail

/// A cancel flag and progress meter: `request.control = control.get()`, also for the options of a load.
class control : detail::handle<gomlx_control> {
public:
    control() : unique_ptr(detail::given(gomlx_control_new())) {}
    /// From any thread, more than once.
    void cancel() const noexcept { gomlx_control_cancel(get()); }
    /// Bytes of a load or prompt tokens of a request: done, total.
    std::pair<uint64_t, uint64_t> progress() const {
        uint64_t done = 0, total = 0;
        return detail::check(gomlx_control_progress, get(), &done, &total), std::pair(done, total);
    }
    using unique_ptr::get;
};

/// The structs of gomlx.h with their defaults. They point to what they are given, and own nothing.
using options = detail::defaults<gomlx_model_options, gomlx_model_options_init>;
using classify_request = detail::defaults<gomlx_classify_request, gomlx_classify_request_init>;
struct request : detail::defaults<gomlx_request, gomlx_request_init> {
    request() = default;
    explicit request(std::string_view text) { prompt = view(text); }
};

/// An answer in progress: a range of chunks, each valid until the next one. Destroying it stops the answer. It is one
/// more owner of its model, which so lives until the answer is destroyed, too.
class generation : detail::handle<gomlx_generation> {
    friend class model;
    generation(unique_ptr &&started, detail::handle<gomlx_model> &&owner)
        : unique_ptr(std::move(started)), model_(std::move(owner)) {
        chunk_.struct_size = sizeof chunk_;
    }
    bool next() { return detail::check(gomlx_generation_next, get(), -1, &chunk_) == GOMLX_OK; }
    detail::handle<gomlx_model> model_;
    gomlx_chunk chunk_{};

public:
    class iterator {
        friend generation;
        generation *from_;
        explicit iterator(generation *from) : from_(from) {}

    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = gomlx_chunk;
        using difference_type = std::ptrdiff_t;
        using pointer = const gomlx_chunk *;
        using reference = const gomlx_chunk &;
        reference operator*() const noexcept { return from_->chunk_; }
        pointer operator->() const noexcept { return &from_->chunk_; }
        iterator &operator++() { return from_ = from_->next() ? from_ : nullptr, *this; }
        void operator++(int) { ++*this; }
        friend bool operator==(iterator a, iterator b) noexcept { return a.from_ == b.from_; }
        friend bool operator!=(iterator a, iterator b) noexcept { return a.from_ != b.from_; }
    };
    /// Waits for the next chunk. One pass: a second begin() goes on where the first one is. Not to be moved meanwhile.
    iterator begin() { return ++iterator(this); }
    iterator end() noexcept { return iterator(nullptr); }
    /// What is left of the answer, as one text.
    std::string text() {
        std::string out;
        for (const gomlx_chunk &chunk : *this)
            out += view(chunk.text);
        return out;
    }
    /// The figures so far, complete once the answer is.
    gomlx_metrics metrics() { return detail::told<gomlx_metrics>(gomlx_generation_metrics, get()); }
};

/// A loaded model.
class model : detail::handle<gomlx_model> {
public:
    explicit model(std::string_view folder, const gomlx_model_options &how = options())
        : unique_ptr(detail::made<gomlx_model>(gomlx_model_load, folder.data(), folder.size(), &how)) {}
    /// Starts an answer. It is computed from now on; several at once are computed together.
    generation generate(const gomlx_request &what) const {
        auto started = detail::made<gomlx_generation>(gomlx_generation_start, get(), &what);
        return generation(std::move(started), detail::given(gomlx_model_clone(get())));
    }
    generation generate(std::string_view prompt) const { return generate(request(prompt)); }
    /// Labels every text of the request.
    std::vector<gomlx_classification> classify(const gomlx_classify_request &what) const {
        std::vector<gomlx_classification> out(what.text_count);
        detail::check(gomlx_classify, get(), &what, out.data(), out.size(), nullptr, nullptr, nullptr);
        return out;
    }
    /// Log-probability of each continuation after the prompt.
    std::vector<float> score(const gomlx_request &after, const std::vector<gomlx_string> &continuations) const {
        std::vector<float> out(continuations.size());
        detail::check(gomlx_score, get(), &after, continuations.data(), out.size(), out.data(), nullptr);
        return out;
    }
    /// One row of info().hidden numbers a text.
    std::vector<float> embed(const std::vector<gomlx_string> &texts, gomlx_pooling pooling = GOMLX_POOLING_MEAN) const {
        std::vector<float> out(texts.size() * info().hidden);
        detail::check(gomlx_embed, get(), texts.data(), texts.size(), pooling, nullptr, out.data(), out.size());
        return out;
    }
    std::vector<uint32_t> tokenize(std::string_view text, bool special = true) const {
        return detail::sized(std::vector<uint32_t>(64), gomlx_model_tokenize, get(), text.data(), text.size(), special);
    }
    std::string detokenize(const std::vector<uint32_t> &ids, bool skip_special = true) const {
        return detail::sized(std::string(99, 0), gomlx_model_detokenize, get(), ids.data(), ids.size(), skip_special);
    }
    /// The prompt that the chat template makes of the request's messages.
    std::string render_chat(const gomlx_request &what) const {
        return detail::sized(std::string(99, 0), gomlx_model_render_chat, get(), &what);
    }
    gomlx_model_info info() const { return detail::told<gomlx_model_info>(gomlx_model_describe, get()); }
    using unique_ptr::get;
};

/// The models below a folder, also those that can't be loaded (`status` and `reason` say why).
class catalog : detail::handle<gomlx_catalog> {
public:
    explicit catalog(std::string_view folder)
        : unique_ptr(detail::made<gomlx_catalog>(gomlx_discover, folder.data(), folder.size())) {}
    size_t size() const noexcept { return gomlx_catalog_count(get()); }
    gomlx_model_info operator[](size_t i) const { return detail::told<gomlx_model_info>(gomlx_catalog_get, get(), i); }
};
} // namespace gomlx
#endif
