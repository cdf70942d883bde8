<?php

declare(strict_types=1);

namespace Gomlx\Internal;

use FFI;
use FFI\CData;
use Gomlx\Exception\StateException;
use Gomlx\Status;

/**
 * One owned handle of the library: given back when it is closed, when PHP drops it, or when a fatal error ends the
 * script, after which PHP calls no destructors.
 *
 * @internal
 */
final class Handle
{
    /** @var ?\WeakMap<self, true> those that are open in this thread */
    private static ?\WeakMap $open = null;

    private readonly FFI $ffi;

    /**
     * @param string $what names it in errors
     * @param string $free the function that takes it back
     */
    public function __construct(private ?CData $pointer, private readonly string $what, private readonly string $free)
    {
        $this->ffi = Library::ffi();
        if (self::$open === null) {
            self::$open = new \WeakMap();
            register_shutdown_function(self::afterFatal(...));
        }
        self::$open[$this] = true;
    }

    /** The handle for a call. */
    public function get(): CData
    {
        return $this->pointer ?? throw new StateException("the {$this->what} is closed", Status::State);
    }

    public function isOpen(): bool
    {
        return $this->pointer !== null;
    }

    /** Gives it back; once is enough. */
    public function close(): void
    {
        if ($this->pointer !== null) {
            $pointer = $this->pointer;
            $this->pointer = null;
            $this->ffi->{$this->free}($pointer);
        }
    }

    public function __destruct()
    {
        $this->close();
    }

    private static function afterFatal(): void
    {
        $fatal = E_ERROR | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR | E_PARSE;
        if (((error_get_last()['type'] ?? 0) & $fatal) === 0 || self::$open === null) {
            return;
        }
        foreach (self::$open as $handle => $_) {
            $handle->close();
        }
    }
}
