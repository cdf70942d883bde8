<?php

declare(strict_types=1);

namespace Gomlx\Tests;

use Gomlx\Chunk;
use Gomlx\LoadOptions;
use Gomlx\Model;
use Gomlx\Options;
use Gomlx\Runtime;

abstract class TestCase extends \PHPUnit\Framework\TestCase
{
    protected const ROOT = __DIR__ . '/../../..';
    protected const STORIES = self::ROOT . '/models/llama-tales-16m-4bit';
    protected const DOMAINS = self::ROOT . '/models/gemma3-domains-6m-4bit';

    /** @var array<string, Model> */
    private static array $models = [];

    /** One model for all tests that only ask it; nobody closes it. */
    protected static function stories(): Model
    {
        return self::$models[self::STORIES] ??= Model::load(self::STORIES);
    }

    protected static function domains(): Model
    {
        return self::$models[self::DOMAINS] ??= Model::load(self::DOMAINS);
    }

    /** @param \Generator<int, Chunk> $answer */
    protected static function text(\Generator $answer): string
    {
        $text = '';
        foreach ($answer as $chunk) {
            $text .= $chunk->text;
        }
        return $text;
    }

    protected static function story(string $prompt, int $tokens): string
    {
        return self::text(self::stories()->generate($prompt, new Options(maxTokens: $tokens)));
    }

    /** An answer that nobody waits for to end. */
    protected static function endless(): Options
    {
        return new Options(ignoreEnd: true);
    }

    /** @return list<int> handles that are not freed */
    protected static function live(): array
    {
        $info = Runtime::info();
        return [$info->liveControls, $info->liveCatalogs, $info->liveModels, $info->liveGenerations];
    }

    /**
     * Runs $script in a PHP of its own.
     *
     * @param list<string> $arguments of php, before the script
     * @param array<string, string> $environment
     * @return array{int, string} its exit status and all that it said
     */
    protected static function php(string $script, array $arguments = [], array $environment = []): array
    {
        $file = (string) tempnam(sys_get_temp_dir(), 'gomlx');
        file_put_contents($file, $script);
        try {
            $command = [PHP_BINARY, '-d', 'zend.assertions=1', ...$arguments, $file];
            return self::execute($command, $environment + getenv());
        } finally {
            unlink($file);
        }
    }

    /**
     * @param list<string> $command
     * @param array<string, string> $environment
     * @return array{int, string}
     */
    protected static function execute(array $command, array $environment): array
    {
        $pipes = [];
        $process = proc_open($command, [1 => ['pipe', 'w'], 2 => ['redirect', 1]], $pipes, self::ROOT, $environment);
        assert(is_resource($process));
        $said = (string) stream_get_contents($pipes[1]);
        return [proc_close($process), $said];
    }

    /**
     * Asserts that $call throws $class with a message that holds $part.
     *
     * @param class-string<\Throwable> $class
     */
    protected static function assertThrows(string $class, string $part, callable $call): void
    {
        try {
            $call();
        } catch (\Throwable $e) {
            self::assertInstanceOf($class, $e, $e->getMessage());
            self::assertStringContainsString($part, $e->getMessage());
            self::assertStringNotContainsString("\n", $e->getMessage());
            return;
        }
        self::fail("nothing was thrown, expected $class");
    }
}
