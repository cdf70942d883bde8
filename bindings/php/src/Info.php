<?php

declare(strict_types=1);

namespace Gomlx;

use Gomlx\Exception\GomlxException;

/** What a model is. */
final readonly class Info
{
    /**
     * @param string $name the folder's name, or the repository's in a Hugging Face cache
     * @param string $path the folder
     * @param string $architecture `architectures[0]` of its config
     * @param string $family its `model_type`
     * @param int $parameters weights, quantised ones counted as what they stand for
     * @param int $bytesOnDisk size of the weight files
     * @param int $layers decoder layers
     * @param int $hidden width of the residual stream, and of an embedding
     * @param int $vocabulary rows of the embedding table
     * @param int $context positions it was made for
     * @param int $contextLength positions a sequence may take; 0 where it is not loaded
     * @param int $quantisationBits bits of most quantised weights; 0 where none are quantised
     * @param int $quantisationGroup weights that share a scale; 0 where none are quantised
     * @param string $quantisationMode `affine`, or empty
     * @param string $dtype element type of the weights that are not quantised
     * @param bool $hasChatTemplate whether chat() works
     * @param int $threads threads that compute it; 0 where it is not loaded
     * @param string $backend `cpu` or `mlx`; empty where it is not loaded
     * @param string $device the device that computes it; empty where it is not loaded
     * @param ?GomlxException $error from Runtime::discover(): why it can't be loaded; the rest is then empty but for
     *     name and path
     */
    public function __construct(
        public string $name,
        public string $path,
        public string $architecture,
        public string $family,
        public int $parameters,
        public int $bytesOnDisk,
        public int $layers,
        public int $hidden,
        public int $vocabulary,
        public int $context,
        public int $contextLength,
        public int $quantisationBits,
        public int $quantisationGroup,
        public string $quantisationMode,
        public string $dtype,
        public bool $hasChatTemplate,
        public int $threads,
        public string $backend,
        public string $device,
        public ?GomlxException $error,
    ) {
    }
}
