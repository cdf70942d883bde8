<?php

declare(strict_types=1);

/*
 * Resident memory over many answers, whichever way they end: it must be flat after the warm-up, a tenth of them.
 *
 *     php soak.php [GENERATIONS]
 */

use Gomlx\Control;
use Gomlx\Exception\CancelledException;
use Gomlx\Model;
use Gomlx\Options;
use Gomlx\Runtime;

require __DIR__ . '/../autoload.php';

const LIMIT_KIB = 2048;

$total = (int) ($argv[1] ?? 20000);
$warm = intdiv($total, 10);
$model = Model::load(__DIR__ . '/../../../models/gemma3-domains-6m-4bit');

/** This process's memory that is not shared with a file, in KiB: leaks are private. */
$resident = static function (): int {
    preg_match('/^RssAnon:\s+(\d+) kB/m', (string) file_get_contents('/proc/self/status'), $found);
    return (int) $found[1];
};
$baseline = $php = 0;
$began = microtime(true);
for ($i = 0; $i < $total; $i++) {
    if ($i === $warm) {
        [$baseline, $php] = [$resident(), memory_get_usage()];
    }
    $control = new Control();
    $options = new Options(maxTokens: 8, ignoreEnd: true, stop: ['never said'], control: $control, logprobs: $i % 3);
    $tokens = 0;
    try {
        foreach ($model->generate('Sentence: item ' . $i % 500 . "\nDomain:", $options) as $chunk) {
            $tokens += count($chunk->tokens);
            if ($tokens >= 2 && $i % 10 === 0) {
                $control->cancel();
            } elseif ($tokens >= 2 && $i % 10 === 1) {
                break;
            }
        }
        if ($i % 10 > 1 && $tokens !== 8) {
            throw new RuntimeException("$tokens tokens");
        }
    } catch (CancelledException) {
    }
    if (($i + 1) % max(1, intdiv($total, 10)) === 0) {
        printf("%6d answers: %d KiB\n", $i + 1, $resident());
    }
}
unset($control, $options, $chunk);
$live = Runtime::info();
$left = $live->liveGenerations + $live->liveControls + $live->liveModels - 1;
$grown = $resident() - $baseline;
printf(
    "%d answers in %.0f s: grew by %d KiB after the first %d (PHP's heap by %d bytes), %d handles left\n",
    $total,
    microtime(true) - $began,
    $grown,
    $warm,
    memory_get_usage() - $php,
    $left,
);
exit($grown <= LIMIT_KIB && $left === 0 ? 0 : 1);
