//! One error type for the whole engine: a status the host can branch on and one line for a person.

use std::borrow::Cow;
use std::fmt;

/// Why a call failed. The numbers are the C ABI's `gomlx_status`; they never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    /// The caller passed something that can never be right: NULL, invalid UTF-8, an unknown enum value, NaN.
    Argument = -1,
    /// Right call, wrong moment: two threads inside one generation, a model that was freed.
    State = -2,
    /// The operating system refused: file missing, no permission, read failed.
    Io = -3,
    /// A file was read but does not say what its format promises.
    Format = -4,
    /// Well-formed, but not something this library can run.
    Unsupported = -5,
    /// The memory limit or the system's memory does not allow it.
    Memory = -6,
    /// Prompt plus answer do not fit the context.
    ContextFull = -7,
    /// The caller's buffer is too small; the needed size was written.
    Buffer = -8,
    /// The caller cancelled.
    Cancelled = -9,
    /// The compute backend failed.
    Backend = -10,
    /// A defect of this library; the panic's message follows.
    Internal = -11,
    /// Too many requests wait already.
    Busy = -12,
    /// The process forked after the model was loaded.
    Forked = -13,
    /// The request's deadline passed.
    Deadline = -14,
}

/// A failure: what kind, and one line saying what the caller does not already know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: Status,
    message: Cow<'static, str>,
}

/// The engine's result type.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of kind `status`. `message` is one line and names the file, key, tensor or offset at fault.
    pub fn new(status: Status, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into() }
    }
    /// What kind of failure.
    pub fn status(&self) -> Status {
        self.status
    }
    /// The one line for a person.
    pub fn message(&self) -> &str {
        &self.message
    }
    /// The same failure with `place` (a file, a tensor, a key) in front of its message.
    pub fn at(self, place: impl fmt::Display) -> Self {
        Self { status: self.status, message: format!("{place}: {}", self.message).into() }
    }
    /// Names the path in an operating-system failure.
    pub fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(Status::Io, format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// `Err(Error)` from a status name and a format string: `fail!(Format, "{name}: offset {at} outside the file")`.
macro_rules! fail {
    ($status:ident, $($arg:tt)*) => {
        return Err($crate::engine::error::Error::new($crate::engine::error::Status::$status, format!($($arg)*)))
    };
}

/// An `Error` value from a status name and a format string, for `ok_or_else` and `map_err`.
macro_rules! error {
    ($status:ident, $($arg:tt)*) => {
        $crate::engine::error::Error::new($crate::engine::error::Status::$status, format!($($arg)*))
    };
}

pub(crate) use {error, fail};
