/* gomlx.h: language models inside your own process. Written by cbindgen from src/ffi; do not edit.
 *
 * Conventions, stated once:
 *   order      f(self, inputs..., outputs named out_*, gomlx_error *error).
 *   errors     A gomlx_status below 0 is a failure. `error` may be NULL everywhere; gomlx_last_error() has it, too.
 *              A success leaves the record as it was. Messages say what the caller does not know yet, in one line.
 *   outputs    Written only when the call returns GOMLX_OK, but for the needed size beside GOMLX_ERR_BUFFER.
 *   ownership  *_load, *_start, *_new, *_clone and gomlx_discover hand the caller one owned handle; *_free takes it
 *              back, accepts NULL and never fails. Any order of freeing is right: what outlives its parent ends
 *              with a status. Everything else that comes back is borrowed; the struct that holds it says for how long.
 *   NULL       is allowed where a comment says so, and for arrays and strings of length 0. Elsewhere it is
 *              GOMLX_ERR_ARGUMENT.
 *   strings    UTF-8 as pointer and length in bytes, no terminator needed. Text that comes back is also
 *              NUL-terminated.
 *   structs    cross by pointer only. Those that begin with struct_size hold sizeof(the struct) there; *_init sets it
 *              together with the defaults. A shorter (older) struct gets the defaults for its missing tail; a longer
 *              (newer) one is accepted only when its unknown tail is all zero.
 *   enums      int32_t, with the values in an enum beside it; an unknown value is GOMLX_ERR_ARGUMENT. Flags are
 *              uint32_t; an unknown bit is, too.
 *   threads    A const handle may be used by several threads at once, another one by one thread at a time; *_free
 *              when no other thread begins a call with that handle any more: calls that are inside end by themselves.
 *              Callbacks run on the thread inside the gomlx call that
 *              was given them, and nowhere else.
 *   fork       In a child, models and generations of the parent give GOMLX_ERR_FORKED, and may be freed.
 *   the host   Nothing here ends the process, prints, or installs a signal handler.
 */


#ifndef GOMLX_H
#define GOMLX_H

#include <stddef.h>
#include <stdint.h>

/**
 * The ABI that this header declares. `gomlx_abi_version` says the loaded library's; they must be equal. It is also
 * the number in the library's SONAME (`libgomlx.so.1`) and changes only when something old stops working.
 */
typedef enum gomlx_abi {
    /**
     * The number.
     */
    GOMLX_ABI_VERSION = 1,
} gomlx_abi;

/**
 * The values of `gomlx_status`. They never change meaning.
 */
typedef enum gomlx_status_value {
    /**
     * Done as asked.
     */
    GOMLX_OK = 0,
    /**
     * The generation is complete; no chunk was written.
     */
    GOMLX_DONE = 1,
    /**
     * Nothing new within the time given; no chunk was written.
     */
    GOMLX_PENDING = 2,
    /**
     * Something that can never be right: NULL, invalid UTF-8, an unknown enum value, NaN.
     */
    GOMLX_ERR_ARGUMENT = -1,
    /**
     * Right call, wrong moment: two threads inside one generation, a model that is being freed.
     */
    GOMLX_ERR_STATE = -2,
    /**
     * The operating system refused: a file is missing or may not be read.
     */
    GOMLX_ERR_IO = -3,
    /**
     * A file was read but does not hold what its format promises.
     */
    GOMLX_ERR_FORMAT = -4,
    /**
     * Well-formed, but not something this library can run.
     */
    GOMLX_ERR_UNSUPPORTED = -5,
    /**
     * The memory limit, or the machine's memory, does not allow it.
     */
    GOMLX_ERR_MEMORY = -6,
    /**
     * The prompt does not fit the context.
     */
    GOMLX_ERR_CONTEXT_FULL = -7,
    /**
     * The buffer is too small; the needed size was written.
     */
    GOMLX_ERR_BUFFER = -8,
    /**
     * The caller cancelled.
     */
    GOMLX_ERR_CANCELLED = -9,
    /**
     * The device that computes failed.
     */
    GOMLX_ERR_BACKEND = -10,
    /**
     * A defect of the library; the message says where.
     */
    GOMLX_ERR_INTERNAL = -11,
    /**
     * Too many requests wait already.
     */
    GOMLX_ERR_BUSY = -12,
    /**
     * The process forked after the model was loaded; load it again in the child.
     */
    GOMLX_ERR_FORKED = -13,
    /**
     * The request's deadline passed.
     */
    GOMLX_ERR_DEADLINE = -14,
} gomlx_status_value;

/**
 * The values of `gomlx_backend`.
 */
typedef enum gomlx_backend_value {
    /**
     * The fastest that this build has on this machine.
     */
    GOMLX_BACKEND_AUTO = 0,
    /**
     * The library's own kernels.
     */
    GOMLX_BACKEND_CPU = 1,
    /**
     * MLX (Metal, CUDA); `GOMLX_ERR_UNSUPPORTED` in builds without it.
     */
    GOMLX_BACKEND_MLX = 2,
} gomlx_backend_value;

/**
 * The values of `gomlx_kv_type`.
 */
typedef enum gomlx_kv_type_value {
    /**
     * f16, or f32 with `GOMLX_PRECISION_EXACT`.
     */
    GOMLX_KV_AUTO = 0,
    /**
     * Exact, four bytes an element.
     */
    GOMLX_KV_F32 = 1,
    /**
     * Two bytes, eleven bits of precision.
     */
    GOMLX_KV_F16 = 2,
    /**
     * Two bytes, eight bits of precision, the range of f32.
     */
    GOMLX_KV_BF16 = 3,
} gomlx_kv_type_value;

/**
 * The values of `gomlx_weights`.
 */
typedef enum gomlx_weights_value {
    /**
     * Mapped and used in place; processes that load the same files share them. The files must stay unchanged.
     */
    GOMLX_WEIGHTS_MAPPED = 0,
    /**
     * Read into memory of the library's own.
     */
    GOMLX_WEIGHTS_READ = 1,
} gomlx_weights_value;

/**
 * The values of `gomlx_precision`.
 */
typedef enum gomlx_precision_value {
    /**
     * Activations take 8 bits per group (or bf16) where the weights are narrow.
     */
    GOMLX_PRECISION_FAST = 0,
    /**
     * Activations stay f32: for checking against other implementations.
     */
    GOMLX_PRECISION_EXACT = 1,
} gomlx_precision_value;

/**
 * The values of `gomlx_sharing`.
 */
typedef enum gomlx_sharing_value {
    /**
     * A model of this caller's own.
     */
    GOMLX_SHARING_NONE = 0,
    /**
     * All callers in the process that ask so for the same folder with the same options get handles of one model, also
     * while it still loads. It lives until the last of them is freed.
     */
    GOMLX_SHARING_PROCESS = 1,
    /**
     * As above, and it stays until the process ends: for callers that come and go, such as scripts run once a request.
     */
    GOMLX_SHARING_KEPT = 2,
} gomlx_sharing_value;

/**
 * The bits of `gomlx_request_flags`.
 */
typedef enum gomlx_request_flag {
    /**
     * `seed` is used; without it each request draws its own.
     */
    GOMLX_REQUEST_SEED = 1,
    /**
     * Goes on past the model's own end tokens: for measurements.
     */
    GOMLX_REQUEST_IGNORE_END = 2,
    /**
     * Special tokens show in the text.
     */
    GOMLX_REQUEST_SPECIAL_IN_TEXT = 4,
    /**
     * The prompt's text comes back as the first chunk.
     */
    GOMLX_REQUEST_ECHO = 8,
    /**
     * The last message is left open and the answer continues it, instead of opening the assistant's turn.
     */
    GOMLX_REQUEST_CONTINUE_FINAL = 16,
} gomlx_request_flag;

/**
 * The values of `gomlx_stop_reason`.
 */
typedef enum gomlx_stop_reason_value {
    /**
     * It has not ended.
     */
    GOMLX_STOP_NONE = 0,
    /**
     * The model's own end token.
     */
    GOMLX_STOP_END_TOKEN = 1,
    /**
     * A stop text or stop token of the request.
     */
    GOMLX_STOP_STOP = 2,
    /**
     * `max_tokens` were generated.
     */
    GOMLX_STOP_MAX_TOKENS = 3,
    /**
     * The context is full.
     */
    GOMLX_STOP_CONTEXT_FULL = 4,
    /**
     * Cancelled by the caller.
     */
    GOMLX_STOP_CANCELLED = 5,
    /**
     * The deadline passed.
     */
    GOMLX_STOP_DEADLINE = 6,
    /**
     * It failed; the error said why.
     */
    GOMLX_STOP_ERROR = 7,
} gomlx_stop_reason_value;

/**
 * The values of `gomlx_when_full`.
 */
typedef enum gomlx_when_full_value {
    /**
     * The answer ends with `GOMLX_STOP_CONTEXT_FULL`.
     */
    GOMLX_FULL_STOP = 0,
    /**
     * The first `keep_tokens` tokens are kept, of the others the older half is dropped, and the answer goes on as if
     * what is left had been the prompt. It is computed again for that, but for what the prefix cache has of it.
     */
    GOMLX_FULL_ROLL = 1,
} gomlx_when_full_value;

/**
 * The bits of `gomlx_classify_flags`.
 */
typedef enum gomlx_classify_flag {
    /**
     * Only the winner must be known exactly, which is quicker where labels have several tokens: each other label's
     * log-probability may be an upper bound, and probabilities are relative to those.
     */
    GOMLX_CLASSIFY_BEST_ONLY = 1,
} gomlx_classify_flag;

/**
 * The values of `gomlx_pooling`.
 */
typedef enum gomlx_pooling_value {
    /**
     * The mean over all tokens.
     */
    GOMLX_POOLING_MEAN = 0,
    /**
     * The last token's.
     */
    GOMLX_POOLING_LAST = 1,
} gomlx_pooling_value;

/**
 * What a walk over a folder found: a list that does not change. Any number of threads may read it at once.
 */
typedef struct gomlx_catalog gomlx_catalog;

/**
 * A cancel flag and a progress meter. Give it to a load or a request, then use it from any thread. It may outlive
 * what it controls, and one control may serve several requests, which it then cancels together.
 */
typedef struct gomlx_control gomlx_control;

/**
 * One answer in progress: a pull iterator. One thread at a time may be inside it (another gets `GOMLX_ERR_STATE`);
 * which thread that is may change from call to call. It ends with `GOMLX_ERR_STATE` when its model's last handle is
 * freed, and stays a valid handle until it is freed itself.
 */
typedef struct gomlx_generation gomlx_generation;

/**
 * A loaded model: weights, tokenizer, chat template and the threads that compute. Any number of threads may use one
 * at once. It lives until the last of its handles (the loaded one and its clones) is freed.
 */
typedef struct gomlx_model gomlx_model;

/**
 * The outcome of a call: one of `enum gomlx_status_value`. Zero and above is success, below zero is failure.
 */
typedef int32_t gomlx_status;

/**
 * What went wrong, on the caller's stack. Written by failing calls only.
 */
typedef struct gomlx_error {
    /**
     * The status that the call returned.
     */
    gomlx_status code;
    /**
     * One line for a person, NUL-terminated, cut at a character's border where it is too long.
     */
    char message[508];
} gomlx_error;

/**
 * A text of the caller inside a struct, or a text of the library that the caller may read.
 */
typedef struct gomlx_string {
    /**
     * UTF-8. Given by the caller: no terminator needed, may be NULL when `len` is 0. Given by the library:
     * NUL-terminated, never NULL.
     */
    const char *data;
    /**
     * Bytes, the terminator not counted.
     */
    size_t len;
} gomlx_string;

/**
 * The machine as the library sees it, and what the library was built with. Its texts are valid for ever.
 */
typedef struct gomlx_runtime_info {
    /**
     * `sizeof(gomlx_runtime_info)`, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Threads that the cpu backend uses unless told otherwise.
     */
    uint32_t threads;
    /**
     * Bytes of main memory.
     */
    uint64_t memory;
    /**
     * Backends in this build, the preferred one first, separated by commas: `cpu`, `mlx,cpu`.
     */
    struct gomlx_string backends;
    /**
     * What `GOMLX_BACKEND_AUTO` computes on.
     */
    struct gomlx_string device;
    /**
     * Kernels that the cpu backend uses: the best that the processor has, or what `GOMLX_ISA` asks for.
     */
    struct gomlx_string isa;
    /**
     * Handles of each type that were given out and not freed yet.
     */
    uint64_t live_controls;
    /**
     * As above.
     */
    uint64_t live_catalogs;
    /**
     * As above.
     */
    uint64_t live_models;
    /**
     * As above.
     */
    uint64_t live_generations;
    /**
     * Requests of any kind that wait or run.
     */
    uint64_t live_requests;
    /**
     * Models that are in memory: loaded, not freed and not unloaded for being idle.
     */
    uint64_t live_workers;
} gomlx_runtime_info;

/**
 * What the library holds in this process, in bytes.
 */
typedef struct gomlx_memory_info {
    /**
     * `sizeof(gomlx_memory_info)`, set by the caller.
     */
    uint32_t struct_size;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * In use: weights (mapped ones included), KV cache, activations; with the mlx backend all that MLX's allocator holds.
     */
    uint64_t active;
    /**
     * The largest `active` since the start or the last `gomlx_memory_reset_peak`.
     */
    uint64_t peak;
    /**
     * Kept for reuse; `gomlx_memory_clear_cache` returns it to the system.
     */
    uint64_t cached;
    /**
     * The part of `active` that is mapped files, shared with every process that maps the same ones.
     */
    uint64_t mapped;
    /**
     * What `active` may not pass; `UINT64_MAX` is no limit.
     */
    uint64_t limit;
    /**
     * What `cached` may not pass; `UINT64_MAX` is no limit.
     */
    uint64_t cache_limit;
    /**
     * The part of `active` that models hold on which nothing runs: weights and KV pages.
     */
    uint64_t idle;
    /**
     * What `idle` may not pass for long; `UINT64_MAX` is no limit.
     */
    uint64_t idle_limit;
} gomlx_memory_info;

/**
 * What computes: one of `enum gomlx_backend_value`.
 */
typedef int32_t gomlx_backend;

/**
 * Element type of the KV cache: one of `enum gomlx_kv_type_value`.
 */
typedef int32_t gomlx_kv_type;

/**
 * How weights reach memory: one of `enum gomlx_weights_value`.
 */
typedef int32_t gomlx_weights;

/**
 * How the cpu backend multiplies: one of `enum gomlx_precision_value`.
 */
typedef int32_t gomlx_precision;

/**
 * Whether a loaded model is shared within the process: one of `enum gomlx_sharing_value`.
 */
typedef int32_t gomlx_sharing;

/**
 * How to load. `gomlx_model_options_init` fills the defaults, which are all zero and NULL but `struct_size`.
 */
typedef struct gomlx_model_options {
    /**
     * `sizeof(gomlx_model_options)`.
     */
    uint32_t struct_size;
    /**
     * What computes.
     */
    gomlx_backend backend;
    /**
     * Positions a sequence may take, prompt and answer together; 0: what the model was made for, at most 8,192.
     */
    uint32_t context_length;
    /**
     * Threads that compute; 0: the physical cores that this process may use.
     */
    uint32_t threads;
    /**
     * Element type of the KV cache.
     */
    gomlx_kv_type kv_type;
    /**
     * Mapped or read in.
     */
    gomlx_weights weights;
    /**
     * Fast or exact arithmetic.
     */
    gomlx_precision precision;
    /**
     * Sequences computed together; 0: 32.
     */
    uint32_t max_sequences;
    /**
     * Requests that may wait before another is refused with `GOMLX_ERR_BUSY`; 0: 1,024.
     */
    uint32_t max_queue;
    /**
     * Most prompt tokens computed in one step; 0: 512. Never changes an answer, only who waits for whom.
     */
    uint32_t prefill_chunk;
    /**
     * Bytes that the KV cache may take; 0: at most a quarter of the machine's memory.
     */
    uint64_t kv_budget;
    /**
     * Bytes of the KV cache that finished requests leave for later ones with the same beginning; 0: one full context;
     * less than a page, such as 1: nothing is kept.
     */
    uint64_t prefix_budget;
    /**
     * Stops the load and shows its progress in bytes. May be NULL.
     */
    const struct gomlx_control *control;
    /**
     * Whether others in this process get the same model.
     */
    gomlx_sharing sharing;
    /**
     * 0.
     */
    uint32_t reserved;
} gomlx_model_options;

/**
 * What a model is. Its texts are valid until the model handle (or the catalog) that was asked is freed.
 */
typedef struct gomlx_model_info {
    /**
     * `sizeof(gomlx_model_info)`, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Decoder layers.
     */
    uint32_t layers;
    /**
     * Width of the residual stream.
     */
    uint32_t hidden;
    /**
     * Rows of the embedding table.
     */
    uint32_t vocabulary;
    /**
     * Positions it was made for.
     */
    uint32_t context;
    /**
     * Positions a sequence may take in this loaded model; 0 where it is not loaded.
     */
    uint32_t context_length;
    /**
     * Bits of most quantised weights; 0 where none are quantised.
     */
    uint32_t quantisation_bits;
    /**
     * Weights that share a scale; 0 where none are quantised.
     */
    uint32_t quantisation_group;
    /**
     * 1 where it has a chat template, else 0.
     */
    int32_t has_chat_template;
    /**
     * Threads that compute it; 0 where it is not loaded.
     */
    uint32_t threads;
    /**
     * In a catalog: `GOMLX_OK`, or why it can't be loaded (the rest is then empty but for `name`, `path` and
     * `reason`). Of a loaded model: `GOMLX_OK`.
     */
    gomlx_status status;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * Weights, quantised ones counted as what they stand for.
     */
    uint64_t parameters;
    /**
     * Size of the weight files.
     */
    uint64_t bytes_on_disk;
    /**
     * The folder's name, or the repository's in a Hugging Face cache.
     */
    struct gomlx_string name;
    /**
     * The folder.
     */
    struct gomlx_string path;
    /**
     * `architectures[0]` of its config.
     */
    struct gomlx_string architecture;
    /**
     * Its `model_type`.
     */
    struct gomlx_string family;
    /**
     * `affine`, or empty where nothing is quantised.
     */
    struct gomlx_string quantisation_mode;
    /**
     * Element type of the weights that are not quantised: `bf16`, `f16`, `f32`.
     */
    struct gomlx_string dtype;
    /**
     * `cpu` or `mlx`; empty where it is not loaded.
     */
    struct gomlx_string backend;
    /**
     * The device that computes it; empty where it is not loaded.
     */
    struct gomlx_string device;
    /**
     * One line that belongs to `status`; empty where it is `GOMLX_OK`.
     */
    struct gomlx_string reason;
} gomlx_model_info;

/**
 * Switches of a request: any of `enum gomlx_request_flag`, or'ed.
 */
typedef uint32_t gomlx_request_flags;

/**
 * One turn of a conversation. This struct never grows: turns with more fields go through `messages_json`.
 */
typedef struct gomlx_message {
    /**
     * Who speaks: `system`, `user`, `assistant`, or whatever else the model's template knows.
     */
    struct gomlx_string role;
    /**
     * What is said.
     */
    struct gomlx_string content;
} gomlx_message;

/**
 * A number added to one token's logit before it is sampled. This struct never grows.
 */
typedef struct gomlx_logit_bias {
    /**
     * The token.
     */
    uint32_t token;
    /**
     * Added to its logit; minus infinity bans it.
     */
    float bias;
} gomlx_logit_bias;

/**
 * What happens when prompt and answer fill the context: one of `enum gomlx_when_full_value`.
 */
typedef int32_t gomlx_when_full;

/**
 * One request for text. `gomlx_request_init` fills the defaults; then set exactly one of `prompt`, `tokens`,
 * `messages` and `messages_json`. Nothing it points to is needed after the call that it was given to.
 */
typedef struct gomlx_request {
    /**
     * `sizeof(gomlx_request)`.
     */
    uint32_t struct_size;
    /**
     * Switches.
     */
    gomlx_request_flags flags;
    /**
     * Text to continue, encoded with the tokenizer's own beginning (BOS where the model has one).
     */
    struct gomlx_string prompt;
    /**
     * Token ids to continue, used as they are.
     */
    const uint32_t *tokens;
    /**
     * How many.
     */
    size_t token_count;
    /**
     * A conversation, rendered by the model's chat template.
     */
    const struct gomlx_message *messages;
    /**
     * How many.
     */
    size_t message_count;
    /**
     * The same as a JSON array of objects, for templates that read more than role and content.
     */
    struct gomlx_string messages_json;
    /**
     * More template variables as one JSON object (`tools`, `enable_thinking`, …); empty for none.
     */
    struct gomlx_string template_variables;
    /**
     * Most tokens to generate, at least 1; `UINT32_MAX` (the default): until the context is full, or without end where
     * it rolls.
     */
    uint32_t max_tokens;
    /**
     * Admitted before requests of lower priority; equals are first come, first served. Default 0.
     */
    int32_t priority;
    /**
     * 0 (the default) takes the most probable token every time; 1 samples as the model says.
     */
    float temperature;
    /**
     * Samples among the `top_k` most probable tokens; 0 (the default): among all.
     */
    uint32_t top_k;
    /**
     * Samples among the most probable tokens that together have this probability; 1 (the default): among all.
     */
    float top_p;
    /**
     * Leaves out tokens less probable than this part of the best one's probability; default 0.
     */
    float min_p;
    /**
     * Locally typical sampling: the most typical tokens that together have this probability; 1 (the default): all.
     */
    float typical_p;
    /**
     * Divides the logits of tokens seen before (multiplies negative ones); 1 (the default) changes nothing.
     */
    float repetition_penalty;
    /**
     * Subtracted from the logits of tokens generated before; default 0.
     */
    float presence_penalty;
    /**
     * Subtracted as many times as the token was generated before; default 0.
     */
    float frequency_penalty;
    /**
     * Latest tokens that the penalties look at; 0 (the default): all of them.
     */
    uint32_t penalty_window;
    /**
     * Reports, with each token, its log-probability and those of as many best ones; 0 (the default): none.
     */
    uint32_t logprobs;
    /**
     * Same seed, same text: used with `GOMLX_REQUEST_SEED`.
     */
    uint64_t seed;
    /**
     * Numbers added to the logits of single tokens.
     */
    const struct gomlx_logit_bias *logit_bias;
    /**
     * How many.
     */
    size_t logit_bias_count;
    /**
     * Texts that end the answer; none of them, nor the beginning of one, is ever part of it.
     */
    const struct gomlx_string *stop;
    /**
     * How many.
     */
    size_t stop_count;
    /**
     * Tokens that end the answer, beside the model's own.
     */
    const uint32_t *stop_tokens;
    /**
     * How many.
     */
    size_t stop_token_count;
    /**
     * Fails with `GOMLX_ERR_DEADLINE` when the answer takes longer, waiting included; 0 (the default): no limit.
     */
    uint64_t deadline_ms;
    /**
     * Stops the answer and shows how much of the prompt is computed. May be NULL.
     */
    const struct gomlx_control *control;
    /**
     * What happens when prompt and answer fill the context. The prompt alone must fit it in any case.
     */
    gomlx_when_full when_full;
    /**
     * With `GOMLX_FULL_ROLL`: tokens of the beginning to keep, at most half the context; 0 (the default): the prompt, as
     * far as that goes.
     */
    uint32_t keep_tokens;
} gomlx_request;

/**
 * A piece of an answer. What it points to is valid until the next call on its generation, or until the callback
 * returns.
 */
typedef struct gomlx_chunk {
    /**
     * `sizeof(gomlx_chunk)`, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Which request of a batch this belongs to; 0 for a single one.
     */
    uint32_t request_index;
    /**
     * Whole UTF-8, NUL-terminated; empty where tokens carry no text of their own.
     */
    struct gomlx_string text;
    /**
     * The tokens that the text came from, `token_count` of them.
     */
    const uint32_t *tokens;
    /**
     * Their natural log-probabilities under the model; NULL unless the request asks for them.
     */
    const float *logprobs;
    /**
     * How many tokens.
     */
    size_t token_count;
    /**
     * The best tokens at each place, best first: `token_count` rows of `top_count`. NULL unless asked for.
     */
    const uint32_t *top_tokens;
    /**
     * Their natural log-probabilities, in the same order.
     */
    const float *top_logprobs;
    /**
     * Width of a row: what the request's `logprobs` asked for, at most the vocabulary.
     */
    size_t top_count;
} gomlx_chunk;

/**
 * Why an answer ended: one of `enum gomlx_stop_reason_value`.
 */
typedef int32_t gomlx_stop_reason;

/**
 * One generation's figures. Seconds are wall-clock; 0 until known.
 */
typedef struct gomlx_metrics {
    /**
     * `sizeof(gomlx_metrics)`, set by the caller.
     */
    uint32_t struct_size;
    /**
     * Why it ended.
     */
    gomlx_stop_reason stop_reason;
    /**
     * Tokens of the prompt.
     */
    uint64_t prompt_tokens;
    /**
     * Those of them taken from the prefix cache instead of being computed.
     */
    uint64_t cached_tokens;
    /**
     * Tokens generated.
     */
    uint64_t generated_tokens;
    /**
     * From the request until it was first scheduled.
     */
    double queue_seconds;
    /**
     * From then until the prompt's last token was computed.
     */
    double prefill_seconds;
    /**
     * From then until the last token.
     */
    double decode_seconds;
    /**
     * From the request until the first token was known.
     */
    double first_token_seconds;
    /**
     * Prompt tokens computed a second of prefill.
     */
    double prefill_tokens_per_second;
    /**
     * Tokens after the first a second of decode.
     */
    double decode_tokens_per_second;
    /**
     * Most bytes the library held while this generation ran, other models included.
     */
    uint64_t peak_memory;
    /**
     * Bytes the library held when the figures were taken.
     */
    uint64_t active_memory;
    /**
     * Tokens dropped from the middle because the context was full (`GOMLX_FULL_ROLL`).
     */
    uint64_t rolled_tokens;
} gomlx_metrics;

/**
 * Receives each chunk of `gomlx_generate`, on the thread that called it. 0: go on; anything else: stop. It may call
 * any `gomlx_*` function, and must return: no C++ exception and no `longjmp` may leave it.
 */
typedef int32_t (*gomlx_chunk_fn)(const struct gomlx_chunk *chunk, void *user_data);

/**
 * Switches of a classification: any of `enum gomlx_classify_flag`, or'ed.
 */
typedef uint32_t gomlx_classify_flags;

/**
 * Which of several labels fits each of many texts. `gomlx_classify_request_init` fills the defaults; then set either
 * `pattern` or `messages`, `texts` and `labels`.
 */
typedef struct gomlx_classify_request {
    /**
     * `sizeof(gomlx_classify_request)`.
     */
    uint32_t struct_size;
    /**
     * Any of `enum gomlx_classify_flag`, or'ed.
     */
    gomlx_classify_flags flags;
    /**
     * Plain text around `{text}`, which stands in it once: `Sentence: {text}\nDomain:`.
     */
    struct gomlx_string pattern;
    /**
     * Or a conversation whose contents hold `{text}` once, rendered by the model's chat template.
     */
    const struct gomlx_message *messages;
    /**
     * How many.
     */
    size_t message_count;
    /**
     * The texts.
     */
    const struct gomlx_string *texts;
    /**
     * How many.
     */
    size_t text_count;
    /**
     * The answers to choose from, as they would follow the prompt: mind a leading space.
     */
    const struct gomlx_string *labels;
    /**
     * How many.
     */
    size_t label_count;
    /**
     * Fails with `GOMLX_ERR_DEADLINE` when all of it takes longer; 0 (the default): no limit.
     */
    uint64_t deadline_ms;
    /**
     * Stops it and shows how many texts are done. May be NULL.
     */
    const struct gomlx_control *control;
} gomlx_classify_request;

/**
 * One text's result. This struct never grows.
 */
typedef struct gomlx_classification {
    /**
     * The most probable label's index; the first of equals.
     */
    uint32_t label;
    /**
     * Tokens of its prompt.
     */
    uint32_t prompt_tokens;
    /**
     * Natural log-probability of that label's tokens after the prompt.
     */
    float logprob;
    /**
     * Its probability among the labels.
     */
    float probability;
} gomlx_classification;

/**
 * How a text's hidden states become one vector: one of `enum gomlx_pooling_value`.
 */
typedef int32_t gomlx_pooling;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The ABI of the loaded library.
 */
uint32_t gomlx_abi_version(void);

/**
 * The version of the loaded library, such as `0.1.0`. NUL-terminated, valid for ever.
 */
const char *gomlx_version(void);

/**
 * This thread's latest failure; code `GOMLX_OK` and an empty message before the first. Never NULL, valid until the
 * thread's next failing call. For C and PHP; a language whose tasks move between threads (Go, Swift) passes its own
 * record to each call instead.
 */
const struct gomlx_error *gomlx_last_error(void);

/**
 * A new control. NULL only after a failure that `gomlx_last_error` describes.
 */
struct gomlx_control *gomlx_control_new(void);

/**
 * One more owner of the same control, freed by itself. NULL after a failure.
 */
struct gomlx_control *gomlx_control_clone(const struct gomlx_control *control);

/**
 * Stops what the control was given to: a load ends with `GOMLX_ERR_CANCELLED`, a generation too, within one step.
 * From any thread, from a signal handler, more than once, before the work begins (it then ends at once). A control
 * stays cancelled. NULL is ignored.
 */
void gomlx_control_cancel(const struct gomlx_control *control);

/**
 * How far the work is: bytes of a load, prompt tokens of a request; both 0 before it begins.
 */
gomlx_status gomlx_control_progress(const struct gomlx_control *control,
                                    uint64_t *out_done,
                                    uint64_t *out_total,
                                    struct gomlx_error *error);

/**
 * Takes a control back; what it controls goes on. NULL is ignored.
 */
void gomlx_control_free(struct gomlx_control *control);

/**
 * Describes machine, build and live handles. `GOMLX_ERR_ARGUMENT` or `GOMLX_ERR_UNSUPPORTED` where the environment's
 * `GOMLX_ISA` names kernels that do not exist or do not run here.
 */
gomlx_status gomlx_runtime_describe(struct gomlx_runtime_info *out_info, struct gomlx_error *error);

/**
 * The figures now.
 */
gomlx_status gomlx_memory_describe(struct gomlx_memory_info *out_info, struct gomlx_error *error);

/**
 * Limits what the library may hold; `UINT64_MAX` is no limit. What it holds stays; whatever would pass the limit from
 * now on fails with `GOMLX_ERR_MEMORY`.
 */
gomlx_status gomlx_memory_set_limit(uint64_t bytes, struct gomlx_error *error);

/**
 * Limits what the library keeps for reuse; 0 keeps nothing, `UINT64_MAX` is no limit.
 */
gomlx_status gomlx_memory_set_cache_limit(uint64_t bytes, struct gomlx_error *error);

/**
 * Limits what models hold on which nothing runs; `UINT64_MAX` (at first) is no limit, 0 unloads each as soon as it is
 * idle. Beyond it, those that were not used for longest let go of weights, KV pages and prefix caches. Their handles
 * stay right, and their next use loads them again from the same files, which may then fail as a load does.
 */
gomlx_status gomlx_memory_set_idle_limit(uint64_t bytes, struct gomlx_error *error);

/**
 * Returns what is kept for reuse to the system, prefix caches included: idle models do so at once, busy ones when
 * nothing runs.
 */
void gomlx_memory_clear_cache(void);

/**
 * Starts `peak` again from what is active now.
 */
void gomlx_memory_reset_peak(void);

/**
 * Fills `out_options`, declared `struct_size` bytes long by the caller (`sizeof *out_options`), with the defaults.
 */
gomlx_status gomlx_model_options_init(struct gomlx_model_options *out_options,
                                      size_t struct_size,
                                      struct gomlx_error *error);

/**
 * Loads the model in folder `path` and returns when it can generate. `options` may be NULL: all defaults. Failures
 * name the file, key or tensor at fault.
 */
gomlx_status gomlx_model_load(const char *path,
                              size_t path_len,
                              const struct gomlx_model_options *options,
                              struct gomlx_model **out_model,
                              struct gomlx_error *error);

/**
 * One more owner of the same model, freed by itself. NULL after a failure that `gomlx_last_error` describes.
 */
struct gomlx_model *gomlx_model_clone(const struct gomlx_model *model);

/**
 * Describes a loaded model.
 */
gomlx_status gomlx_model_describe(const struct gomlx_model *model,
                                  struct gomlx_model_info *out_info,
                                  struct gomlx_error *error);

/**
 * Text to token ids. `add_special` other than 0 adds what the tokenizer puts around a text, such as a BOS token.
 * `out_count` gets the number of tokens, also with `GOMLX_ERR_BUFFER` when they are more than `capacity`;
 * `out_tokens` may be NULL when `capacity` is 0.
 */
gomlx_status gomlx_model_tokenize(const struct gomlx_model *model,
                                  const char *text,
                                  size_t text_len,
                                  int32_t add_special,
                                  uint32_t *out_tokens,
                                  size_t capacity,
                                  size_t *out_count,
                                  struct gomlx_error *error);

/**
 * Token ids to text. `skip_special` other than 0 leaves special tokens out. `out_len` gets the text's bytes, its NUL
 * not counted, also with `GOMLX_ERR_BUFFER` when `capacity` is less than one more than that; `out_text` may be NULL
 * when `capacity` is 0.
 */
gomlx_status gomlx_model_detokenize(const struct gomlx_model *model,
                                    const uint32_t *tokens,
                                    size_t token_count,
                                    int32_t skip_special,
                                    char *out_text,
                                    size_t capacity,
                                    size_t *out_len,
                                    struct gomlx_error *error);

/**
 * The prompt that the model's chat template makes of the `messages` (or `messages_json`) of `request`; the rest of
 * the request is not looked at. The text is returned as by `gomlx_model_detokenize`. `GOMLX_ERR_UNSUPPORTED` for a
 * model without a template.
 */
gomlx_status gomlx_model_render_chat(const struct gomlx_model *model,
                                     const struct gomlx_request *request,
                                     char *out_text,
                                     size_t capacity,
                                     size_t *out_len,
                                     struct gomlx_error *error);

/**
 * Writes what the model's prefix cache holds to file `path`, so that `gomlx_model_restore_prefixes` need not compute it
 * after a restart. The file is replaced at once when all is written, and left alone when that fails (`GOMLX_ERR_IO`:
 * a full disk). `out_tokens`, which may be NULL, gets the tokens saved. Answers go on meanwhile.
 */
gomlx_status gomlx_model_save_prefixes(const struct gomlx_model *model,
                                       const char *path,
                                       size_t path_len,
                                       size_t *out_tokens,
                                       struct gomlx_error *error);

/**
 * Takes what `gomlx_model_save_prefixes` wrote into the prefix cache, as far as its budget goes beside what it holds.
 * `GOMLX_ERR_FORMAT` for a file that is damaged, cut short, or of another checkpoint, precision, KV type, processor or
 * version; nothing of it is taken then. `out_tokens`, which may be NULL, gets the tokens taken.
 */
gomlx_status gomlx_model_restore_prefixes(const struct gomlx_model *model,
                                          const char *path,
                                          size_t path_len,
                                          size_t *out_tokens,
                                          struct gomlx_error *error);

/**
 * Takes a handle back. The last one's freeing ends the model: calls of other threads that are inside it, and
 * generations that are not complete, end with `GOMLX_ERR_STATE` after what was already computed, and this call returns
 * when nothing computes any more and the model's memory is given back. From inside a callback, too. Generations are
 * freed by themselves, before or after. NULL is ignored.
 */
void gomlx_model_free(struct gomlx_model *model);

/**
 * Fills `out_request`, declared `struct_size` bytes long by the caller (`sizeof *out_request`), with the defaults.
 */
gomlx_status gomlx_request_init(struct gomlx_request *out_request, size_t struct_size, struct gomlx_error *error);

/**
 * Starts the answer that `request` describes. It is computed from now on, whether or not anybody asks for chunks.
 */
gomlx_status gomlx_generation_start(const struct gomlx_model *model,
                                    const struct gomlx_request *request,
                                    struct gomlx_generation **out_generation,
                                    struct gomlx_error *error);

/**
 * The next piece of the answer. Waits at most `timeout_ms` milliseconds (0: not at all; below 0: until there is one).
 * `GOMLX_OK`: a chunk was written. `GOMLX_DONE`: the answer is complete. `GOMLX_PENDING`: nothing yet. Or an error:
 * `GOMLX_ERR_CANCELLED`, `GOMLX_ERR_DEADLINE`, …. After the end every call says the same again.
 */
gomlx_status gomlx_generation_next(struct gomlx_generation *generation,
                                   int32_t timeout_ms,
                                   struct gomlx_chunk *out_chunk,
                                   struct gomlx_error *error);

/**
 * The figures so far, complete once the answer is. One thread at a time, as for `gomlx_generation_next`.
 */
gomlx_status gomlx_generation_metrics(struct gomlx_generation *generation,
                                      struct gomlx_metrics *out_metrics,
                                      struct gomlx_error *error);

/**
 * Stops an answer, if it is not complete, and takes it back. NULL is ignored.
 */
void gomlx_generation_free(struct gomlx_generation *generation);

/**
 * Computes a whole answer, handing each chunk to `on_chunk` on the calling thread. When the callback stops it, the
 * call still returns `GOMLX_OK` and the metrics' stop reason is `GOMLX_STOP_CANCELLED`. `user_data` is passed on as
 * it is. `out_metrics` may be NULL.
 */
gomlx_status gomlx_generate(const struct gomlx_model *model,
                            const struct gomlx_request *request,
                            gomlx_chunk_fn on_chunk,
                            void *user_data,
                            struct gomlx_metrics *out_metrics,
                            struct gomlx_error *error);

/**
 * Computes `count` answers together, handing each chunk to `on_chunk` on the calling thread; its `request_index` says
 * whose it is. Each answer is what it would be alone. A request that fails leaves the others alone: `out_statuses`,
 * which may be NULL, takes each one's status, and the call returns the first failure after all have ended. When the
 * callback stops it, all of them end, the call returns `GOMLX_OK`, and those that were not complete have
 * `GOMLX_ERR_CANCELLED`. `out_metrics`, which may be NULL, takes `count` entries, the `struct_size` of each set.
 */
gomlx_status gomlx_generate_batch(const struct gomlx_model *model,
                                  const struct gomlx_request *requests,
                                  size_t count,
                                  gomlx_chunk_fn on_chunk,
                                  void *user_data,
                                  gomlx_status *out_statuses,
                                  struct gomlx_metrics *out_metrics,
                                  struct gomlx_error *error);

/**
 * Fills `out_request`, declared `struct_size` bytes long by the caller (`sizeof *out_request`), with the defaults.
 */
gomlx_status gomlx_classify_request_init(struct gomlx_classify_request *out_request,
                                         size_t struct_size,
                                         struct gomlx_error *error);

/**
 * Labels every text of `request`, in prefill only, each as it would be alone. `out_results` takes one entry a text;
 * `GOMLX_ERR_BUFFER` when `capacity` is less. The other outputs may be NULL: `out_logprobs` and `out_probabilities`
 * are `text_count` rows of `label_count` (each row of probabilities sums to one), `out_logits` is `text_count` rows of
 * the model's vocabulary: the logits of the token after each prompt. Nothing is written unless all texts succeed.
 */
gomlx_status gomlx_classify(const struct gomlx_model *model,
                            const struct gomlx_classify_request *request,
                            struct gomlx_classification *out_results,
                            size_t capacity,
                            float *out_logprobs,
                            float *out_probabilities,
                            float *out_logits,
                            struct gomlx_error *error);

/**
 * Log-probability of each of `count` continuations after the prompt of `request` (of which only the prompt and the
 * control are looked at). Each is tokenized by itself. `out_logprobs` takes `count` sums over a continuation's tokens;
 * `out_token_counts`, which may be NULL, how many tokens that were.
 */
gomlx_status gomlx_score(const struct gomlx_model *model,
                         const struct gomlx_request *request,
                         const struct gomlx_string *continuations,
                         size_t count,
                         float *out_logprobs,
                         uint32_t *out_token_counts,
                         struct gomlx_error *error);

/**
 * One vector of length one for each of `count` texts: the hidden states after the last norm, pooled. `out_vectors`
 * takes `count` rows of the model's `hidden` width; `GOMLX_ERR_BUFFER` when `capacity` (in floats) is less. `control`
 * may be NULL.
 */
gomlx_status gomlx_embed(const struct gomlx_model *model,
                         const struct gomlx_string *texts,
                         size_t count,
                         gomlx_pooling pooling,
                         const struct gomlx_control *control,
                         float *out_vectors,
                         size_t capacity,
                         struct gomlx_error *error);

/**
 * Looks through `dir` and the folders below it, also a Hugging Face cache, for models: those that `gomlx_model_load`
 * would load by their `path`, and, each with a reason, those it would not. Reads configs and headers, never weights.
 * `GOMLX_ERR_IO` where `dir` itself can't be read.
 */
gomlx_status gomlx_discover(const char *dir,
                            size_t dir_len,
                            struct gomlx_catalog **out_catalog,
                            struct gomlx_error *error);

/**
 * How many models were found, those that can't be loaded included; 0 after a failure.
 */
size_t gomlx_catalog_count(const struct gomlx_catalog *catalog);

/**
 * The model at `index`, in the order of paths.
 */
gomlx_status gomlx_catalog_get(const struct gomlx_catalog *catalog,
                               size_t index,
                               struct gomlx_model_info *out_info,
                               struct gomlx_error *error);

/**
 * Takes a catalog back. NULL is ignored.
 */
void gomlx_catalog_free(struct gomlx_catalog *catalog);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* GOMLX_H */
