<?php

declare(strict_types=1);

namespace Gomlx\Tests;

use Gomlx\Chunk;
use Gomlx\Control;
use Gomlx\Exception\ArgumentException;
use Gomlx\Exception\BatchException;
use Gomlx\Exception\BusyException;
use Gomlx\Exception\CancelledException;
use Gomlx\Exception\DeadlineException;
use Gomlx\Exception\StateException;
use Gomlx\LoadOptions;
use Gomlx\Message;
use Gomlx\Model;
use Gomlx\Options;
use Gomlx\Request;
use Gomlx\StopReason;
use Gomlx\WhenFull;

final class GenerateTest extends TestCase
{
    public function testAGeneratorOfChunksThatReturnsMetrics(): void
    {
        $answer = self::stories()->generate('Once upon a time', new Options(maxTokens: 10));
        $tokens = [];
        foreach ($answer as $index => $chunk) {
            self::assertInstanceOf(Chunk::class, $chunk);
            self::assertSame((string) $chunk, $chunk->text);
            self::assertNull($chunk->logprobs);
            array_push($tokens, ...$chunk->tokens);
        }
        $metrics = $answer->getReturn();
        self::assertCount(10, $tokens);
        self::assertSame(StopReason::MaxTokens, $metrics->stopReason);
        self::assertSame([5, 10], [$metrics->promptTokens, $metrics->generatedTokens]);
        self::assertGreaterThan(0, $metrics->decodeSeconds);
        self::assertGreaterThan(0, $metrics->decodeTokensPerSecond);
        self::assertGreaterThanOrEqual($metrics->prefillSeconds, $metrics->firstTokenSeconds);
        self::assertGreaterThanOrEqual($metrics->activeMemory, $metrics->peakMemory);
        self::assertSame($metrics, self::stories()->metrics());
    }

    public function testLeavingTheLoopStops(): void
    {
        $before = self::live();
        foreach (self::stories()->generate('Once', self::endless()) as $index => $chunk) {
            if ($index === 2) {
                break;
            }
        }
        self::assertSame($before, self::live());
        self::assertSame(StopReason::Cancelled, self::stories()->metrics()?->stopReason);
        self::assertGreaterThanOrEqual(3, self::stories()->metrics()->generatedTokens);
    }

    public function testAThrowInTheLoopFrees(): void
    {
        $before = self::live();
        try {
            foreach (self::stories()->generate('Once', self::endless()) as $chunk) {
                throw new \LogicException('the caller\'s');
            }
        } catch (\LogicException) {
        }
        self::assertSame($before, self::live());
    }

    public function testAGeneratorThatNobodyPullsFrees(): void
    {
        $before = self::live();
        $answer = self::stories()->generate('Once', self::endless());
        self::assertNotSame($before, self::live());
        unset($answer);
        self::assertSame($before, self::live());
    }

    public function testManyAnswersAtOnceAreWhatTheyAreAlone(): void
    {
        $prompts = ['Once upon a time', 'The dog', 'A long time ago, in a far land', 'Hi'];
        $options = static fn (int $seed): Options => new Options(maxTokens: 30, temperature: 0.8, seed: $seed);
        $alone = $together = $answers = [];
        for ($i = 0; $i < 16; $i++) {
            $alone[$i] = self::text(self::stories()->generate($prompts[$i % 4], $options($i)));
        }
        for ($i = 0; $i < 16; $i++) {
            $answers[$i] = self::stories()->generate($prompts[$i % 4], $options($i));
            $together[$i] = '';
        }
        while ($answers !== []) {
            foreach ($answers as $i => $answer) {
                if ($answer->valid()) {
                    $together[$i] .= $answer->current();
                    $answer->next();
                } else {
                    unset($answers[$i]);
                }
            }
        }
        self::assertSame($alone, $together);
        self::assertGreaterThan(4, count(array_unique($alone)));
    }

    public function testChatIsItsRenderedPrompt(): void
    {
        $model = self::stories();
        $messages = [new Message('user', 'Tell me about the sea.')];
        $options = new Options(maxTokens: 20);
        $chatted = self::text($model->chat($messages, $options));
        $tokens = $model->tokenize($model->renderChat($messages), special: false);
        self::assertSame($chatted, self::text($model->run(new Request(tokens: $tokens, options: $options))));
        $asArrays = [['role' => 'user', 'content' => 'Tell me about the sea.']];
        self::assertSame($chatted, self::text($model->chat($asArrays, $options)));
        $withMore = [['role' => 'user', 'content' => 'Tell me about the sea.', 'name' => 'Ann']];
        self::assertSame($chatted, self::text($model->chat($withMore, $options)));
        self::assertThrows(ArgumentException::class, 'messages', static fn () => $model->chat([]));
        self::assertThrows(ArgumentException::class, 'messages', static fn () => $model->chat([['role' => "\xff"]]));
    }

    public function testControlCancels(): void
    {
        $control = new Control();
        $seen = 0;
        $loop = static function () use ($control, &$seen): void {
            foreach (self::stories()->generate('Once', new Options(ignoreEnd: true, control: $control)) as $chunk) {
                if (++$seen === 2) {
                    $control->cancel();
                }
            }
        };
        self::assertThrows(CancelledException::class, 'cancel', $loop);
        self::assertGreaterThanOrEqual(2, $seen);
        self::assertSame(StopReason::Cancelled, self::stories()->metrics()?->stopReason);
        self::assertThrows(CancelledException::class, '', $loop); // it stays cancelled
        self::assertThrows(
            CancelledException::class,
            '',
            static fn () => Model::load(self::STORIES, new LoadOptions(control: $control)),
        );
    }

    public function testASignalHandlerCancels(): void
    {
        if (!function_exists('pcntl_async_signals')) {
            self::markTestSkipped('skipped: no pcntl');
        }
        $control = new Control();
        $async = pcntl_async_signals(true);
        pcntl_signal(SIGALRM, static fn () => $control->cancel());
        try {
            pcntl_alarm(1);
            $began = microtime(true);
            self::assertThrows(CancelledException::class, '', static function () use ($control): void {
                $model = Model::load(self::STORIES, new LoadOptions(contextLength: 2048));
                while (true) {
                    self::text($model->generate('Once', new Options(ignoreEnd: true, control: $control)));
                }
            });
            self::assertLessThan(10, microtime(true) - $began);
        } finally {
            pcntl_signal(SIGALRM, SIG_DFL);
            pcntl_async_signals($async);
        }
    }

    public function testTimeout(): void
    {
        $before = self::live();
        $began = microtime(true);
        self::assertThrows(DeadlineException::class, 'deadline', static fn () => self::text(
            self::stories()->generate('Once', new Options(ignoreEnd: true, timeout: 0.02)),
        ));
        self::assertLessThan(5, microtime(true) - $began);
        self::assertSame($before, self::live());
        foreach ([0.0, -1.0, NAN] as $timeout) {
            self::assertThrows(ArgumentException::class, 'timeout', static fn () => self::text(
                self::stories()->generate('Once', new Options(maxTokens: 1, timeout: $timeout)),
            ));
        }
        self::assertNotSame('', self::text(self::stories()->generate('Once', new Options(maxTokens: 1, timeout: INF))));
    }

    public function testCloseWhileInTheLoop(): void
    {
        $want = self::story('The king', 40);
        $before = self::live();
        $model = Model::load(self::STORIES);
        $text = '';
        foreach ($model->generate('The king', new Options(maxTokens: 40)) as $chunk) {
            $text .= $chunk;
            $model->close();
        }
        self::assertSame($want, $text);
        self::assertSame($before, self::live());
        $model->close();
        self::assertThrows(StateException::class, 'closed', static fn () => $model->generate('The king'));
        self::assertThrows(StateException::class, 'closed', static fn () => $model->tokenize('a'));
        self::assertThrows(StateException::class, 'closed', static fn () => $model->info());
        self::assertThrows(StateException::class, 'closed', static fn () => clone $model);
    }

    public function testAnyOrderOfLettingGo(): void
    {
        $before = self::live();
        foreach ([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] as $order) {
            $model = Model::load(self::DOMAINS);
            $things = [$model, clone $model, $model->generate('Sentence:', self::endless()), new Control()];
            unset($model);
            foreach ($things[2] as $chunk) {
                break;
            }
            foreach ($order as $i) {
                $things[$i] = null;
            }
            self::assertSame($before, self::live());
        }
        self::assertNotSame('', self::text(Model::load(self::DOMAINS)->generate('Sentence:', new Options(maxTokens: 3))));
        self::assertSame($before, self::live());
    }

    public function testBusy(): void
    {
        $model = Model::load(self::STORIES, new LoadOptions(maxSequences: 1, maxQueue: 1));
        $answers = [];
        self::assertThrows(BusyException::class, '', static function () use ($model, &$answers): void {
            for ($i = 0; $i < 8; $i++) {
                $answers[] = $model->generate('Once', self::endless());
            }
        });
        self::assertContains(count($answers), [1, 2]); // one is computed, one waits
        $answers = null;
        for ($end = microtime(true) + 10, $text = ''; $text === '' && microtime(true) < $end;) {
            try {
                $text = self::text($model->generate('Once', new Options(maxTokens: 2)));
            } catch (BusyException) {
                usleep(1000); // the ones let go of leave the queue at the next step
            }
        }
        self::assertNotSame('', $text);
    }

    public function testBatch(): void
    {
        $prompts = ['Once upon a time', 'The cat', 'One day', '', 'The sea', 'Tom'];
        $requests = $alone = $texts = [];
        for ($i = 0; $i < 60; $i++) {
            $options = new Options(maxTokens: 3 + $i % 7);
            $requests[$i] = new Request(prompt: $prompts[$i % 6], options: $options);
            $alone[$i] = $i % 6 === 3 ? null : self::text(self::stories()->run($requests[$i]));
            $texts[$i] = $alone[$i] === null ? null : '';
        }
        try {
            foreach (self::stories()->generateBatch($requests) as $index => $chunk) {
                $texts[$index] .= $chunk;
            }
            self::fail('an empty prompt was no failure');
        } catch (BatchException $e) {
            self::assertSame(range(3, 59, 6), array_keys($e->failures));
            self::assertContainsOnlyInstancesOf(ArgumentException::class, $e->failures);
            self::assertStringContainsString('request 3: ', $e->getMessage());
        }
        self::assertSame($alone, $texts);

        $answers = self::stories()->generateBatch(['a' => 'The dog', 'b' => 'The cat'], new Options(maxTokens: 4));
        $keys = [];
        foreach ($answers as $key => $chunk) {
            $keys[$key] = ($keys[$key] ?? 0) + count($chunk->tokens);
        }
        ksort($keys);
        self::assertSame(['a' => 4, 'b' => 4], $keys);
        self::assertSame(4, $answers->getReturn()['b']->generatedTokens);
        self::assertSame([], iterator_to_array(self::stories()->generateBatch([])));
    }

    public function testBatchLeftEarly(): void
    {
        $before = self::live();
        foreach (self::stories()->generateBatch(array_fill(0, 100, 'Once'), self::endless()) as $chunk) {
            break;
        }
        unset($chunk);
        self::assertSame($before, self::live());
    }

    public function testLogprobs(): void
    {
        $seen = 0;
        $options = new Options(maxTokens: 6, logprobs: 3);
        foreach (self::stories()->generate('Once upon a', $options) as $chunk) {
            self::assertCount(count($chunk->tokens), $chunk->logprobs ?? []);
            foreach ($chunk->tokens as $i => $token) {
                $seen++;
                $top = $chunk->top[$i] ?? [];
                self::assertCount(3, $top);
                self::assertSame([$token, $chunk->logprobs[$i]], [$top[0]->token, $top[0]->logprob]);
                self::assertGreaterThanOrEqual($top[1]->logprob, $top[0]->logprob);
                self::assertLessThanOrEqual(0, $top[0]->logprob);
            }
        }
        self::assertSame(6, $seen);
    }

    public function testAFullContextRolls(): void
    {
        $model = Model::load(self::STORIES, new LoadOptions(contextLength: 64));
        $rolling = new Options(maxTokens: 150, ignoreEnd: true, whenFull: WhenFull::Roll, keepTokens: 8);
        self::text($model->generate('Once upon a time', $rolling));
        self::assertSame([StopReason::MaxTokens, 150], [
            $model->metrics()?->stopReason, $model->metrics()?->generatedTokens,
        ]);
        self::assertGreaterThan(0, $model->metrics()->rolledTokens);
        self::text($model->generate('Once upon a time', new Options(maxTokens: 150, ignoreEnd: true)));
        self::assertSame(StopReason::ContextFull, $model->metrics()->stopReason);
    }

    public function testProgress(): void
    {
        $control = new Control();
        self::assertSame([0, 0], array_values((array) $control->progress()));
        self::text(self::stories()->generate('Once upon a time', new Options(maxTokens: 2, control: $control)));
        self::assertSame([5, 5], array_values((array) $control->progress()));
    }

    public function testSeedsRepeat(): void
    {
        $sample = static fn (int $seed): string => self::text(
            self::stories()->generate('One day', new Options(maxTokens: 20, temperature: 1.0, topP: 0.95, seed: $seed)),
        );
        self::assertSame($sample(7), $sample(7));
        self::assertNotSame($sample(7), $sample(8));
        self::assertNotSame('', $sample(-1)); // PHP's integers are signed, seeds are not
    }

    /** @return iterable<string, array{string, Options}> */
    public static function badOptions(): iterable
    {
        yield 'max tokens' => ['max_tokens -1', new Options(maxTokens: -1)];
        yield 'too many tokens' => ['max_tokens', new Options(maxTokens: 1 << 32)];
        yield 'no tokens' => ['max_tokens', new Options(maxTokens: 0)];
        yield 'top k' => ['top_k', new Options(topK: PHP_INT_MIN)];
        yield 'temperature' => ['temperature', new Options(temperature: NAN)];
        yield 'top p' => ['top_p', new Options(topP: 2.0)];
        yield 'min p' => ['min_p', new Options(minP: -1.0)];
        yield 'typical p' => ['typical', new Options(typicalP: 7.0)];
        yield 'repetition' => ['repetition', new Options(repetitionPenalty: -1.0)];
        yield 'presence' => ['presence', new Options(presencePenalty: INF)];
        yield 'frequency' => ['frequency', new Options(frequencyPenalty: NAN)];
        yield 'window' => ['penalty_window', new Options(penaltyWindow: -5)];
        yield 'stop' => ['stop', new Options(stop: ["\xff"])];
        yield 'stop of no text' => ['stop: int', new Options(stop: [7])];
        yield 'stop token' => ['stop_tokens', new Options(stopTokens: [1 << 31])];
        yield 'stop token below zero' => ['stop_tokens: -1', new Options(stopTokens: [-1])];
        yield 'stop token of no number' => ['stop_tokens: string', new Options(stopTokens: ['x'])];
        yield 'bias' => ['bias', new Options(logitBias: [1 << 31 => 1.0])];
        yield 'bias below zero' => ['bias', new Options(logitBias: [-1 => 1.0])];
        yield 'template' => ['template', new Options(templateVariables: '[')];
        yield 'template of no text' => ['template', new Options(templateVariables: ['x' => "\xff"])];
    }

    /** @dataProvider badOptions */
    public function testBadOptions(string $part, Options $options): void
    {
        $messages = [new Message('user', 'Hi')];
        self::assertThrows(ArgumentException::class, $part, static fn () => self::stories()->chat($messages, $options));
    }
}
