//! The error of a request.

/// An error of a request: the status, and one line for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub struct HttpError {
    /// The HTTP status.
    pub status: u16,
    /// One line, which starts with the side at fault: `request:`, `stream:` or `edge:`.
    pub text: String,
}

impl HttpError {
    /// Makes an error of a status and a line.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        HttpError { status, text: text.into() }
    }
}
