//! AMF0 (Adobe, "Action Message Format", 2007): the values of RTMP commands and of onMetaData.
//!
//! Depth, count and length are bounded, and errors say at which byte, since anybody can send commands before
//! authorisation.

use bytes::{BufMut, BytesMut};

/// One AMF0 value. Typed objects, dates and XML are read as plain objects, numbers and strings.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Marker 0, and 11 (a date, in milliseconds).
    Number(f64),
    /// Marker 1.
    Boolean(bool),
    /// Markers 2, 12 and 15.
    String(String),
    /// Markers 3, 8 and 16: properties in their order.
    Object(Vec<(String, Value)>),
    /// Marker 10.
    Array(Vec<Value>),
    /// Markers 5, 6 and 13: null, undefined, unsupported.
    Null,
}

/// A value is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the AMF0 values: {what}")]
pub struct AmfError {
    /// Offset in the message, in bytes.
    pub at: usize,
    /// A description of the fault.
    pub what: &'static str,
}

/// The deepest nesting of objects and arrays. Encoders nest two or three deep.
pub const DEPTH_MAX: usize = 16;
/// The most values in one message. onMetaData has about thirty.
pub const VALUES_MAX: usize = 4_096;

impl Value {
    /// Returns the text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the property `name` of an object.
    pub fn property(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(properties) => properties.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Returns an object with these properties.
    pub fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
        Value::Object(properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Appends the value. Strings longer than 65,535 bytes are written as long strings.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Value::Number(number) => {
                out.put_u8(0);
                out.put_f64(*number);
            }
            Value::Boolean(boolean) => {
                out.put_u8(1);
                out.put_u8(u8::from(*boolean));
            }
            Value::String(text) => {
                if let Ok(len) = u16::try_from(text.len()) {
                    out.put_u8(2);
                    out.put_u16(len);
                } else {
                    out.put_u8(12);
                    out.put_u32(u32::try_from(text.len()).expect("our own strings are far below 4 GiB"));
                }
                out.put_slice(text.as_bytes());
            }
            Value::Object(properties) => {
                out.put_u8(3);
                for (key, value) in properties {
                    out.put_u16(u16::try_from(key.len()).expect("our own keys are far below 64 KiB"));
                    out.put_slice(key.as_bytes());
                    value.encode(out);
                }
                out.put_slice(&[0, 0, 9]);
            }
            Value::Array(values) => {
                out.put_u8(10);
                out.put_u32(u32::try_from(values.len()).expect("our own arrays are far below 2^32"));
                for value in values {
                    value.encode(out);
                }
            }
            Value::Null => out.put_u8(5),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

/// Reads all values of `message`.
pub fn decode_all(message: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut decoder = Decoder { message, at: 0, values: 0 };
    let mut values = Vec::new();
    while decoder.at < message.len() {
        values.push(decoder.value(0)?);
    }
    Ok(values)
}

/// Writes the values as one message body.
pub fn encode_all(values: &[Value]) -> BytesMut {
    let mut out = BytesMut::new();
    values.iter().for_each(|value| value.encode(&mut out));
    out
}

struct Decoder<'a> {
    message: &'a [u8],
    at: usize,
    values: usize,
}

impl<'a> Decoder<'a> {
    fn fault(&self, what: &'static str) -> AmfError {
        AmfError { at: self.at, what }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], AmfError> {
        let rest = &self.message[self.at..];
        let Some(taken) = rest.get(..n) else {
            return Err(self.fault("the message ends inside a value"));
        };
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn text(&mut self, len: usize) -> Result<String, AmfError> {
        // Lossy, since metadata in Latin-1 (encoder names) is no reason to refuse a push.
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    fn short_text(&mut self) -> Result<String, AmfError> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        self.text(len)
    }

    fn long_text(&mut self) -> Result<String, AmfError> {
        let len = u32::from_be_bytes(self.array()?);
        self.text(len as usize)
    }

    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.fault("more than 4,096 values"));
        }
        if depth > DEPTH_MAX {
            return Err(self.fault("objects nested more than 16 deep"));
        }
        let [marker] = self.array()?;
        Ok(match marker {
            0 => Value::Number(f64::from_be_bytes(self.array()?)),
            1 => Value::Boolean(self.array::<1>()? != [0]),
            2 => Value::String(self.short_text()?),
            3 => self.object(depth)?,
            5 | 6 | 13 => Value::Null,
            8 => {
                // 2.10: the count of an ECMA array is a hint; encoders write 0 or one too few, and end with an
                // object end marker all the same.
                self.array::<4>()?;
                self.object(depth)?
            }
            10 => {
                let count = u32::from_be_bytes(self.array()?);
                Value::Array((0..count).map(|_| self.value(depth + 1)).collect::<Result<_, _>>()?)
            }
            11 => {
                let date = f64::from_be_bytes(self.array()?);
                self.array::<2>()?; // 2.13: the time zone, reserved
                Value::Number(date)
            }
            12 | 15 => Value::String(self.long_text()?),
            16 => {
                self.short_text()?; // the class
                self.object(depth)?
            }
            _ => {
                self.at -= 1;
                return Err(self.fault("unknown AMF0 marker"));
            }
        })
    }

    /// Reads properties up to the object end marker, or to the end of the message where an encoder leaves the marker
    /// out.
    fn object(&mut self, depth: usize) -> Result<Value, AmfError> {
        let mut properties = Vec::new();
        while self.at < self.message.len() {
            if self.message[self.at..].starts_with(&[0, 0, 9]) {
                self.at += 3;
                break;
            }
            let key = self.short_text()?;
            properties.push((key, self.value(depth + 1)?));
        }
        Ok(Value::Object(properties))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(|n| Value::Number(f64::from(n))),
            any::<bool>().prop_map(Value::Boolean),
            "[a-zé]{0,9}".prop_map(Value::String),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(("[a-z]{1,5}", inner.clone()), 0..4).prop_map(Value::Object),
                prop::collection::vec(inner, 0..4).prop_map(Value::Array),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_survive_the_wire(values in prop::collection::vec(any_value(), 0..5)) {
            prop_assert_eq!(decode_all(&encode_all(&values)), Ok(values));
        }

        #[test]
        fn rubbish_is_an_error_at_a_byte_of_it(bytes in prop::collection::vec(0_u8..18, 0..300)) {
            if let Err(error) = decode_all(&bytes) {
                prop_assert!(error.at <= bytes.len());
            }
        }
    }

    fn check_error(bytes: &[u8], at: usize, what: &str) {
        let error = decode_all(bytes).expect_err("rubbish");
        assert_eq!((error.at, error.what), (at, what));
    }

    #[test]
    fn errors_locate_the_byte() {
        check_error(&[2, 0, 5, b'a'], 3, "the message ends inside a value");
        check_error(&[5, 0x42], 1, "unknown AMF0 marker");
        // What overflows the stack of scuffle-amf0 and rml_amf0.
        check_error(&[10, 0, 0, 0, 1].repeat(20_000), 85, "objects nested more than 16 deep");
        // What makes scuffle-amf0 allocate 2^32 values at once.
        check_error(&[10, 255, 255, 255, 255], 5, "the message ends inside a value");
        check_error(&[5; 5_000], 4_096, "more than 4,096 values");
    }

    #[test]
    fn ecma_arrays_with_a_wrong_count_are_read_to_their_end() {
        let bytes = [8, 0, 0, 0, 0, 0, 1, b'a', 5, 0, 0, 9, 5];
        assert_eq!(decode_all(&bytes), Ok(vec![Value::object([("a", Value::Null)]), Value::Null]));
    }
}
