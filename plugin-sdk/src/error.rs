use std::fmt;

/// Why a hook could not decide, or a configuration cannot be taken.
///
/// Its text is for the operator, who reads it in the log (of a hook: limited in number) or as the reason why a configuration was refused. What
/// happens to the request is the operator's `on_failure`, and without one the hook's own safe way: a request without a key passes the cache.
///
/// ```
/// use weir_plugin::Error;
///
/// fn bucket(text: &str) -> Result<u32, Error> {
///     text.parse().map_err(|error| Error::new(format!("bucket `{text}`: {error}")))
/// }
/// assert_eq!(bucket("7"), Ok(7));
/// assert_eq!(bucket("x").unwrap_err().to_string(), "bucket `x`: invalid digit found in string");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// An error with this text: what is wrong and where, in lower case and without a final stop.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {}

impl From<&str> for Error {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}

impl From<std::num::ParseIntError> for Error {
    fn from(error: std::num::ParseIntError) -> Self {
        Self::new(error)
    }
}

#[cfg(target_arch = "wasm32")]
impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.0
    }
}
