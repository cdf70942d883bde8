<?php

declare(strict_types=1);

namespace Gomlx\Tests;

/**
 * Every PHP snippet of docs/php.md runs, in a PHP of its own and in the folder of the repository, and says what the
 * ```text block behind it, if there is one, holds. A snippet without `<?php` goes on from the page's first one, whose
 * $model it uses.
 */
final class DocsTest extends TestCase
{
    private const PAGE = self::ROOT . '/docs/php.md';

    /** @return iterable<string, array{string, ?string}> */
    public static function snippets(): iterable
    {
        $page = (string) file_get_contents(self::PAGE);
        preg_match_all('/^## ([^\n]*)|^```php\n(.*?)^```\n(?:\n?```text\n(.*?)^```\n)?/ms', $page, $found, PREG_SET_ORDER);
        $first = null;
        $heading = '';
        foreach ($found as $number => $match) {
            if ($match[1] !== '') {
                $heading = $match[1];
                continue;
            }
            $code = $match[2];
            if ($first === null) {
                // What the others need of it: everything before its first loop.
                $first = (string) preg_replace('/^foreach.*/ms', '', $code);
            }
            $script = str_starts_with($code, '<?php') ? $code : $first . $code;
            yield "$heading, $number" => [$script, $match[3] ?? null];
        }
    }

    /** @dataProvider snippets */
    public function testSnippet(string $script, ?string $output): void
    {
        $package = self::ROOT . '/bindings/php/autoload.php';
        $script = str_replace("'vendor/autoload.php'", var_export($package, true), $script);
        [$status, $said] = self::php($script);
        self::assertSame(0, $status, $said);
        if ($output !== null) {
            self::assertSame(rtrim($output), rtrim($said));
        }
    }

    public function testThereAreSnippets(): void
    {
        self::assertGreaterThanOrEqual(10, iterator_count((static fn () => yield from self::snippets())()));
    }
}
