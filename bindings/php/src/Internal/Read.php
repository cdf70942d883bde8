<?php

declare(strict_types=1);

namespace Gomlx\Internal;

use FFI;
use FFI\CData;
use Gomlx\Chunk;
use Gomlx\Info;
use Gomlx\Metrics;
use Gomlx\Status;
use Gomlx\StopReason;
use Gomlx\TokenLogProb;

/**
 * What the library wrote, copied into PHP's values.
 *
 * @internal
 */
final class Read
{
    /** A gomlx_string. FFI reads a `const char *` up to its first NUL, which a text may hold. */
    public static function text(FFI $ffi, CData $string): string
    {
        $text = $string->data;
        return strlen($text) === $string->len
            ? $text
            : FFI::string($ffi->cast('char **', FFI::addr($string))[0], $string->len);
    }

    public static function chunk(FFI $ffi, CData $c): Chunk
    {
        $count = $c->token_count;
        $tokens = $count === 1 ? [$c->tokens[0]] : self::uint32s($c->tokens, $count);
        if ($c->logprobs === null) {
            return new Chunk(self::text($ffi, $c->text), $tokens);
        }
        $width = $c->top_count;
        $top = [];
        for ($row = 0; $row < $count; $row++) {
            $best = [];
            for ($i = $row * $width; $i < ($row + 1) * $width; $i++) {
                $best[] = new TokenLogProb($c->top_tokens[$i], $c->top_logprobs[$i]);
            }
            $top[] = $best;
        }
        return new Chunk(self::text($ffi, $c->text), $tokens, self::floats($c->logprobs, $count), $top);
    }

    public static function metrics(CData $c): Metrics
    {
        return new Metrics(
            StopReason::tryFrom($c->stop_reason) ?? StopReason::Error,
            $c->prompt_tokens,
            $c->cached_tokens,
            $c->generated_tokens,
            $c->queue_seconds,
            $c->prefill_seconds,
            $c->decode_seconds,
            $c->first_token_seconds,
            $c->prefill_tokens_per_second,
            $c->decode_tokens_per_second,
            $c->peak_memory,
            $c->active_memory,
            $c->rolled_tokens,
        );
    }

    public static function info(FFI $ffi, CData $c): Info
    {
        return new Info(
            self::text($ffi, $c->name),
            self::text($ffi, $c->path),
            self::text($ffi, $c->architecture),
            self::text($ffi, $c->family),
            $c->parameters,
            $c->bytes_on_disk,
            $c->layers,
            $c->hidden,
            $c->vocabulary,
            $c->context,
            $c->context_length,
            $c->quantisation_bits,
            $c->quantisation_group,
            self::text($ffi, $c->quantisation_mode),
            self::text($ffi, $c->dtype),
            $c->has_chat_template !== 0,
            $c->threads,
            self::text($ffi, $c->backend),
            self::text($ffi, $c->device),
            $c->status < 0
                ? (Status::tryFrom($c->status) ?? Status::Internal)->exception(self::text($ffi, $c->reason))
                : null,
        );
    }

    /**
     * @param ?CData $array uint32_t, $count of them
     * @return list<int>
     */
    public static function uint32s(?CData $array, int $count): array
    {
        return $array === null ? [] : self::unpacked('L*', $array, $count);
    }

    /**
     * @param ?CData $array float, $count of them
     * @return list<float>
     */
    public static function floats(?CData $array, int $count): array
    {
        return $array === null ? [] : self::unpacked('f*', $array, $count);
    }

    /** @return list<mixed> elements of four bytes each */
    private static function unpacked(string $format, CData $array, int $count): array
    {
        return $count === 0 ? [] : array_values(unpack($format, FFI::string($array, 4 * $count)) ?: []);
    }
}
