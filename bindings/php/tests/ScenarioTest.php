<?php

declare(strict_types=1);

namespace Gomlx\Tests;

use Gomlx\Exception\GomlxException;
use Gomlx\LoadOptions;
use Gomlx\Model;
use Gomlx\Options;
use Gomlx\Precision;
use Gomlx\Request;

/** What every surface of the library must do, told once as data: tests/scenarios/*.json. */
final class ScenarioTest extends TestCase
{
    private const FLAGS = [
        'ignore_end' => 'ignoreEnd', 'special_in_text' => 'specialInText', 'echo' => 'echo',
        'continue_final' => 'continueFinal',
    ];

    private const OPTIONS = [
        'max_tokens' => 'maxTokens', 'temperature' => 'temperature', 'top_k' => 'topK', 'top_p' => 'topP',
        'min_p' => 'minP', 'repetition_penalty' => 'repetitionPenalty', 'seed' => 'seed', 'stop' => 'stop',
        'stop_tokens' => 'stopTokens', 'template_variables' => 'templateVariables',
    ];

    /** @return iterable<string, array{array<string, mixed>}> */
    public static function scenarios(): iterable
    {
        foreach (glob(self::ROOT . '/tests/scenarios/*.json') ?: [] as $file) {
            $all = json_decode((string) file_get_contents($file), true, flags: JSON_THROW_ON_ERROR);
            foreach ($all as $scenario) {
                yield $scenario['name'] => [$scenario];
            }
        }
    }

    /** @dataProvider scenarios */
    public function testScenario(array $scenario): void
    {
        self::known($scenario, ['name', 'model', 'options', 'request', 'expect']);
        $expect = $scenario['expect'];
        self::known($expect, [
            'status', 'message', 'text', 'text_begins', 'stop_reason', 'prompt_tokens', 'generated_tokens',
        ]);
        $answer = null;
        try {
            $model = self::load($scenario);
            $answer = $model->run(self::request($scenario['request']));
            $text = self::text($answer);
            $status = 'ok';
        } catch (GomlxException $e) {
            $status = self::snake($e->status->name);
            self::assertSame('Gomlx\Exception\\' . $e->status->name . 'Exception', $e::class);
            self::assertSame($e->status->value, $e->getCode());
            self::assertStringContainsString($expect['message'] ?? '', $e->getMessage());
        }
        self::assertSame($expect['status'] ?? 'ok', $status, isset($e) ? $e->getMessage() : '');
        if ($status !== 'ok') {
            return;
        }
        $metrics = $answer->getReturn();
        self::assertSame($expect['text'] ?? $text, $text);
        self::assertTrue(str_starts_with($text, $expect['text_begins'] ?? ''), $text);
        self::assertSame($expect['stop_reason'] ?? self::snake($metrics->stopReason->name), self::snake($metrics->stopReason->name));
        self::assertSame($expect['prompt_tokens'] ?? $metrics->promptTokens, $metrics->promptTokens);
        self::assertSame($expect['generated_tokens'] ?? $metrics->generatedTokens, $metrics->generatedTokens);
        self::assertEquals($metrics, $model->metrics());
    }

    private static function load(array $scenario): Model
    {
        $options = $scenario['options'] ?? [];
        self::known($options, ['precision', 'context_length']);
        return Model::load(self::ROOT . '/models/' . $scenario['model'], new LoadOptions(
            precision: ($options['precision'] ?? 'fast') === 'exact' ? Precision::Exact : Precision::Fast,
            contextLength: $options['context_length'] ?? null,
        ));
    }

    private static function request(array $asked): Request
    {
        self::known($asked, [
            'prompt', 'tokens', 'messages', 'messages_json', 'deadline_ms', 'flags', 'logit_bias',
            ...array_keys(self::OPTIONS),
        ]);
        $options = [];
        foreach (self::OPTIONS as $theirs => $ours) {
            if (isset($asked[$theirs])) {
                $options[$ours] = $asked[$theirs];
            }
        }
        foreach ($asked['flags'] ?? [] as $flag) {
            $options[self::FLAGS[$flag]] = true;
        }
        if (isset($asked['logit_bias'])) {
            $options['logitBias'] = array_column($asked['logit_bias'], 'bias', 'token');
        }
        if (isset($asked['deadline_ms'])) {
            $options['timeout'] = $asked['deadline_ms'] / 1000;
        }
        return new Request(
            prompt: $asked['prompt'] ?? null,
            tokens: $asked['tokens'] ?? [],
            messages: $asked['messages'] ?? [],
            messagesJson: $asked['messages_json'] ?? '',
            options: new Options(...$options),
        );
    }

    /** A key that this reader does not know would be a test that does not test. */
    private static function known(array $given, array $keys): void
    {
        self::assertSame([], array_diff(array_keys($given), $keys));
    }

    private static function snake(string $name): string
    {
        return strtolower((string) preg_replace('/(?<=[a-z])[A-Z]/', '_$0', $name));
    }
}
