<?php

declare(strict_types=1);

namespace Gomlx\Internal;

use FFI;
use FFI\CData;
use Gomlx\Control;
use Gomlx\Exception\ArgumentException;
use Gomlx\Message;
use Gomlx\Options;
use Gomlx\Request;
use Gomlx\Status;

/**
 * PHP values as C sees them, for the length of one call: the memory goes with the arena.
 *
 * @internal
 */
final class Arena
{
    private const UINT32_MAX = 0xffff_ffff;

    private readonly FFI $ffi;

    /** @var list<mixed> what the C structs point to */
    private array $kept = [];

    public function __construct()
    {
        $this->ffi = Library::ffi();
    }

    /** A gomlx_request for $request. */
    public function request(Request $request): CData
    {
        $c = $this->initialised('gomlx_request');
        if ($request->prompt !== null) {
            $this->text($c->prompt, $request->prompt);
        }
        [$c->tokens, $c->token_count] = $this->tokens('tokens', $request->tokens);
        if ($request->messages !== []) {
            $this->messages($c, $request->messages);
        }
        if ($request->messagesJson !== '') {
            $this->text($c->messages_json, $request->messagesJson);
        }
        $this->options($c, $request->options);
        return FFI::addr($c);
    }

    /** A struct with the library's defaults, kept. */
    public function initialised(string $type): CData
    {
        $c = $this->make($type);
        Library::check($this->ffi->{"{$type}_init"}(FFI::addr($c), FFI::sizeof($c), Library::error()));
        return $c;
    }

    /** Room for a value or an array of type $type; null where $count is 0. */
    public function room(string $type, int $count): ?CData
    {
        return $count === 0 ? null : $this->make("{$type}[$count]");
    }

    /** Fills the gomlx_string $place. */
    public function text(CData $place, string $text): void
    {
        $length = strlen($text);
        if ($length > 0) {
            $bytes = $this->make("char[$length]");
            FFI::memcpy($bytes, $text, $length);
            $place->data = $this->ffi->cast('char *', $bytes);
            $place->len = $length;
        }
    }

    /**
     * Texts as an array of gomlx_string and its length.
     *
     * @param array<string> $texts
     * @return array{?CData, int}
     */
    public function texts(string $name, array $texts): array
    {
        foreach ($texts as $text) {
            if (!is_string($text)) {
                self::refuse("$name: " . get_debug_type($text) . ' is not a string');
            }
        }
        if ($texts === []) {
            return [null, 0];
        }
        $array = $this->ffi->cast('gomlx_string *', $this->make('gomlx_string[' . count($texts) . ']'));
        $all = implode('', $texts);
        if ($all === '') {
            return [$array, count($texts)]; // zeroed: empty texts
        }
        $bytes = $this->make('char[' . strlen($all) . ']');
        FFI::memcpy($bytes, $all, strlen($all));
        $at = $this->ffi->cast('char *', $bytes);
        $i = 0;
        foreach ($texts as $text) {
            $place = $array[$i++];
            $place->data = $at;
            $place->len = strlen($text);
            $at += strlen($text);
        }
        return [$array, $i];
    }

    /**
     * Token ids as an array and its length.
     *
     * @param array<int> $tokens
     * @return array{?CData, int}
     */
    public function tokens(string $name, array $tokens): array
    {
        if ($tokens === []) {
            return [null, 0];
        }
        foreach ($tokens as $token) {
            if (!is_int($token) || $token < 0 || $token > self::UINT32_MAX) {
                self::refuse("$name: " . (is_int($token) ? $token : get_debug_type($token)) . ' is no token id');
            }
        }
        $array = $this->make('uint32_t[' . count($tokens) . ']');
        FFI::memcpy($array, pack('L*', ...$tokens), 4 * count($tokens));
        return [$this->ffi->cast('uint32_t *', $array), count($tokens)];
    }

    /**
     * Fills `messages` or, where a turn has more than role and content, `messages_json` of $c.
     *
     * @param array<Message|array<string, mixed>> $messages
     */
    public function messages(CData $c, array $messages): void
    {
        $plain = self::plain($messages);
        if ($plain === null) {
            $this->text($c->messages_json, self::json('messages', array_values($messages)));
        } else {
            $this->turns($c, $plain);
        }
    }

    /**
     * Fills `messages` of $c.
     *
     * @param array<Message|array<string, mixed>> $messages
     */
    public function turns(CData $c, array $messages): void
    {
        $texts = [];
        foreach (self::plain($messages) ?? self::refuse('messages: more than role and content') as $message) {
            array_push($texts, $message->role, $message->content);
        }
        // A gomlx_message is two gomlx_strings, one after the other.
        [$strings] = $this->texts('messages', $texts);
        $c->messages = $strings === null ? null : $this->ffi->cast('gomlx_message *', $strings);
        $c->message_count = count($messages);
    }

    public function control(?Control $control): ?CData
    {
        if ($control === null) {
            return null;
        }
        $this->kept[] = $control;
        return $control->handle()->get();
    }

    /** Milliseconds of a timeout in seconds, rounded up; 0 for none. */
    public static function milliseconds(?float $seconds): int
    {
        if ($seconds === null || $seconds > 1e12) {
            return 0;
        }
        return $seconds > 0 ? (int) ceil($seconds * 1000) : self::refuse("timeout $seconds is not above 0");
    }

    /** A number that fits uint32_t: C would cut it silently. */
    public static function uint32(string $name, int $value): int
    {
        return $value >= 0 && $value <= self::UINT32_MAX ? $value : self::refuse("$name $value is out of range");
    }

    /** A number of bytes. */
    public static function bytes(string $name, int $value): int
    {
        return $value >= 0 ? $value : self::refuse("$name $value is below 0");
    }

    private function options(CData $c, Options $options): void
    {
        foreach (
            [
                'max_tokens' => $options->maxTokens, 'top_k' => $options->topK, 'logprobs' => $options->logprobs,
                'penalty_window' => $options->penaltyWindow, 'keep_tokens' => $options->keepTokens,
            ] as $field => $value
        ) {
            if ($value !== null) {
                $c->$field = self::uint32($field, $value);
            }
        }
        foreach (
            [
                'temperature' => $options->temperature, 'top_p' => $options->topP, 'min_p' => $options->minP,
                'typical_p' => $options->typicalP, 'repetition_penalty' => $options->repetitionPenalty,
                'presence_penalty' => $options->presencePenalty, 'frequency_penalty' => $options->frequencyPenalty,
            ] as $field => $value
        ) {
            if ($value !== null) {
                $c->$field = $value;
            }
        }
        $flags = 0;
        if ($options->seed !== null) {
            $c->seed = $options->seed;
            $flags |= $this->ffi->GOMLX_REQUEST_SEED;
        }
        $flags |= $options->ignoreEnd ? $this->ffi->GOMLX_REQUEST_IGNORE_END : 0;
        $flags |= $options->specialInText ? $this->ffi->GOMLX_REQUEST_SPECIAL_IN_TEXT : 0;
        $flags |= $options->echo ? $this->ffi->GOMLX_REQUEST_ECHO : 0;
        $flags |= $options->continueFinal ? $this->ffi->GOMLX_REQUEST_CONTINUE_FINAL : 0;
        $c->flags = $flags;
        if ($options->logitBias !== []) {
            $this->logitBias($c, $options->logitBias);
        }
        if ($options->stop !== []) {
            [$c->stop, $c->stop_count] = $this->texts('stop', $options->stop);
        }
        if ($options->stopTokens !== []) {
            [$c->stop_tokens, $c->stop_token_count] = $this->tokens('stop_tokens', $options->stopTokens);
        }
        $variables = $options->templateVariables;
        if ($variables !== '' && $variables !== []) {
            $json = is_string($variables) ? $variables : self::json('template_variables', (object) $variables);
            $this->text($c->template_variables, $json);
        }
        $c->when_full = $options->whenFull->value;
        $c->priority = max(-0x8000_0000, min(0x7fff_ffff, $options->priority));
        $c->deadline_ms = self::milliseconds($options->timeout);
        $c->control = $this->control($options->control);
    }

    /** @param non-empty-array<int, float|int> $bias */
    private function logitBias(CData $c, array $bias): void
    {
        $array = $this->make('gomlx_logit_bias[' . count($bias) . ']');
        $i = 0;
        foreach ($bias as $token => $added) {
            $entry = $array[$i++];
            $entry->token = self::uint32('logit_bias: token', $token);
            $entry->bias = $added;
        }
        $c->logit_bias = $this->ffi->cast('gomlx_logit_bias *', $array);
        $c->logit_bias_count = $i;
    }

    private function make(string $type): CData
    {
        return $this->kept[] = $this->ffi->new($type) ?? throw new \LogicException("no memory for $type");
    }

    /**
     * Turns of role and content only; null where one has more.
     *
     * @param array<Message|array<string, mixed>> $messages
     * @return ?list<Message>
     */
    private static function plain(array $messages): ?array
    {
        $plain = [];
        foreach ($messages as $message) {
            if (is_array($message)) {
                $role = $message['role'] ?? null;
                $content = $message['content'] ?? null;
                if (count($message) !== 2 || !is_string($role) || !is_string($content)) {
                    return null;
                }
                $message = new Message($role, $content);
            }
            $plain[] = $message;
        }
        return $plain;
    }

    private static function json(string $name, mixed $value): string
    {
        try {
            return json_encode($value, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES);
        } catch (\JsonException $e) {
            self::refuse("$name: {$e->getMessage()}");
        }
    }

    private static function refuse(string $message): never
    {
        throw new ArgumentException($message, Status::Argument);
    }
}
