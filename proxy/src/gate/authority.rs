//! Host and port of a request, read strictly.

use std::fmt;

use cache_semantics::authority::AuthorityShape;
use http::header::HeaderValue;

/// Host and port of a request, checked: a name, an IPv4 address or an IPv6 literal, in lower case, and a port if it is not the default.
#[derive(Clone)]
pub struct Authority {
    text: AuthorityText,
    host_len: usize,
    port: Option<u16>,
}

/// Where the text of an authority lives; both are cheap to clone.
#[derive(Clone)]
enum AuthorityText {
    Field(HeaderValue),
    Target(http::uri::Authority),
}

impl Authority {
    /// Checks and normalises the value of a `Host` field.
    pub fn from_field(value: &HeaderValue, tls: bool) -> Option<Self> {
        let shape = AuthorityShape::of(value.as_bytes(), tls)?;
        let text = if shape.normal {
            value.clone()
        } else {
            HeaderValue::from_bytes(&shape.normalised(value.as_bytes())).ok()?
        };
        Some(Self { text: AuthorityText::Field(text), host_len: shape.host_len, port: shape.port })
    }

    /// Checks and normalises the authority of a target.
    pub fn from_target(authority: &http::uri::Authority, tls: bool) -> Option<Self> {
        let bytes = authority.as_str().as_bytes();
        let shape = AuthorityShape::of(bytes, tls)?;
        let text = if shape.normal {
            AuthorityText::Target(authority.clone())
        } else {
            AuthorityText::Field(HeaderValue::from_bytes(&shape.normalised(bytes)).ok()?)
        };
        Some(Self { text, host_len: shape.host_len, port: shape.port })
    }

    /// As it is written in a key and in `Host`.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.text {
            AuthorityText::Field(value) => value.as_bytes(),
            AuthorityText::Target(authority) => authority.as_str().as_bytes(),
        }
    }

    /// As it is written in a key and in `Host`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("an authority was checked to be ASCII")
    }

    /// The name or address, without the port; an IPv6 literal with its brackets.
    pub fn host(&self) -> &str {
        self.host_and_whole().0
    }

    /// [`Self::host`] and [`Self::as_str`]: each alone goes through all of it.
    pub fn host_and_whole(&self) -> (&str, &str) {
        let whole = self.as_str();
        (&whole[..self.host_len], whole)
    }

    /// The port, where it is not the default one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// As a field value.
    pub fn to_value(&self) -> HeaderValue {
        match &self.text {
            AuthorityText::Field(value) => value.clone(),
            AuthorityText::Target(authority) => HeaderValue::from_str(authority.as_str())
                .expect("an authority was checked to hold only letters, digits and a little punctuation"),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Authority {}
