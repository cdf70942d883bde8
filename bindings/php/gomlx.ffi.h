#define FFI_SCOPE "gomlx"
#define FFI_LIB "libgomlx.so.1"
/* The declarations of include/gomlx.h, for PHP's FFI. Written by cbindgen from src/ffi; do not edit. */


typedef enum gomlx_abi {
    GOMLX_ABI_VERSION = 1,
} gomlx_abi;

typedef enum gomlx_status_value {
    GOMLX_OK = 0,
    GOMLX_DONE = 1,
    GOMLX_PENDING = 2,
    GOMLX_ERR_ARGUMENT = -1,
    GOMLX_ERR_STATE = -2,
    GOMLX_ERR_IO = -3,
    GOMLX_ERR_FORMAT = -4,
    GOMLX_ERR_UNSUPPORTED = -5,
    GOMLX_ERR_MEMORY = -6,
    GOMLX_ERR_CONTEXT_FULL = -7,
    GOMLX_ERR_BUFFER = -8,
    GOMLX_ERR_CANCELLED = -9,
    GOMLX_ERR_BACKEND = -10,
    GOMLX_ERR_INTERNAL = -11,
    GOMLX_ERR_BUSY = -12,
    GOMLX_ERR_FORKED = -13,
    GOMLX_ERR_DEADLINE = -14,
} gomlx_status_value;

typedef enum gomlx_backend_value {
    GOMLX_BACKEND_AUTO = 0,
    GOMLX_BACKEND_CPU = 1,
    GOMLX_BACKEND_MLX = 2,
} gomlx_backend_value;

typedef enum gomlx_kv_type_value {
    GOMLX_KV_AUTO = 0,
    GOMLX_KV_F32 = 1,
    GOMLX_KV_F16 = 2,
    GOMLX_KV_BF16 = 3,
} gomlx_kv_type_value;

typedef enum gomlx_weights_value {
    GOMLX_WEIGHTS_MAPPED = 0,
    GOMLX_WEIGHTS_READ = 1,
} gomlx_weights_value;

typedef enum gomlx_precision_value {
    GOMLX_PRECISION_FAST = 0,
    GOMLX_PRECISION_EXACT = 1,
} gomlx_precision_value;

typedef enum gomlx_sharing_value {
    GOMLX_SHARING_NONE = 0,
    GOMLX_SHARING_PROCESS = 1,
    GOMLX_SHARING_KEPT = 2,
} gomlx_sharing_value;

typedef enum gomlx_when_full_value {
    GOMLX_FULL_STOP = 0,
    GOMLX_FULL_ROLL = 1,
} gomlx_when_full_value;

typedef enum gomlx_request_flag {
    GOMLX_REQUEST_SEED = 1,
    GOMLX_REQUEST_IGNORE_END = 2,
    GOMLX_REQUEST_SPECIAL_IN_TEXT = 4,
    GOMLX_REQUEST_ECHO = 8,
    GOMLX_REQUEST_CONTINUE_FINAL = 16,
} gomlx_request_flag;

typedef enum gomlx_stop_reason_value {
    GOMLX_STOP_NONE = 0,
    GOMLX_STOP_END_TOKEN = 1,
    GOMLX_STOP_STOP = 2,
    GOMLX_STOP_MAX_TOKENS = 3,
    GOMLX_STOP_CONTEXT_FULL = 4,
    GOMLX_STOP_CANCELLED = 5,
    GOMLX_STOP_DEADLINE = 6,
    GOMLX_STOP_ERROR = 7,
} gomlx_stop_reason_value;

typedef enum gomlx_classify_flag {
    GOMLX_CLASSIFY_BEST_ONLY = 1,
} gomlx_classify_flag;

typedef enum gomlx_pooling_value {
    GOMLX_POOLING_MEAN = 0,
    GOMLX_POOLING_LAST = 1,
} gomlx_pooling_value;

typedef struct gomlx_catalog gomlx_catalog;

typedef struct gomlx_control gomlx_control;

typedef struct gomlx_generation gomlx_generation;

typedef struct gomlx_model gomlx_model;

typedef int32_t gomlx_status;

typedef struct gomlx_error {
    gomlx_status code;
    char message[508];
} gomlx_error;

typedef struct gomlx_string {
    const char *data;
    size_t len;
} gomlx_string;

typedef struct gomlx_runtime_info {
    uint32_t struct_size;
    uint32_t threads;
    uint64_t memory;
    struct gomlx_string backends;
    struct gomlx_string device;
    struct gomlx_string isa;
    uint64_t live_controls;
    uint64_t live_catalogs;
    uint64_t live_models;
    uint64_t live_generations;
    uint64_t live_requests;
    uint64_t live_workers;
} gomlx_runtime_info;

typedef struct gomlx_memory_info {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t active;
    uint64_t peak;
    uint64_t cached;
    uint64_t mapped;
    uint64_t limit;
    uint64_t cache_limit;
    uint64_t idle;
    uint64_t idle_limit;
} gomlx_memory_info;

typedef int32_t gomlx_backend;

typedef int32_t gomlx_kv_type;

typedef int32_t gomlx_weights;

typedef int32_t gomlx_precision;

typedef int32_t gomlx_sharing;

typedef struct gomlx_model_options {
    uint32_t struct_size;
    gomlx_backend backend;
    uint32_t context_length;
    uint32_t threads;
    gomlx_kv_type kv_type;
    gomlx_weights weights;
    gomlx_precision precision;
    uint32_t max_sequences;
    uint32_t max_queue;
    uint32_t prefill_chunk;
    uint64_t kv_budget;
    uint64_t prefix_budget;
    const struct gomlx_control *control;
    gomlx_sharing sharing;
    uint32_t reserved;
} gomlx_model_options;

typedef struct gomlx_model_info {
    uint32_t struct_size;
    uint32_t layers;
    uint32_t hidden;
    uint32_t vocabulary;
    uint32_t context;
    uint32_t context_length;
    uint32_t quantisation_bits;
    uint32_t quantisation_group;
    int32_t has_chat_template;
    uint32_t threads;
    gomlx_status status;
    uint32_t reserved;
    uint64_t parameters;
    uint64_t bytes_on_disk;
    struct gomlx_string name;
    struct gomlx_string path;
    struct gomlx_string architecture;
    struct gomlx_string family;
    struct gomlx_string quantisation_mode;
    struct gomlx_string dtype;
    struct gomlx_string backend;
    struct gomlx_string device;
    struct gomlx_string reason;
} gomlx_model_info;

typedef uint32_t gomlx_request_flags;

typedef struct gomlx_message {
    struct gomlx_string role;
    struct gomlx_string content;
} gomlx_message;

typedef struct gomlx_logit_bias {
    uint32_t token;
    float bias;
} gomlx_logit_bias;

typedef int32_t gomlx_when_full;

typedef struct gomlx_request {
    uint32_t struct_size;
    gomlx_request_flags flags;
    struct gomlx_string prompt;
    const uint32_t *tokens;
    size_t token_count;
    const struct gomlx_message *messages;
    size_t message_count;
    struct gomlx_string messages_json;
    struct gomlx_string template_variables;
    uint32_t max_tokens;
    int32_t priority;
    float temperature;
    uint32_t top_k;
    float top_p;
    float min_p;
    float typical_p;
    float repetition_penalty;
    float presence_penalty;
    float frequency_penalty;
    uint32_t penalty_window;
    uint32_t logprobs;
    uint64_t seed;
    const struct gomlx_logit_bias *logit_bias;
    size_t logit_bias_count;
    const struct gomlx_string *stop;
    size_t stop_count;
    const uint32_t *stop_tokens;
    size_t stop_token_count;
    uint64_t deadline_ms;
    const struct gomlx_control *control;
    gomlx_when_full when_full;
    uint32_t keep_tokens;
} gomlx_request;

typedef struct gomlx_chunk {
    uint32_t struct_size;
    uint32_t request_index;
    struct gomlx_string text;
    const uint32_t *tokens;
    const float *logprobs;
    size_t token_count;
    const uint32_t *top_tokens;
    const float *top_logprobs;
    size_t top_count;
} gomlx_chunk;

typedef int32_t gomlx_stop_reason;

typedef struct gomlx_metrics {
    uint32_t struct_size;
    gomlx_stop_reason stop_reason;
    uint64_t prompt_tokens;
    uint64_t cached_tokens;
    uint64_t generated_tokens;
    double queue_seconds;
    double prefill_seconds;
    double decode_seconds;
    double first_token_seconds;
    double prefill_tokens_per_second;
    double decode_tokens_per_second;
    uint64_t peak_memory;
    uint64_t active_memory;
    uint64_t rolled_tokens;
} gomlx_metrics;

typedef int32_t (*gomlx_chunk_fn)(const struct gomlx_chunk *chunk, void *user_data);

typedef uint32_t gomlx_classify_flags;

typedef struct gomlx_classify_request {
    uint32_t struct_size;
    gomlx_classify_flags flags;
    struct gomlx_string pattern;
    const struct gomlx_message *messages;
    size_t message_count;
    const struct gomlx_string *texts;
    size_t text_count;
    const struct gomlx_string *labels;
    size_t label_count;
    uint64_t deadline_ms;
    const struct gomlx_control *control;
} gomlx_classify_request;

typedef struct gomlx_classification {
    uint32_t label;
    uint32_t prompt_tokens;
    float logprob;
    float probability;
} gomlx_classification;

typedef int32_t gomlx_pooling;

uint32_t gomlx_abi_version(void);

const char *gomlx_version(void);

const struct gomlx_error *gomlx_last_error(void);

struct gomlx_control *gomlx_control_new(void);

struct gomlx_control *gomlx_control_clone(const struct gomlx_control *control);

void gomlx_control_cancel(const struct gomlx_control *control);

gomlx_status gomlx_control_progress(const struct gomlx_control *control,
                                    uint64_t *out_done,
                                    uint64_t *out_total,
                                    struct gomlx_error *error);

void gomlx_control_free(struct gomlx_control *control);

gomlx_status gomlx_runtime_describe(struct gomlx_runtime_info *out_info, struct gomlx_error *error);

gomlx_status gomlx_memory_describe(struct gomlx_memory_info *out_info, struct gomlx_error *error);

gomlx_status gomlx_memory_set_limit(uint64_t bytes, struct gomlx_error *error);

gomlx_status gomlx_memory_set_cache_limit(uint64_t bytes, struct gomlx_error *error);

gomlx_status gomlx_memory_set_idle_limit(uint64_t bytes, struct gomlx_error *error);

void gomlx_memory_clear_cache(void);

void gomlx_memory_reset_peak(void);

gomlx_status gomlx_model_options_init(struct gomlx_model_options *out_options,
                                      size_t struct_size,
                                      struct gomlx_error *error);

gomlx_status gomlx_model_load(const char *path,
                              size_t path_len,
                              const struct gomlx_model_options *options,
                              struct gomlx_model **out_model,
                              struct gomlx_error *error);

struct gomlx_model *gomlx_model_clone(const struct gomlx_model *model);

gomlx_status gomlx_model_describe(const struct gomlx_model *model,
                                  struct gomlx_model_info *out_info,
                                  struct gomlx_error *error);

gomlx_status gomlx_model_tokenize(const struct gomlx_model *model,
                                  const char *text,
                                  size_t text_len,
                                  int32_t add_special,
                                  uint32_t *out_tokens,
                                  size_t capacity,
                                  size_t *out_count,
                                  struct gomlx_error *error);

gomlx_status gomlx_model_detokenize(const struct gomlx_model *model,
                                    const uint32_t *tokens,
                                    size_t token_count,
                                    int32_t skip_special,
                                    char *out_text,
                                    size_t capacity,
                                    size_t *out_len,
                                    struct gomlx_error *error);

gomlx_status gomlx_model_render_chat(const struct gomlx_model *model,
                                     const struct gomlx_request *request,
                                     char *out_text,
                                     size_t capacity,
                                     size_t *out_len,
                                     struct gomlx_error *error);

gomlx_status gomlx_model_save_prefixes(const struct gomlx_model *model,
                                       const char *path,
                                       size_t path_len,
                                       size_t *out_tokens,
                                       struct gomlx_error *error);

gomlx_status gomlx_model_restore_prefixes(const struct gomlx_model *model,
                                          const char *path,
                                          size_t path_len,
                                          size_t *out_tokens,
                                          struct gomlx_error *error);

void gomlx_model_free(struct gomlx_model *model);

gomlx_status gomlx_request_init(struct gomlx_request *out_request, size_t struct_size, struct gomlx_error *error);

gomlx_status gomlx_generation_start(const struct gomlx_model *model,
                                    const struct gomlx_request *request,
                                    struct gomlx_generation **out_generation,
                                    struct gomlx_error *error);

gomlx_status gomlx_generation_next(struct gomlx_generation *generation,
                                   int32_t timeout_ms,
                                   struct gomlx_chunk *out_chunk,
                                   struct gomlx_error *error);

gomlx_status gomlx_generation_metrics(struct gomlx_generation *generation,
                                      struct gomlx_metrics *out_metrics,
                                      struct gomlx_error *error);

void gomlx_generation_free(struct gomlx_generation *generation);

gomlx_status gomlx_generate(const struct gomlx_model *model,
                            const struct gomlx_request *request,
                            gomlx_chunk_fn on_chunk,
                            void *user_data,
                            struct gomlx_metrics *out_metrics,
                            struct gomlx_error *error);

gomlx_status gomlx_generate_batch(const struct gomlx_model *model,
                                  const struct gomlx_request *requests,
                                  size_t count,
                                  gomlx_chunk_fn on_chunk,
                                  void *user_data,
                                  gomlx_status *out_statuses,
                                  struct gomlx_metrics *out_metrics,
                                  struct gomlx_error *error);

gomlx_status gomlx_classify_request_init(struct gomlx_classify_request *out_request,
                                         size_t struct_size,
                                         struct gomlx_error *error);

gomlx_status gomlx_classify(const struct gomlx_model *model,
                            const struct gomlx_classify_request *request,
                            struct gomlx_classification *out_results,
                            size_t capacity,
                            float *out_logprobs,
                            float *out_probabilities,
                            float *out_logits,
                            struct gomlx_error *error);

gomlx_status gomlx_score(const struct gomlx_model *model,
                         const struct gomlx_request *request,
                         const struct gomlx_string *continuations,
                         size_t count,
                         float *out_logprobs,
                         uint32_t *out_token_counts,
                         struct gomlx_error *error);

gomlx_status gomlx_embed(const struct gomlx_model *model,
                         const struct gomlx_string *texts,
                         size_t count,
                         gomlx_pooling pooling,
                         const struct gomlx_control *control,
                         float *out_vectors,
                         size_t capacity,
                         struct gomlx_error *error);

gomlx_status gomlx_discover(const char *dir,
                            size_t dir_len,
                            struct gomlx_catalog **out_catalog,
                            struct gomlx_error *error);

size_t gomlx_catalog_count(const struct gomlx_catalog *catalog);

gomlx_status gomlx_catalog_get(const struct gomlx_catalog *catalog,
                               size_t index,
                               struct gomlx_model_info *out_info,
                               struct gomlx_error *error);

void gomlx_catalog_free(struct gomlx_catalog *catalog);
