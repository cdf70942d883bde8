<?php

declare(strict_types=1);

namespace Gomlx\Internal;

use FFI;
use FFI\CData;
use Gomlx\Exception\LibraryException;
use Gomlx\Status;

/**
 * libgomlx as PHP's FFI sees it, opened once a thread.
 *
 * It is looked for at GOMLX_LIBRARY (a full path, and then nowhere else), beside this package, in the target/release of
 * a checkout, and where the system's loader looks.
 *
 * @internal
 */
final class Library
{
    private const HEADER = __DIR__ . '/../../gomlx.ffi.h';

    private static ?FFI $ffi = null;

    /** The record that every call writes its failure into; it is read at once, so one a thread is enough. */
    private static ?CData $record = null;

    /** What the record points to. */
    private static ?CData $space = null;

    public static function ffi(): FFI
    {
        return self::$ffi ?? self::open();
    }

    /** Where calls write why they failed. */
    public static function error(): CData
    {
        if (self::$record === null) {
            self::ffi();
        }
        assert(self::$record !== null);
        return self::$record;
    }

    /** Throws what a failing call said; other statuses come back. */
    public static function check(int $status): int
    {
        if ($status < 0) {
            throw (Status::tryFrom($status) ?? Status::Internal)->exception(FFI::string(self::error()[0]->message));
        }
        return $status;
    }

    /** A handle that a call returned, or the failure that it had when that is null. */
    public static function handle(?CData $pointer): CData
    {
        if ($pointer === null) {
            $last = self::ffi()->gomlx_last_error();
            throw (Status::tryFrom($last->code) ?? Status::Internal)->exception(FFI::string($last->message));
        }
        return $pointer;
    }

    /** A struct whose first field is its size. */
    public static function sized(string $type): CData
    {
        $struct = self::ffi()->new($type);
        assert($struct !== null);
        $struct->struct_size = FFI::sizeof($struct);
        return $struct;
    }

    /**
     * The header's text with the library at $path as its FFI_LIB, for FFI::load().
     */
    public static function headerFor(string $path): string
    {
        return (string) preg_replace('/^#define FFI_LIB .*$/m', '#define FFI_LIB "' . $path . '"', self::header());
    }

    /** The library's file, or its bare name where only the system's loader may know it. */
    public static function find(): string
    {
        $forced = getenv('GOMLX_LIBRARY');
        if (is_string($forced) && $forced !== '') {
            return $forced;
        }
        foreach (self::places() as $file) {
            if (is_file($file)) {
                return $file;
            }
        }
        return self::name();
    }

    private static function open(): FFI
    {
        if (!extension_loaded('ffi')) {
            throw new LibraryException('PHP has no FFI: install or enable its extension ffi');
        }
        try {
            // A header that the ini setting ffi.preload or preload.php loaded: parsed once a process.
            $ffi = FFI::scope('gomlx');
            self::checkAbi($ffi, 'the preloaded libgomlx');
        } catch (FFI\Exception) {
            $ffi = self::load(self::find());
        }
        self::$space = $ffi->new('gomlx_error');
        self::$record = FFI::addr(self::$space);
        return self::$ffi = $ffi;
    }

    private static function load(string $path): FFI
    {
        try {
            // The number first: with another ABI some functions may not be there.
            self::checkAbi(FFI::cdef('uint32_t gomlx_abi_version(void);', $path), $path);
            return FFI::cdef(self::header(), $path);
        } catch (FFI\Exception $e) {
            throw new LibraryException(self::explain($path, $e->getMessage()));
        }
    }

    private static function checkAbi(FFI $ffi, string $path): void
    {
        $has = $ffi->gomlx_abi_version();
        if ($has !== self::abi()) {
            throw new LibraryException(sprintf('%s has ABI %d, this package needs ABI %d', $path, $has, self::abi()));
        }
    }

    private static function explain(string $path, string $said): string
    {
        if (str_contains($said, 'ffi.enable')) {
            return 'ffi.enable is "preload" and this package is not preloaded: set ffi.enable=true, or opcache.preload='
                . dirname(__DIR__, 2) . '/preload.php';
        }
        if (str_contains($said, 'resolving')) {
            return "$path: $said: it is older than this package";
        }
        if (getenv('GOMLX_LIBRARY') === $path) {
            return "GOMLX_LIBRARY is $path, which " . (is_file($path) ? "can't be loaded" : 'is not there');
        }
        if ($path !== self::name()) {
            return "$path can't be loaded: made for another system?";
        }
        return $path . ' was not found: GOMLX_LIBRARY is not set, not in ' . implode(', ', self::places())
            . ', nor where the system\'s loader looks';
    }

    /** @return list<string> */
    private static function places(): array
    {
        $package = dirname(__DIR__, 2);
        $name = self::name();
        return [
            "$package/lib/$name",
            dirname($package, 2) . "/lib/$name", // an unpacked archive
            dirname($package, 3) . "/lib/$name", // PREFIX/share/gomlx/php
            dirname($package, 2) . "/target/release/$name",
        ];
    }

    private static function name(): string
    {
        return match (PHP_OS_FAMILY) {
            'Darwin' => 'libgomlx.' . self::abi() . '.dylib',
            'Windows' => 'gomlx.dll',
            default => 'libgomlx.so.' . self::abi(),
        };
    }

    private static function abi(): int
    {
        return preg_match('/GOMLX_ABI_VERSION = (\d+)/', self::header(), $found) === 1
            ? (int) $found[1]
            : throw new LibraryException(self::HEADER . ' names no ABI');
    }

    private static function header(): string
    {
        $text = @file_get_contents(self::HEADER);
        return $text !== false ? $text : throw new LibraryException(self::HEADER . " can't be read");
    }
}
