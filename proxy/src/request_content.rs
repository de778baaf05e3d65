//! The content of a request that is read before anything is decided about it: by who asks a cache by it, and by plugins.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::body::{Body, BodyError};
use crate::config::model::Limits;
use crate::error::ProxyError;
use crate::incoming::Incoming;
use crate::origin;

/// How far the content of a request has been read.
#[derive(Debug)]
pub enum RequestContent {
    /// Nothing of it.
    Unread(Incoming),
    /// All of it, in one piece.
    Whole(Bytes),
    /// More than is held: what was read is sent before the rest.
    Begun(Body),
}

impl Default for RequestContent {
    fn default() -> Self {
        Self::Unread(Incoming::default())
    }
}

impl RequestContent {
    /// All of it, where it was read.
    pub const fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Unread(_) | Self::Begun(_) => None,
        }
    }

    /// Whether there is more of it than is held.
    pub const fn is_too_long(&self) -> bool {
        matches!(self, Self::Begun(_))
    }

    /// What is sent to an origin.
    pub fn into_body(self, limit: u64, limits: &Limits) -> Result<Body, BodyError> {
        match self {
            Self::Unread(incoming) => origin::content::from_client(incoming, limit, limits),
            Self::Whole(bytes) if bytes.is_empty() => Ok(Body::empty()),
            Self::Whole(bytes) => Ok(Body::full(bytes)),
            Self::Begun(body) => Ok(body),
        }
    }
}

/// Reads content up to `held` bytes. What says itself that it is longer is not begun; what turns out to be is handed on, with what was read.
/// `limit`: the most that the route takes at all.
pub async fn read(
    incoming: Incoming,
    held: usize,
    limit: u64,
    limits: &Limits,
) -> Result<RequestContent, ProxyError> {
    let announced = http_body::Body::size_hint(&incoming).lower();
    if announced > limit {
        return Err(ProxyError::ContentTooLarge { limit });
    }
    if announced > held as u64 {
        return origin::content::from_client(incoming, limit, limits)
            .map(RequestContent::Begun)
            .map_err(broken);
    }
    let mut rest = origin::content::from_client(incoming, limit, limits).map_err(broken)?;
    let mut bytes = BytesMut::with_capacity(usize::try_from(announced).unwrap_or_default());
    loop {
        match rest.frame().await {
            None => return Ok(RequestContent::Whole(bytes.freeze())),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(frame)) => {
                let fits = frame.data_ref().is_some_and(|data| bytes.len() + data.len() <= held);
                match frame.into_data() {
                    Ok(data) if fits => bytes.extend_from_slice(&data),
                    // Trailers are a part of it that no key holds.
                    frame => {
                        let frame = frame.map_or_else(|frame| frame, http_body::Frame::data);
                        return Ok(RequestContent::Begun(Body::resumed(bytes.freeze(), frame, rest)));
                    }
                }
            }
        }
    }
}

fn broken(error: BodyError) -> ProxyError {
    match error {
        BodyError::TooLarge { limit } => ProxyError::ContentTooLarge { limit },
        BodyError::Idle => ProxyError::ContentTooSlow,
        BodyError::Client(_) | BodyError::Origin(_) | BodyError::FillEnded => ProxyError::ContentBroken,
    }
}
