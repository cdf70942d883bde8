<?php

declare(strict_types=1);

namespace Gomlx\Tests;

use Gomlx\Exception\ArgumentException;
use Gomlx\Exception\CancelledException;
use Gomlx\Exception\DeadlineException;
use Gomlx\Exception\FormatException;
use Gomlx\Exception\ForkedException;
use Gomlx\Exception\IoException;
use Gomlx\Exception\MemoryException;
use Gomlx\Control;
use Gomlx\LoadOptions;
use Gomlx\Message;
use Gomlx\Model;
use Gomlx\Options;
use Gomlx\Pooling;
use Gomlx\Request;
use Gomlx\Runtime;
use Gomlx\Sharing;

final class ModelTest extends TestCase
{
    private const PATTERN = "Sentence: {text}\nDomain:";
    private const TEXTS = ['what is my balance at the bank', 'book a flight to paris', 'how long do i cook rice'];
    private const LABELS = [' banking', ' travel', ' kitchen and dining', ' work'];

    public function testInfo(): void
    {
        $config = json_decode((string) file_get_contents(self::STORIES . '/config.json'), true);
        $info = Model::load(self::STORIES, new LoadOptions(contextLength: 512, threads: 1))->info();
        self::assertSame(
            [
                $config['model_type'], $config['num_hidden_layers'], $config['hidden_size'], $config['vocab_size'],
                $config['max_position_embeddings'], $config['architectures'][0],
            ],
            [$info->family, $info->layers, $info->hidden, $info->vocabulary, $info->context, $info->architecture],
        );
        self::assertSame([512, 1, 4, 64], [
            $info->contextLength, $info->threads, $info->quantisationBits, $info->quantisationGroup,
        ]);
        self::assertSame(['affine', true, null, 'llama-tales-16m-4bit'], [
            $info->quantisationMode, $info->hasChatTemplate, $info->error, $info->name,
        ]);
        self::assertNotSame('', $info->device);
        self::assertGreaterThan(15e6, $info->parameters);
        self::assertGreaterThan(0, $info->bytesOnDisk);
    }

    public function testLoadOptionsOutOfRange(): void
    {
        self::assertThrows(ArgumentException::class, 'threads -1', static fn () => Model::load(
            self::STORIES,
            new LoadOptions(threads: -1),
        ));
        self::assertThrows(ArgumentException::class, 'kvBudget', static fn () => Model::load(
            self::STORIES,
            new LoadOptions(kvBudget: -1),
        ));
        self::assertThrows(ArgumentException::class, 'path is empty', static fn () => Model::load(''));
        self::assertThrows(IoException::class, 'NUL', static fn () => Model::load("a\0b"));
    }

    public function testTokenizeRoundTrip(): void
    {
        $model = self::stories();
        $texts = ['', 'a', 'Once upon a time', 'Grüße, 世界 🌍', str_repeat('the cat ', 3000), "a\0b", str_repeat('!?', 999)];
        foreach ($texts as $text) {
            $tokens = $model->tokenize($text, special: false);
            self::assertSame($text, $model->detokenize($tokens, skipSpecial: false));
            $special = $model->tokenize($text);
            self::assertGreaterThan(count($tokens), count($special));
            self::assertSame($text, $model->detokenize($special));
        }
        self::assertThrows(ArgumentException::class, 'UTF-8', static fn () => $model->tokenize("\xff"));
        self::assertThrows(ArgumentException::class, '1073741824', static fn () => $model->detokenize([1 << 30]));
        self::assertThrows(ArgumentException::class, '-1', static fn () => $model->detokenize([-1]));
    }

    public function testATextMayHoldNul(): void
    {
        $text = "a\0b\0";
        $asked = new Request(prompt: $text, options: new Options(maxTokens: 1, echo: true));
        self::assertStringStartsWith($text, self::text(self::stories()->run($asked)));
    }

    public function testRenderChat(): void
    {
        $model = self::stories();
        foreach (['Hello', str_repeat('long ', 1000)] as $content) {
            $messages = [new Message('user', $content)];
            $text = $model->renderChat($messages);
            $json = json_encode([['role' => 'user', 'content' => $content]], JSON_THROW_ON_ERROR);
            self::assertSame($text, $model->render(new Request(messagesJson: $json)));
            self::assertStringContainsString(trim($content), $text);
        }
        $open = [new Message('user', 'Hello'), new Message('assistant', 'Well')];
        self::assertStringEndsWith('Well', $model->renderChat($open, new Options(continueFinal: true)));
        $variables = new Options(templateVariables: ['tools' => []]);
        self::assertSame($model->renderChat($open), $model->renderChat($open, $variables));
    }

    public function testClassifyAgreesWithScoreAndGenerate(): void
    {
        $model = self::domains();
        $results = $model->classify(self::TEXTS, self::LABELS, self::PATTERN, logits: true);
        foreach ($results as $i => $r) {
            self::assertSame([self::LABELS[$i], $i], [$r->label, $r->index]);
            self::assertGreaterThan(0.5, $r->probability);
            self::assertSame([$r->probabilities[$i], $r->logprobs[$i]], [$r->probability, $r->logprob]);
            self::assertEqualsWithDelta(1, array_sum($r->probabilities), 1e-5);
            self::assertCount($model->info()->vocabulary, $r->logits ?? []);
            $prompt = "Sentence: " . self::TEXTS[$i] . "\nDomain:";
            $best = array_search(max($r->logits), $r->logits, true);
            foreach ($model->generate($prompt, new Options(maxTokens: 1)) as $chunk) {
                self::assertSame([$best], $chunk->tokens);
            }
            $scores = $model->score($prompt, self::LABELS);
            self::assertSame($r->logprobs, array_column($scores, 'logprob'));
            self::assertGreaterThan(0, $scores[2]->tokens);
            self::assertSame(count($model->tokenize($prompt)), $r->promptTokens);
        }
        $best = $model->classify(self::TEXTS, self::LABELS, self::PATTERN, bestOnly: true);
        self::assertSame(array_column($results, 'label'), array_column($best, 'label'));
        self::assertNull($best[0]->logits);
        $messages = [['role' => 'user', 'content' => 'Continue: {text}']];
        $chatted = self::stories()->classify(['The sky'], [' is', ' cat'], messages: $messages);
        self::assertSame(
            array_column(self::stories()->score(
                new Request(messages: [new Message('user', 'Continue: The sky')]),
                [' is', ' cat'],
            ), 'logprob'),
            $chatted[0]->logprobs,
        );
    }

    public function testClassifyBadInput(): void
    {
        $model = self::domains();
        $bad = [
            [self::TEXTS, self::LABELS, 'no slot'], [self::TEXTS, self::LABELS, ''], [self::TEXTS, [], self::PATTERN],
            [self::TEXTS, [' a', ''], self::PATTERN], [["\xff"], self::LABELS, self::PATTERN],
            [[7], self::LABELS, self::PATTERN],
        ];
        foreach ($bad as $arguments) {
            self::assertThrows(ArgumentException::class, '', static fn () => $model->classify(...$arguments));
        }
        $control = new Control();
        $control->cancel();
        self::assertThrows(CancelledException::class, '', static fn () =>
            $model->classify(self::TEXTS, self::LABELS, self::PATTERN, control: $control));
    }

    public function testClassifyStopsAtItsTimeout(): void
    {
        $texts = [];
        for ($i = 0; $i < 20000; $i++) {
            $texts[] = self::TEXTS[$i % 3] . " $i"; // nothing to share: many seconds of work
        }
        $began = microtime(true);
        self::assertThrows(DeadlineException::class, '', static fn () =>
            self::domains()->classify($texts, self::LABELS, self::PATTERN, timeout: 0.1));
        self::assertLessThan(8, microtime(true) - $began);
    }

    public function testEmbed(): void
    {
        $model = self::stories();
        $texts = ['The dog ran in the garden.', 'A dog was running in the garden.', 'The price of gold fell.'];
        $dot = static fn (array $a, array $b): float => array_sum(array_map(static fn ($x, $y) => $x * $y, $a, $b));
        foreach (Pooling::cases() as $pooling) {
            $vectors = $model->embed($texts, $pooling);
            foreach ($vectors as $i => $vector) {
                self::assertCount($model->info()->hidden, $vector);
                self::assertEqualsWithDelta(1, $dot($vector, $vector), 1e-4);
                self::assertSame([$vector], $model->embed([$texts[$i]], $pooling));
            }
            self::assertGreaterThan($dot($vectors[0], $vectors[2]), $dot($vectors[0], $vectors[1]));
        }
    }

    public function testDiscover(): void
    {
        $found = array_column(Runtime::discover(self::ROOT . '/models'), null, 'name');
        foreach ([self::STORIES, self::DOMAINS] as $path) {
            $info = $found[basename($path)];
            self::assertNull($info->error);
            self::assertSame(0, $info->contextLength);
            Model::load($info->path)->close();
        }
        $folder = sys_get_temp_dir() . '/gomlx-broken-' . getmypid();
        mkdir($folder);
        file_put_contents("$folder/config.json", '{');
        file_put_contents("$folder/model.safetensors", '');
        try {
            $broken = Runtime::discover($folder);
            self::assertCount(1, $broken);
            self::assertInstanceOf(FormatException::class, $broken[0]->error);
            self::assertStringContainsString('config.json', $broken[0]->error->getMessage());
        } finally {
            array_map(unlink(...), glob("$folder/*") ?: []);
            rmdir($folder);
        }
        self::assertThrows(IoException::class, 'nowhere', static fn () => Runtime::discover('/nowhere'));
    }

    public function testRuntimeAndMemory(): void
    {
        $info = Runtime::info();
        self::assertGreaterThan(0, $info->threads);
        self::assertGreaterThan(0, $info->memory);
        self::assertContains('cpu', $info->backends);
        self::assertMatchesRegularExpression('/^\d+\.\d+\.\d+/', Runtime::version());
        self::stories();
        $memory = Runtime::memory();
        self::assertGreaterThan(0, $memory->active);
        self::assertGreaterThanOrEqual($memory->active, $memory->peak);
        self::assertGreaterThanOrEqual($memory->mapped, $memory->active);
        self::assertNull($memory->limit);
        try {
            Runtime::setMemoryLimit($memory->active);
            self::assertSame($memory->active, Runtime::memory()->limit);
            self::assertThrows(MemoryException::class, '', static fn () => Model::load(
                self::STORIES,
                new LoadOptions(weights: \Gomlx\Weights::Read),
            ));
        } finally {
            Runtime::setMemoryLimit(null);
        }
        Runtime::setCacheLimit(0);
        Runtime::clearCache();
        for ($end = microtime(true) + 5; Runtime::memory()->cached > 0 && microtime(true) < $end;) {
            usleep(1000); // models give theirs back between two steps
        }
        self::assertSame(0, Runtime::memory()->cached);
        Runtime::setCacheLimit($memory->cacheLimit);
        Runtime::resetPeak();
        self::assertNull(Runtime::memory()->limit);
        self::assertThrows(ArgumentException::class, '-1', static fn () => Runtime::setMemoryLimit(-1));
    }

    public function testPrefixesAreSavedAndRestored(): void
    {
        $file = (string) tempnam(sys_get_temp_dir(), 'gomlx');
        try {
            $prompt = str_repeat('Once upon a time there was a boy. ', 12);
            $first = Model::load(self::STORIES);
            $text = self::text($first->generate($prompt, new Options(maxTokens: 5)));
            self::assertGreaterThan(0, $first->savePrefixes($file));
            $first->close();
            $second = Model::load(self::STORIES);
            self::assertGreaterThan(0, $second->restorePrefixes($file));
            self::assertSame($text, self::text($second->generate($prompt, new Options(maxTokens: 5))));
            self::assertGreaterThan(0, $second->metrics()?->cachedTokens);
            file_put_contents($file, 'nonsense');
            self::assertThrows(FormatException::class, '', static fn () => $second->restorePrefixes($file));
        } finally {
            unlink($file);
        }
    }

    public function testIdleModelsAreUnloadedAndComeBack(): void
    {
        $model = Model::load(self::STORIES);
        $text = self::text($model->generate('One day', new Options(maxTokens: 5)));
        $before = Runtime::info()->liveWorkers;
        try {
            Runtime::setIdleLimit(0);
            for ($end = microtime(true) + 10; Runtime::info()->liveWorkers > 0 && microtime(true) < $end;) {
                usleep(1000);
            }
            self::assertLessThan($before, Runtime::info()->liveWorkers);
            self::assertSame(0, Runtime::memory()->idleLimit);
            self::assertSame($text, self::text($model->generate('One day', new Options(maxTokens: 5))));
        } finally {
            Runtime::setIdleLimit(null);
        }
    }

    public function testOneModelIsShared(): void
    {
        $before = [Runtime::info()->liveWorkers, Runtime::memory()->mapped];
        $shared = new LoadOptions(sharing: Sharing::Process, contextLength: 777);
        $first = Model::load(self::STORIES, $shared);
        $held = Runtime::memory()->mapped;
        $second = Model::load(self::STORIES . '/../llama-tales-16m-4bit', $shared);
        self::assertSame([$before[0] + 1, $held], [Runtime::info()->liveWorkers, Runtime::memory()->mapped]);
        $other = Model::load(self::STORIES, new LoadOptions(sharing: Sharing::Process, contextLength: 778));
        $own = Model::load(self::STORIES, new LoadOptions(contextLength: 777));
        self::assertSame($before[0] + 3, Runtime::info()->liveWorkers);
        $first->close();
        self::assertNotSame('', self::text($second->generate('One day', new Options(maxTokens: 2))));
        unset($second, $other, $own);
        self::assertSame($before, [Runtime::info()->liveWorkers, Runtime::memory()->mapped]);
    }

    public function testAKeptModelStays(): void
    {
        [, $said] = self::php(<<<'PHP'
            <?php
            require 'bindings/php/autoload.php';
            $kept = new Gomlx\LoadOptions(sharing: Gomlx\Sharing::Kept);
            foreach ([1, 2, 3] as $request) {
                $model = Gomlx\Model::load('models/llama-tales-16m-4bit', $kept);
                $model->close();
                $info = Gomlx\Runtime::info();
                echo "$info->liveModels handles, $info->liveWorkers model\n";
            }
            PHP);
        self::assertSame(str_repeat("0 handles, 1 model\n", 3), $said);
    }

    public function testAForkedChildIsTold(): void
    {
        if (!function_exists('pcntl_fork')) {
            self::markTestSkipped('skipped: no pcntl');
        }
        [$status, $said] = self::php(<<<'PHP'
            <?php
            require 'bindings/php/autoload.php';
            $model = Gomlx\Model::load('models/llama-tales-16m-4bit');
            $child = pcntl_fork();
            if ($child === 0) {
                try {
                    $model->generate('Once');
                } catch (Gomlx\Exception\ForkedException $e) {
                    echo $e->getMessage(), "\n";
                }
                $mine = Gomlx\Model::load('models/llama-tales-16m-4bit');
                echo implode(iterator_to_array($mine->generate('Once upon a time', new Gomlx\Options(maxTokens: 3)), false));
                exit(0);
            }
            pcntl_waitpid($child, $status);
            exit($status);
            PHP);
        self::assertSame(0, $status, $said);
        self::assertStringContainsString("load the model in the child\n, there was", $said);
    }

    public function testAFatalErrorGivesEverythingBack(): void
    {
        // Shutdown functions run in the order of their registration: the last one sees what is left.
        [$status, $said] = self::php(<<<'PHP'
            <?php
            require 'bindings/php/autoload.php';
            ini_set('display_errors', '0');
            $model = Gomlx\Model::load('models/llama-tales-16m-4bit');
            $answer = $model->generate('Once', new Gomlx\Options(ignoreEnd: true));
            register_shutdown_function(static function (): void {
                $info = Gomlx\Runtime::info();
                echo "left: $info->liveModels models, $info->liveGenerations generations\n";
            });
            foreach ($answer as $chunk) {
                trigger_error('the end', E_USER_ERROR);
            }
            PHP);
        self::assertSame(255, $status);
        self::assertStringContainsString("left: 0 models, 0 generations\n", $said);
    }
}
