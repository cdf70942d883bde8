<?php

declare(strict_types=1);

namespace Gomlx;

/** The kind of a failure: `enum gomlx_status_value` of gomlx.h, and the exception class of each. */
enum Status: int
{
    /** Something that can never be right, such as invalid UTF-8 or a temperature below zero. */
    case Argument = -1;
    /** Right call, wrong moment, such as any call after close(). */
    case State = -2;
    /** The operating system refused: a file is missing or may not be read. */
    case Io = -3;
    /** A file was read but does not hold what its format promises. */
    case Format = -4;
    /** Well-formed, but not something the library can run. */
    case Unsupported = -5;
    /** The memory limit, or the machine's memory, does not allow it. */
    case Memory = -6;
    /** The prompt does not fit the context. */
    case ContextFull = -7;
    /** A buffer was too small; calls are made again with a larger one, so no exception has it. */
    case Buffer = -8;
    /** Cancelled by its Control. */
    case Cancelled = -9;
    /** The device that computes failed. */
    case Backend = -10;
    /** A defect of the library; the message says where. */
    case Internal = -11;
    /** Too many requests wait already. */
    case Busy = -12;
    /** The process forked after the model was loaded. */
    case Forked = -13;
    /** The timeout passed. */
    case Deadline = -14;

    /** The exception that says this status. */
    public function exception(string $message): Exception\GomlxException
    {
        return match ($this) {
            self::Argument => new Exception\ArgumentException($message, $this),
            self::State => new Exception\StateException($message, $this),
            self::Io => new Exception\IoException($message, $this),
            self::Format => new Exception\FormatException($message, $this),
            self::Unsupported => new Exception\UnsupportedException($message, $this),
            self::Memory => new Exception\MemoryException($message, $this),
            self::ContextFull => new Exception\ContextFullException($message, $this),
            self::Cancelled => new Exception\CancelledException($message, $this),
            self::Backend => new Exception\BackendException($message, $this),
            self::Busy => new Exception\BusyException($message, $this),
            self::Forked => new Exception\ForkedException($message, $this),
            self::Deadline => new Exception\DeadlineException($message, $this),
            self::Buffer, self::Internal => new Exception\InternalException($message, $this),
        };
    }
}
