//! The error of a request.

/// Who is at fault that a request isn't answered with what it asks for, and what to tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub struct HttpError {
    /// HTTP status.
    pub status: u16,
    /// One line; it starts with who is at fault: `request:`, `stream:` or `edge:`.
    pub text: String,
}

impl HttpError {
    /// Makes an error of a status and a line.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        HttpError { status, text: text.into() }
    }
}
