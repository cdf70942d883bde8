<?php

declare(strict_types=1);

namespace Gomlx\Tests;

use Gomlx\Internal\Library;

/** How libgomlx is found, refused and preloaded; each in a PHP of its own. */
final class LibraryTest extends TestCase
{
    private const STORY = <<<'PHP'
        <?php
        require 'bindings/php/autoload.php';
        $model = Gomlx\Model::load('models/llama-tales-16m-4bit');
        foreach ($model->generate('Once upon a time', new Gomlx\Options(maxTokens: 4)) as $chunk) {
            echo $chunk;
        }
        PHP;

    private const SAYS_WHY = <<<'PHP'
        <?php
        require $_SERVER['PACKAGE'] . '/autoload.php';
        try {
            Gomlx\Model::load('models/llama-tales-16m-4bit');
        } catch (Gomlx\Exception\LibraryException $e) {
            echo $e->getMessage();
        }
        PHP;

    private string $scratch;

    protected function setUp(): void
    {
        $this->scratch = sys_get_temp_dir() . '/gomlx-php-' . getmypid();
        mkdir($this->scratch);
    }

    protected function tearDown(): void
    {
        self::execute(['rm', '-rf', $this->scratch], getenv());
    }

    public function testEnumsAreTheHeaders(): void
    {
        $ffi = Library::ffi();
        $prefixes = [
            'Backend' => 'BACKEND', 'KvType' => 'KV', 'Weights' => 'WEIGHTS', 'Precision' => 'PRECISION',
            'Pooling' => 'POOLING', 'StopReason' => 'STOP', 'Status' => 'ERR', 'Sharing' => 'SHARING', 'WhenFull' => 'FULL',
        ];
        $header = (string) file_get_contents(self::ROOT . '/bindings/php/gomlx.ffi.h');
        foreach ($prefixes as $enum => $prefix) {
            preg_match_all("/\\b(GOMLX_{$prefix}_[A-Z0-9_]+) = (-?\\d+),/", $header, $found, PREG_SET_ORDER);
            $theirs = [];
            foreach ($found as [, $name, $value]) {
                $theirs[strtr(ucwords(strtolower(substr($name, strlen("GOMLX_{$prefix}_"))), '_'), ['_' => ''])] = (int) $value;
                self::assertSame((int) $value, $ffi->$name);
            }
            self::assertNotSame([], $theirs);
            self::assertSame($theirs, array_column("Gomlx\\$enum"::cases(), 'value', 'name'));
        }
    }

    public function testEveryFunctionIsCalled(): void
    {
        $header = (string) file_get_contents(self::ROOT . '/bindings/php/gomlx.ffi.h');
        preg_match_all('/\b(gomlx_\w+)\(/', $header, $found);
        $sources = '';
        foreach (new \RecursiveIteratorIterator(new \RecursiveDirectoryIterator(self::ROOT . '/bindings/php/src')) as $file) {
            $sources .= $file->isFile() ? file_get_contents($file->getPathname()) : '';
        }
        // Callbacks are not for PHP, and its objects count their own owners. The *_init functions are called by their
        // struct's name.
        $without = ['gomlx_generate', 'gomlx_generate_batch', 'gomlx_control_clone'];
        $missing = array_filter(
            array_diff(array_unique($found[1]), $without),
            static fn (string $name): bool => !str_contains($sources, $name)
                && !str_contains($sources, "'" . substr($name, 0, -5) . "'"),
        );
        self::assertGreaterThan(30, count($found[1]) - count($missing));
        if ($missing !== []) {
            self::markTestSkipped('skipped: not reached from PHP: ' . implode(', ', $missing));
        }
    }

    public function testAMissingLibraryIsNamedWithWhereItWasLookedFor(): void
    {
        // A copy of the package, with no library anywhere near.
        self::execute(['cp', '-r', self::ROOT . '/bindings/php', $this->scratch . '/package'], getenv());
        $package = $this->scratch . '/package';
        [, $said] = self::php(self::SAYS_WHY, [], ['PACKAGE' => $package, 'GOMLX_LIBRARY' => '']);
        self::assertStringContainsString('was not found', $said);
        self::assertStringContainsString("$package/lib/libgomlx.so.", $said);
        self::assertStringNotContainsString("\n", $said);

        $package = self::ROOT . '/bindings/php';
        [, $said] = self::php(self::SAYS_WHY, [], ['PACKAGE' => $package, 'GOMLX_LIBRARY' => '/nowhere/lib.so']);
        self::assertSame('GOMLX_LIBRARY is /nowhere/lib.so, which is not there', $said);
        [, $said] = self::php(self::SAYS_WHY, [], ['PACKAGE' => $package, 'GOMLX_LIBRARY' => '/etc/passwd']);
        self::assertSame("GOMLX_LIBRARY is /etc/passwd, which can't be loaded", $said);
        [, $said] = self::php(self::SAYS_WHY, ['-d', 'ffi.enable=0'], ['PACKAGE' => $package]);
        self::assertStringContainsString('ffi.enable', $said);
        [, $said] = self::php(self::SAYS_WHY, ['-n'], ['PACKAGE' => $package]);
        self::assertStringContainsString('PHP has no FFI', $said);
    }

    /** @return iterable<string, array{string, string}> */
    public static function layouts(): iterable
    {
        yield 'beside the package' => ['vendor/gomlx', 'vendor/gomlx/lib'];
        yield 'an unpacked archive' => ['bindings/php', 'lib'];
        yield 'an installed prefix' => ['share/gomlx/php', 'lib'];
        yield 'a checkout' => ['bindings/php', 'target/release'];
    }

    /** @dataProvider layouts */
    public function testTheLibraryIsFoundByThePackagesPlace(string $package, string $lib): void
    {
        $package = "$this->scratch/$package";
        mkdir(dirname($package), recursive: true);
        self::execute(['cp', '-r', self::ROOT . '/bindings/php', $package], getenv());
        mkdir("$this->scratch/$lib", recursive: true);
        symlink((string) realpath(Library::find()), "$this->scratch/$lib/" . basename(self::soname()));
        $script = str_replace('bindings/php/autoload.php', "$package/autoload.php", self::STORY);
        [, $said] = self::php($script, [], ['GOMLX_LIBRARY' => '']);
        self::assertSame(', there was a', $said);
    }

    public function testAnotherAbiIsRefused(): void
    {
        $library = "$this->scratch/another_abi.so";
        $source = self::ROOT . '/tests/go/another_abi.c';
        [$status, $said] = self::execute(['cc', '-shared', '-fPIC', '-o', $library, $source], getenv());
        self::assertSame(0, $status, $said);
        $package = self::ROOT . '/bindings/php';
        [, $said] = self::php(self::SAYS_WHY, [], ['PACKAGE' => $package, 'GOMLX_LIBRARY' => $library]);
        self::assertMatchesRegularExpression('/^\S+another_abi.so has ABI 99, this package needs ABI \d+$/', $said);
    }

    public function testPreloadedByTheIniSetting(): void
    {
        $header = "$this->scratch/gomlx.h";
        file_put_contents($header, Library::headerFor((string) realpath(Library::find())));
        // The library that cdef would need is not there: this runs on the preloaded scope or not at all.
        [, $said] = self::php(self::STORY, ['-d', "ffi.preload=$header"], ['GOMLX_LIBRARY' => '/nowhere']);
        self::assertSame(', there was a', $said);
    }

    public function testPreloadedUnderAWebServersRules(): void
    {
        // Of all SAPIs only cli may use FFI without a preload while ffi.enable is `preload`, so this needs another one.
        $cgi = trim((string) shell_exec('command -v php-cgi'));
        if ($cgi === '') {
            self::markTestSkipped('skipped: php-cgi is not installed');
        }
        $script = "$this->scratch/story.php";
        file_put_contents($script, str_replace("require 'bindings/php/autoload.php';", '', self::STORY));
        $run = static fn (string ...$ini): array => self::execute(
            [$cgi, '-q', '-C', '-d', 'ffi.enable=preload', '-d', 'opcache.enable=1', '-d', 'html_errors=0', ...$ini, $script],
            ['GOMLX_LIBRARY' => (string) realpath(Library::find())] + getenv(),
        );
        $user = posix_getpwuid(posix_geteuid())['name'] ?? 'root';
        $preload = realpath(self::ROOT . '/bindings/php/preload.php');
        [, $said] = $run('-d', "opcache.preload=$preload", '-d', "opcache.preload_user=$user");
        self::assertSame(', there was a', $said);

        file_put_contents($script, str_replace('bindings/php', self::ROOT . '/bindings/php', self::STORY));
        [, $said] = $run();
        self::assertStringContainsString('ffi.enable is "preload" and this package is not preloaded', $said);
    }

    private static function soname(): string
    {
        preg_match('/FFI_LIB "(.*)"/', (string) file_get_contents(self::ROOT . '/bindings/php/gomlx.ffi.h'), $found);
        return $found[1];
    }
}
