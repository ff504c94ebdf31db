//! Why a request is not answered with what it asks for.

/// Who is at fault that a request isn't answered with what it asks for, and what to tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub struct Fault {
    /// HTTP status.
    pub status: u16,
    /// One line; it starts with who is at fault: `request:`, `stream:` or `edge:`.
    pub text: String,
}

impl Fault {
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Fault { status, text: text.into() }
    }
}
