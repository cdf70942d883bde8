<?php

declare(strict_types=1);

/*
 * A FrankenPHP worker: the models are loaded once and shared by all threads, then requests are served.
 *
 *     GET  /stream?prompt=…&tokens=…   server-sent events, a chunk each, then `event: done` with the figures
 *     POST /classify                   {"texts": […], "labels": […], "pattern": "… {text} …"}, answered as JSON
 *     GET  /health                     what the library holds
 */

use Gomlx\Exception\ArgumentException;
use Gomlx\Exception\BusyException;
use Gomlx\Exception\GomlxException;
use Gomlx\LoadOptions;
use Gomlx\Model;
use Gomlx\Options;
use Gomlx\Runtime;
use Gomlx\Sharing;

// In a checkout, or in what `make install` wrote.
$here = dirname(__DIR__, 2);
require is_dir("$here/bindings") ? "$here/bindings/php/autoload.php" : "$here/php/autoload.php";

// A client that hangs up must not end the worker; the loop below notices.
ignore_user_abort(true);

$models = getenv('GOMLX_MODELS') ?: "$here/models";
$shared = new LoadOptions(sharing: Sharing::Process);
$stories = Model::load("$models/llama-tales-16m-4bit", $shared);
$domains = Model::load("$models/gemma3-domains-6m-4bit", $shared);

$stream = static function () use ($stories): void {
    $prompt = is_string($_GET['prompt'] ?? null) ? $_GET['prompt'] : 'Once upon a time';
    $tokens = max(1, min(500, (int) ($_GET['tokens'] ?? 100)));
    // What is wrong with the request is thrown here, before anything is sent.
    $answer = $stories->generate($prompt, new Options(maxTokens: $tokens, timeout: 60.0));
    header('Content-Type: text/event-stream');
    header('Cache-Control: no-cache');
    foreach ($answer as $chunk) {
        echo 'data: ', json_encode(['text' => $chunk->text], JSON_THROW_ON_ERROR), "\n\n";
        flush();
        if (connection_aborted() === 1) {
            return; // $answer goes, and the model stops
        }
    }
    $metrics = $answer->getReturn();
    echo "event: done\ndata: ", json_encode([
        'tokens' => $metrics->generatedTokens,
        'stop' => $metrics->stopReason->name,
        'tokens_per_second' => round($metrics->decodeTokensPerSecond, 1),
    ], JSON_THROW_ON_ERROR), "\n\n";
};

$classify = static function () use ($domains): void {
    $asked = json_decode((string) file_get_contents('php://input'), true);
    if (!is_array($asked) || !is_array($asked['texts'] ?? null) || !is_array($asked['labels'] ?? null)) {
        http_response_code(400);
        echo json_encode(['error' => 'texts and labels are needed']);
        return;
    }
    $results = $domains->classify(
        texts: array_values($asked['texts']),
        labels: array_values($asked['labels']),
        pattern: is_string($asked['pattern'] ?? null) ? $asked['pattern'] : "Sentence: {text}\nDomain:",
        timeout: 60.0,
    );
    header('Content-Type: application/json');
    echo json_encode(array_map(
        static fn ($result): array => ['label' => $result->label, 'probability' => round($result->probability, 4)],
        $results,
    ), JSON_THROW_ON_ERROR);
};

$health = static function (): void {
    header('Content-Type: application/json');
    echo json_encode(['runtime' => Runtime::info(), 'memory' => Runtime::memory()], JSON_THROW_ON_ERROR);
};

$handler = static function () use ($stream, $classify, $health): void {
    try {
        match (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
            '/stream' => $stream(),
            '/classify' => $classify(),
            '/health' => $health(),
            default => http_response_code(404),
        };
    } catch (GomlxException $e) {
        if (!headers_sent()) {
            http_response_code(match (true) {
                $e instanceof BusyException => 503,
                $e instanceof ArgumentException => 400,
                default => 500,
            });
        }
        echo json_encode(['error' => $e->getMessage()], JSON_INVALID_UTF8_SUBSTITUTE), "\n";
    }
};

while (frankenphp_handle_request($handler)) {
    // The next one.
}
