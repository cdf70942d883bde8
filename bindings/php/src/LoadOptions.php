<?php

declare(strict_types=1);

namespace Gomlx;

/** How a model is loaded. What is null is left to the library. */
final readonly class LoadOptions
{
    /**
     * @param Backend $backend what computes
     * @param ?int $contextLength tokens of a sequence, prompt and answer together; default: what the model was made
     *     for, at most 8,192
     * @param ?int $threads threads that compute; default: the physical cores that this process may use
     * @param KvType $kvType element type of the KV cache
     * @param Weights $weights how weights reach memory
     * @param Precision $precision how the cpu backend multiplies
     * @param ?int $maxSequences sequences computed together; default 32
     * @param ?int $maxQueue requests that may wait before another gets BusyException; default 1,024
     * @param ?int $prefillChunk most prompt tokens computed in one step; default 512; never changes an answer
     * @param ?int $kvBudget bytes that the KV cache may take; default: a quarter of the machine's memory
     * @param ?int $prefixBudget bytes of the KV cache that finished requests leave for later ones with the same
     *     beginning; default: one full context; 1 keeps nothing
     * @param Sharing $sharing whether others in this process, such as FrankenPHP's threads, get the same model
     * @param ?Control $control stops the load and shows its progress in bytes
     */
    public function __construct(
        public Backend $backend = Backend::Auto,
        public ?int $contextLength = null,
        public ?int $threads = null,
        public KvType $kvType = KvType::Auto,
        public Weights $weights = Weights::Mapped,
        public Precision $precision = Precision::Fast,
        public ?int $maxSequences = null,
        public ?int $maxQueue = null,
        public ?int $prefillChunk = null,
        public ?int $kvBudget = null,
        public ?int $prefixBudget = null,
        public Sharing $sharing = Sharing::None,
        public ?Control $control = null,
    ) {
    }
}
