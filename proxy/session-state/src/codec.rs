//! A session as bytes.

use crate::{Attribute, Session};

/// What was read is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a session, or it is damaged")]
pub struct Damaged;

const MAGIC: &[u8] = b"WS1";

/// Where the byte lies that says whether a session was ended: 1, or 0. A store may look there without reading the rest.
pub const ENDED_AT: usize = MAGIC.len() + 3 * size_of::<u64>();

impl Session {
    /// Writes it down.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.created_ms, self.ends_ms, self.seen_ms] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.push(u8::from(self.ended));
        let (version, user) =
            self.subject.as_ref().map_or((0, ""), |(version, user)| (*version, user.as_str()));
        out.extend_from_slice(&version.to_be_bytes());
        push(&mut out, user.as_bytes());
        for (name, attribute) in &self.attributes {
            push(&mut out, name.as_bytes());
            out.extend_from_slice(&attribute.version.to_be_bytes());
            out.extend_from_slice(&attribute.ends_ms.to_be_bytes());
            out.push(u8::from(attribute.value.is_some()));
            push(&mut out, attribute.value.as_deref().unwrap_or_default());
        }
        out
    }

    /// Reads what was written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(Damaged)?;
        let rest = &mut rest;
        let (created_ms, ends_ms, seen_ms) = (number(rest)?, number(rest)?, number(rest)?);
        let ended = flag(rest)?;
        let (version, user) = (number(rest)?, text(rest)?);
        let subject = (version != 0).then_some((version, user));
        let mut session = Self { created_ms, ends_ms, seen_ms, ended, subject, ..Self::default() };
        while !rest.is_empty() {
            let name = text(rest)?;
            let (version, ends_ms) = (number(rest)?, number(rest)?);
            let (there, value) = (flag(rest)?, piece(rest)?);
            let value = there.then(|| value.to_vec());
            session.attributes.insert(name, Attribute { version, ends_ms, value });
        }
        Ok(session)
    }
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn number(rest: &mut &[u8]) -> Result<u64, Damaged> {
    let (number, after) = rest.split_first_chunk::<8>().ok_or(Damaged)?;
    *rest = after;
    Ok(u64::from_be_bytes(*number))
}

fn flag(rest: &mut &[u8]) -> Result<bool, Damaged> {
    let (flag, after) = rest.split_first().ok_or(Damaged)?;
    *rest = after;
    match flag {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Damaged),
    }
}

fn piece<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], Damaged> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(Damaged)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Damaged)?;
    let (piece, after) = after.split_at_checked(length).ok_or(Damaged)?;
    *rest = after;
    Ok(piece)
}

fn text(rest: &mut &[u8]) -> Result<String, Damaged> {
    String::from_utf8(piece(rest)?.to_vec()).map_err(|_| Damaged)
}
