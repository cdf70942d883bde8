<?php

declare(strict_types=1);

namespace Gomlx;

use FFI;
use Gomlx\Internal\Handle;
use Gomlx\Internal\Library;

/**
 * A cancel flag and a progress meter: give it to a load or a request. It may serve several, which it then cancels
 * together, and it stays cancelled.
 */
final class Control
{
    private readonly Handle $handle;

    public function __construct()
    {
        $this->handle = new Handle(
            Library::handle(Library::ffi()->gomlx_control_new()),
            'control',
            'gomlx_control_free',
        );
    }

    /** Stops what it was given to, within one step, or as soon as that begins. */
    public function cancel(): void
    {
        Library::ffi()->gomlx_control_cancel($this->handle->get());
    }

    public function progress(): Progress
    {
        $ffi = Library::ffi();
        $done = $ffi->new('uint64_t');
        $total = $ffi->new('uint64_t');
        Library::check($ffi->gomlx_control_progress(
            $this->handle->get(),
            FFI::addr($done),
            FFI::addr($total),
            Library::error(),
        ));
        return new Progress($done->cdata, $total->cdata);
    }

    /** @internal */
    public function handle(): Handle
    {
        return $this->handle;
    }

    private function __clone()
    {
    }
}
