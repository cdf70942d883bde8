<?php

declare(strict_types=1);

namespace Gomlx\Internal;

use FFI;
use FFI\CData;
use Gomlx\Chunk;
use Gomlx\Metrics;
use Gomlx\Request;
use Gomlx\StopReason;

/**
 * One answer in progress: a gomlx_generation, pulled from. It stops when PHP drops it.
 *
 * @internal
 */
final class Answer
{
    /** PHP runs signal handlers and looks at its time limit between two calls only: so long may a call wait. */
    private const PATIENCE_MS = 100;

    private const DONE = 1;

    public ?Metrics $metrics = null;

    private readonly FFI $ffi;
    private readonly Handle $generation;
    private readonly CData $chunk;
    private readonly CData $outChunk;
    private readonly CData $error;

    /**
     * @param Handle $model an owner of the model that is this answer's alone
     * @param Figures $last where the metrics are noted, too
     */
    public function __construct(private readonly Handle $model, Request $request, private readonly Figures $last)
    {
        $this->ffi = Library::ffi();
        $this->error = Library::error();
        $arena = new Arena();
        $c = $arena->request($request);
        $generation = $this->ffi->new('gomlx_generation *');
        Library::check(
            $this->ffi->gomlx_generation_start($model->get(), $c, FFI::addr($generation), $this->error),
        );
        $this->generation = new Handle($generation, 'generation', 'gomlx_generation_free');
        $this->chunk = Library::sized('gomlx_chunk');
        $this->outChunk = FFI::addr($this->chunk);
    }

    /**
     * All of it.
     *
     * @return \Generator<int, Chunk, mixed, Metrics>
     */
    public function chunks(): \Generator
    {
        while ($this->metrics === null) {
            $chunk = $this->next(self::PATIENCE_MS);
            if ($chunk !== null) {
                yield $chunk;
            }
        }
        return $this->metrics;
    }

    /** The next piece; null where none came within the time, or where the answer is complete, which sets $metrics. */
    public function next(int $milliseconds): ?Chunk
    {
        $status = $this->ffi->gomlx_generation_next(
            $this->generation->get(),
            $milliseconds,
            $this->outChunk,
            $this->error,
        );
        if ($status === 0) {
            return Read::chunk($this->ffi, $this->chunk);
        }
        if ($status < 0) {
            try {
                Library::check($status);
            } finally {
                $this->end();
            }
        }
        if ($status === self::DONE) {
            $this->end();
        }
        return null;
    }

    /** Stops it, if it is not complete, notes its figures and gives it back. */
    private function end(): void
    {
        if (!$this->generation->isOpen()) {
            return;
        }
        $c = Library::sized('gomlx_metrics');
        if ($this->ffi->gomlx_generation_metrics($this->generation->get(), FFI::addr($c), null) >= 0) {
            if ($c->stop_reason === StopReason::None->value) {
                $c->stop_reason = StopReason::Cancelled->value; // it was left
            }
            $this->metrics = $this->last->metrics = Read::metrics($c);
        }
        $this->generation->close();
        $this->model->close();
    }

    public function __destruct()
    {
        $this->end();
    }
}
