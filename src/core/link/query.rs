//! The answer of a node to a query, and its codec.
//!
//! An answer is one byte; after a 0 the requested bytes follow. The mesh doesn't look at the query itself.

use bytes::Bytes;

const HERE: u8 = 0;
const NOT_HERE: u8 = 1;
const BUSY: u8 = 2;

/// A node's answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryAnswer {
    /// The chunks of the answer, in order.
    Here(Vec<Bytes>),
    /// The node has no answer.
    NotHere,
    /// The node has too much to do.
    Busy,
}

/// The reason why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The node has no answer.
    #[error("the node hasn't got it")]
    NotHere,
    /// The node has too much to do.
    #[error("the node is busy")]
    Busy,
    /// The node can't be reached, or the answer broke off.
    #[error("the node can't be asked: {0}")]
    Unreachable(String),
    /// Another node is at its address, or the answer can't be read.
    #[error("the node's answer: {0}")]
    Wrong(String),
}

impl QueryAnswer {
    /// Returns the bytes of the answer, in chunks.
    pub fn encode(self) -> Vec<Bytes> {
        match self {
            QueryAnswer::Here(chunks) => std::iter::once(Bytes::from_static(&[HERE])).chain(chunks).collect(),
            QueryAnswer::NotHere => vec![Bytes::from_static(&[NOT_HERE])],
            QueryAnswer::Busy => vec![Bytes::from_static(&[BUSY])],
        }
    }

    /// Returns the content of a whole answer.
    ///
    /// # Errors
    /// The node has no answer, is busy, or has sent something else.
    pub fn decode(answer: &Bytes) -> Result<Bytes, QueryError> {
        match answer.first() {
            Some(&HERE) => Ok(answer.slice(1..)),
            Some(&NOT_HERE) => Err(QueryError::NotHere),
            Some(&BUSY) => Err(QueryError::Busy),
            other => Err(QueryError::Wrong(format!("begins with {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_wire() {
        let check = |answer: QueryAnswer, read| assert_eq!(QueryAnswer::decode(&answer.encode().concat().into()), read);
        let chunks = [&b"mo"[..], b"", b"of"].map(Bytes::from_static);
        check(QueryAnswer::Here(chunks.into()), Ok(Bytes::from_static(b"moof")));
        check(QueryAnswer::Here(Vec::new()), Ok(Bytes::new()));
        check(QueryAnswer::NotHere, Err(QueryError::NotHere));
        check(QueryAnswer::Busy, Err(QueryError::Busy));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for (bytes, why) in [(&b""[..], "begins with None"), (b"\x03", "begins with Some(3)")] {
            let wrong = QueryAnswer::decode(&Bytes::copy_from_slice(bytes));
            assert_eq!(wrong, Err(QueryError::Wrong(why.to_owned())));
        }
    }
}
