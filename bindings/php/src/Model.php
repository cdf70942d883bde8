<?php

declare(strict_types=1);

namespace Gomlx;

use FFI;
use FFI\CData;
use Gomlx\Exception\ArgumentException;
use Gomlx\Internal\Answer;
use Gomlx\Internal\Arena;
use Gomlx\Internal\Batch;
use Gomlx\Internal\Figures;
use Gomlx\Internal\Handle;
use Gomlx\Internal\Library;
use Gomlx\Internal\Read;

/**
 * A loaded model. Everything that fails throws a Gomlx\Exception\GomlxException, one class a status.
 *
 * It is given back by close(), or when PHP drops it. A clone is one more owner of the same model.
 */
final class Model
{
    /** What LoadOptions::$maxSequences means by null. */
    private const DEFAULT_SEQUENCES = 32;

    private Figures $figures;

    private function __construct(private Handle $handle, private readonly int $sequences)
    {
        $this->figures = new Figures();
    }

    /** Loads the model in folder $path and returns when it can generate. Failures name the file, key or tensor. */
    public static function load(string $path, LoadOptions $options = new LoadOptions()): self
    {
        $ffi = Library::ffi();
        $arena = new Arena();
        $c = $arena->initialised('gomlx_model_options');
        $c->backend = $options->backend->value;
        $c->kv_type = $options->kvType->value;
        $c->weights = $options->weights->value;
        $c->precision = $options->precision->value;
        $c->sharing = $options->sharing->value;
        $c->context_length = Arena::uint32('contextLength', $options->contextLength ?? 0);
        $c->threads = Arena::uint32('threads', $options->threads ?? 0);
        $c->max_sequences = Arena::uint32('maxSequences', $options->maxSequences ?? 0);
        $c->max_queue = Arena::uint32('maxQueue', $options->maxQueue ?? 0);
        $c->prefill_chunk = Arena::uint32('prefillChunk', $options->prefillChunk ?? 0);
        $c->kv_budget = Arena::bytes('kvBudget', $options->kvBudget ?? 0);
        $c->prefix_budget = Arena::bytes('prefixBudget', $options->prefixBudget ?? 0);
        $c->control = $arena->control($options->control);
        $model = $ffi->new('gomlx_model *');
        Library::check(
            $ffi->gomlx_model_load($path, strlen($path), FFI::addr($c), FFI::addr($model), Library::error()),
        );
        return new self(self::owned($model), $options->maxSequences ?: self::DEFAULT_SEQUENCES);
    }

    /** What it is. */
    public function info(): Info
    {
        $ffi = Library::ffi();
        $c = Library::sized('gomlx_model_info');
        Library::check($ffi->gomlx_model_describe($this->handle->get(), FFI::addr($c), Library::error()));
        return Read::info($ffi, $c);
    }

    /**
     * Continues a text. The answer is computed from now on; leaving the loop, or dropping the generator, stops it. The
     * generator returns the metrics.
     *
     * @return \Generator<int, Chunk, mixed, Metrics>
     */
    public function generate(string $prompt, Options $options = new Options()): \Generator
    {
        return $this->run(new Request(prompt: $prompt, options: $options));
    }

    /**
     * Answers a conversation through the model's chat template; otherwise it is generate().
     *
     * @param list<Message|array<string, mixed>> $messages an array is `['role' => …, 'content' => …]`, with more keys
     *     where the template reads them
     * @return \Generator<int, Chunk, mixed, Metrics>
     */
    public function chat(array $messages, Options $options = new Options()): \Generator
    {
        if ($messages === []) {
            throw new ArgumentException('messages are empty', Status::Argument);
        }
        return $this->run(new Request(messages: $messages, options: $options));
    }

    /**
     * generate() for any kind of request.
     *
     * @return \Generator<int, Chunk, mixed, Metrics>
     */
    public function run(Request $request): \Generator
    {
        return $this->start($request)->chunks();
    }

    /**
     * Computes several answers together, each what it would be alone. Chunks come as they are known, under their
     * requests' keys. A request that fails leaves the others alone: a BatchException comes last. The generator returns
     * the metrics, by key.
     *
     * @template K of array-key
     * @param array<K, Request|string> $requests a string is a prompt, which $options are for
     * @return \Generator<K, Chunk, mixed, array<K, Metrics>>
     */
    public function generateBatch(array $requests, Options $options = new Options()): \Generator
    {
        $asked = array_map(
            static fn (Request|string $request): Request => $request instanceof Request
                ? $request
                : new Request(prompt: $request, options: $options),
            $requests,
        );
        // As many as are computed together, and some more so that none of those places waits for PHP.
        $places = $this->sequences + intdiv($this->sequences, 2) + 1;
        return (new Batch($this->start(...), $asked, $places))->chunks();
    }

    /**
     * Labels every text, in prefill only, each as it would be alone. Give either $pattern or $messages.
     *
     * @param list<string> $texts what is classified
     * @param list<string> $labels the answers to choose from, as they would follow the prompt: mind a leading space
     * @param string $pattern text around `{text}`, which stands in it once: "Sentence: {text}\nDomain:"
     * @param list<Message|array{role: string, content: string}> $messages a conversation whose contents hold `{text}`
     *     once, rendered by the model's chat template
     * @param bool $bestOnly only the winner must be exact, which is quicker where labels have several tokens
     * @param bool $logits also returns the logits of the token after each prompt
     * @param ?float $timeout seconds; DeadlineException when all of it takes longer
     * @return list<Classification>
     */
    public function classify(
        array $texts,
        array $labels,
        string $pattern = '',
        array $messages = [],
        bool $bestOnly = false,
        bool $logits = false,
        ?float $timeout = null,
        ?Control $control = null,
    ): array {
        $ffi = Library::ffi();
        $arena = new Arena();
        $c = $arena->initialised('gomlx_classify_request');
        $arena->text($c->pattern, $pattern);
        if ($messages !== []) {
            $arena->turns($c, $messages);
        }
        [$c->texts, $c->text_count] = $arena->texts('texts', $texts);
        [$c->labels, $c->label_count] = $arena->texts('labels', $labels);
        $c->flags = $bestOnly ? $ffi->GOMLX_CLASSIFY_BEST_ONLY : 0;
        $c->deadline_ms = Arena::milliseconds($timeout);
        $c->control = $arena->control($control);
        $width = count($labels);
        $vocabulary = $logits ? $this->info()->vocabulary : 0;
        $results = $arena->room('gomlx_classification', count($texts));
        $logprobs = $arena->room('float', count($texts) * $width);
        $probabilities = $arena->room('float', count($texts) * $width);
        $allLogits = $arena->room('float', count($texts) * $vocabulary);
        Library::check($ffi->gomlx_classify(
            $this->handle->get(),
            FFI::addr($c),
            $results,
            count($texts),
            $logprobs,
            $probabilities,
            $allLogits,
            Library::error(),
        ));
        $out = [];
        foreach (array_keys(array_values($texts)) as $i) {
            assert($results !== null && $logprobs !== null && $probabilities !== null);
            $result = $results[$i];
            $out[] = new Classification(
                $labels[$result->label],
                $result->label,
                $result->probability,
                $result->logprob,
                Read::floats(FFI::addr($probabilities[$i * $width]), $width),
                Read::floats(FFI::addr($logprobs[$i * $width]), $width),
                $result->prompt_tokens,
                $allLogits === null ? null : Read::floats(FFI::addr($allLogits[$i * $vocabulary]), $vocabulary),
            );
        }
        return $out;
    }

    /**
     * How probable each continuation is after a prompt. Each is tokenized by itself. Of a Request's options only those
     * of its chat template and its control are looked at.
     *
     * @param list<string> $continuations
     * @return list<Score>
     */
    public function score(string|Request $prompt, array $continuations): array
    {
        $ffi = Library::ffi();
        $arena = new Arena();
        $c = $arena->request(is_string($prompt) ? new Request(prompt: $prompt) : $prompt);
        [$texts, $count] = $arena->texts('continuations', $continuations);
        $logprobs = $arena->room('float', $count);
        $tokens = $arena->room('uint32_t', $count);
        Library::check(
            $ffi->gomlx_score($this->handle->get(), $c, $texts, $count, $logprobs, $tokens, Library::error()),
        );
        return array_map(
            static fn (float $logprob, int $tokens): Score => new Score($logprob, $tokens),
            Read::floats($logprobs, $count),
            Read::uint32s($tokens, $count),
        );
    }

    /**
     * One vector of length one for each text, as wide as Info::$hidden: the hidden states after the last norm, pooled.
     *
     * @param list<string> $texts
     * @return list<list<float>>
     */
    public function embed(array $texts, Pooling $pooling = Pooling::Mean, ?Control $control = null): array
    {
        $ffi = Library::ffi();
        $arena = new Arena();
        $width = $this->info()->hidden;
        [$array, $count] = $arena->texts('texts', $texts);
        $vectors = $arena->room('float', $count * $width);
        Library::check($ffi->gomlx_embed(
            $this->handle->get(),
            $array,
            $count,
            $pooling->value,
            $arena->control($control),
            $vectors,
            $count * $width,
            Library::error(),
        ));
        return $width === 0 ? [] : array_chunk(Read::floats($vectors, $count * $width), $width);
    }

    /**
     * Text to token ids; $special adds what the tokenizer puts around a text, such as a BOS token.
     *
     * @return list<int>
     */
    public function tokenize(string $text, bool $special = true): array
    {
        $ffi = Library::ffi();
        $count = $ffi->new('size_t');
        $capacity = intdiv(strlen($text), 2) + 16;
        do {
            $tokens = $ffi->new("uint32_t[$capacity]");
            $status = $ffi->gomlx_model_tokenize(
                $this->handle->get(),
                $text,
                strlen($text),
                (int) $special,
                $tokens,
                $capacity,
                FFI::addr($count),
                Library::error(),
            );
            $capacity = $count->cdata;
        } while ($status === Status::Buffer->value);
        Library::check($status);
        return Read::uint32s($tokens, $capacity);
    }

    /**
     * Token ids to text; $skipSpecial leaves special tokens out.
     *
     * @param list<int> $tokens
     */
    public function detokenize(array $tokens, bool $skipSpecial = true): string
    {
        $ffi = Library::ffi();
        $arena = new Arena();
        [$ids, $count] = $arena->tokens('tokens', $tokens);
        return $this->textOf(8 * $count + 16, fn (CData $text, int $capacity, CData $length): int =>
            $ffi->gomlx_model_detokenize(
                $this->handle->get(),
                $ids,
                $count,
                (int) $skipSpecial,
                $text,
                $capacity,
                $length,
                Library::error(),
            ));
    }

    /**
     * The prompt that chat() makes of a conversation.
     *
     * @param list<Message|array<string, mixed>> $messages
     */
    public function renderChat(array $messages, Options $options = new Options()): string
    {
        return $this->render(new Request(messages: $messages, options: $options));
    }

    /** renderChat() for a request with messages of any kind. */
    public function render(Request $request): string
    {
        $ffi = Library::ffi();
        $arena = new Arena();
        $c = $arena->request($request);
        return $this->textOf(1024, fn (CData $text, int $capacity, CData $length): int =>
            $ffi->gomlx_model_render_chat($this->handle->get(), $c, $text, $capacity, $length, Library::error()));
    }

    /**
     * Writes what the prefix cache holds to a file, so that restorePrefixes() need not compute it after a restart.
     *
     * @return int tokens saved
     */
    public function savePrefixes(string $path): int
    {
        return $this->prefixes('gomlx_model_save_prefixes', $path);
    }

    /**
     * Takes what savePrefixes() wrote; FormatException for a file that is damaged or of another model, processor or
     * version.
     *
     * @return int tokens taken
     */
    public function restorePrefixes(string $path): int
    {
        return $this->prefixes('gomlx_model_restore_prefixes', $path);
    }

    /** The figures of the answer that ended last, also of one that was left; null before the first. */
    public function metrics(): ?Metrics
    {
        return $this->figures->metrics;
    }

    /** Gives the model back; again does nothing. Answers in progress go on, and its memory goes with the last. */
    public function close(): void
    {
        $this->handle->close();
    }

    public function __clone()
    {
        $this->handle = $this->another();
        $this->figures = new Figures();
    }

    private function prefixes(string $function, string $path): int
    {
        $ffi = Library::ffi();
        $tokens = $ffi->new('size_t');
        Library::check(
            $ffi->$function($this->handle->get(), $path, strlen($path), FFI::addr($tokens), Library::error()),
        );
        return $tokens->cdata;
    }

    private function start(Request $request): Answer
    {
        return new Answer($this->another(), $request, $this->figures);
    }

    /** One more owner. */
    private function another(): Handle
    {
        return self::owned(Library::handle(Library::ffi()->gomlx_model_clone($this->handle->get())));
    }

    private static function owned(CData $model): Handle
    {
        return new Handle($model, 'model', 'gomlx_model_free');
    }

    /**
     * The text that $call writes, which is asked again with more room where that was too little.
     *
     * @param \Closure(CData, int, CData): int $call
     */
    private function textOf(int $capacity, \Closure $call): string
    {
        $ffi = Library::ffi();
        $length = $ffi->new('size_t');
        do {
            $text = $ffi->new("char[$capacity]");
            $status = $call($text, $capacity, FFI::addr($length));
            $capacity = $length->cdata + 1;
        } while ($status === Status::Buffer->value);
        Library::check($status);
        return FFI::string($text, $length->cdata);
    }
}
