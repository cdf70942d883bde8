<?php

declare(strict_types=1);

/*
 * What pulling one token costs once it is computed: by PHP's generator and by the same loop in C. The difference is the
 * boundary. `scripts/bench-php` builds the C half and runs this; its last line fails the run above 10 µs.
 *
 *     php boundary.php PULL-SO [ROUNDS]
 */

use Gomlx\Internal\Answer;
use Gomlx\Internal\Library;
use Gomlx\Model;
use Gomlx\Options;
use Gomlx\Request;

require __DIR__ . '/../autoload.php';

const TOKENS = 500;
const LIMIT_US = 10;

[, $pull] = $argv;
$rounds = (int) ($argv[2] ?? 7);
$ffi = Library::ffi();
$c = FFI::cdef('size_t pull(void *generation);', $pull);
$model = Model::load(__DIR__ . '/../../../models/llama-tales-16m-4bit');
$request = new Request(
    prompt: 'Once upon a time',
    options: new Options(maxTokens: TOKENS, ignoreEnd: true),
);
// The bench looks inside: the C loop needs the generation's pointer, both need to know when all is computed.
$start = (new ReflectionMethod($model, 'start'))->getClosure($model);
$generation = new ReflectionProperty(Answer::class, 'generation');

/** Microseconds a token, of an answer that is computed already. */
$measure = static function (callable $drain) use ($ffi, $start, $generation, $request): float {
    $answer = $start($request);
    $handle = $generation->getValue($answer)->get();
    $metrics = Library::sized('gomlx_metrics');
    do {
        usleep(1000);
        Library::check($ffi->gomlx_generation_metrics($handle, FFI::addr($metrics), Library::error()));
    } while ($metrics->stop_reason === 0);
    $began = hrtime(true);
    $tokens = $drain($answer, $handle);
    $took = hrtime(true) - $began;
    $tokens === TOKENS || throw new RuntimeException("$tokens tokens");
    return $took / 1000 / TOKENS;
};
$inPhp = static function (Answer $answer): int {
    $tokens = 0;
    foreach ($answer->chunks() as $chunk) {
        $tokens += count($chunk->tokens);
    }
    return $tokens;
};
$inC = static fn (Answer $answer, FFI\CData $handle): int => $c->pull($handle);

$php = $native = [];
for ($round = 0; $round < $rounds; $round++) { // by turns: what else the machine does meets both
    $php[] = $measure($inPhp);
    $native[] = $measure($inC);
}
$median = static function (array $all): float {
    sort($all);
    return $all[intdiv(count($all), 2)];
};
$difference = $median($php) - $median($native);
printf(
    "µs a token, median of %d answers of %d tokens: PHP %.2f, C %.2f, boundary %.2f (limit %d)\n",
    $rounds,
    TOKENS,
    $median($php),
    $median($native),
    $difference,
    LIMIT_US,
);
exit($difference < LIMIT_US ? 0 : 1);
