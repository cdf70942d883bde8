<?php

declare(strict_types=1);

namespace Gomlx\Internal;

use Gomlx\Chunk;
use Gomlx\Exception\BatchException;
use Gomlx\Exception\GomlxException;
use Gomlx\Metrics;
use Gomlx\Request;

/**
 * Several answers in progress, pulled from in turn.
 *
 * @template K of array-key
 * @internal
 */
final class Batch
{
    /** How long the first answer may be waited for before the others are looked at again. */
    private const TURN_MS = 20;

    /** @var array<K, Answer> those in progress, by their requests' keys */
    private array $answers = [];

    /** @var array<K, GomlxException> */
    private array $failures = [];

    /** @var array<K, Metrics> */
    private array $metrics = [];

    /**
     * @param \Closure(Request): Answer $start
     * @param array<K, Request> $waiting
     * @param int $places how many are started together
     */
    public function __construct(
        private readonly \Closure $start,
        private array $waiting,
        private readonly int $places,
    ) {
        $this->fill();
    }

    /**
     * @return \Generator<K, Chunk, mixed, array<K, Metrics>>
     */
    public function chunks(): \Generator
    {
        while ($this->answers !== []) {
            $patience = self::TURN_MS; // the first of a round is waited for, the others are only looked at
            foreach ($this->answers as $index => $answer) {
                $chunk = $this->pull($index, $answer, $patience);
                $patience = 0;
                while ($chunk !== null) {
                    yield $index => $chunk;
                    $chunk = $this->pull($index, $answer, 0);
                }
            }
            $this->fill();
        }
        if ($this->failures !== []) {
            ksort($this->failures);
            throw new BatchException($this->failures);
        }
        ksort($this->metrics);
        return $this->metrics;
    }

    /** @param K $index */
    private function pull(int|string $index, Answer $answer, int $milliseconds): ?Chunk
    {
        try {
            $chunk = $answer->next($milliseconds);
        } catch (GomlxException $failure) {
            $this->failures[$index] = $failure;
            unset($this->answers[$index]);
            return null;
        }
        if ($answer->metrics !== null) {
            $this->metrics[$index] = $answer->metrics;
            unset($this->answers[$index]);
        }
        return $chunk;
    }

    private function fill(): void
    {
        while (count($this->answers) < $this->places && $this->waiting !== []) {
            $index = array_key_first($this->waiting);
            $request = $this->waiting[$index];
            unset($this->waiting[$index]);
            try {
                $this->answers[$index] = ($this->start)($request);
            } catch (GomlxException $failure) {
                $this->failures[$index] = $failure;
            }
        }
    }
}
