//! What is asked for in a path, and the answer that belongs to it. Origin, load generator and baseline agree here.

use std::fmt::Write as _;

/// The `Host` of every request.
pub(crate) const AUTHORITY: &str = "bench.test";

/// How many bytes at the start of a body say which resource it is.
pub(crate) const LABEL_LENGTH: usize = 16;

/// What the origin says of storing, and whether the caches were told so beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storing {
    /// Cacheable for a day.
    Store,
    /// Not cacheable, under a path which is configured not to go through the cache.
    Pass,
    /// Not cacheable, as only the response says.
    Surprise,
    /// Not cacheable, under a path whose origin is told of the client's session.
    Session,
    /// Likewise, and the answer changes an attribute of the session.
    SessionWrite,
}

impl Storing {
    fn segment(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Pass => "pass",
            Self::Surprise => "surprise",
            Self::Session => "session",
            Self::SessionWrite => "session-write",
        }
    }
}

/// One resource of the origin: `/{store|pass|surprise|session|session-write}/{size}/{delay_ms}/{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) storing: Storing,
    pub(crate) size: u64,
    pub(crate) delay_ms: u64,
    pub(crate) id: u64,
}

impl Resource {
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let kind = parts.next()?;
        let known =
            [Storing::Store, Storing::Pass, Storing::Surprise, Storing::Session, Storing::SessionWrite];
        let storing = known.into_iter().find(|storing| storing.segment() == kind)?;
        let mut number = || parts.next()?.parse().ok();
        let resource = Self { storing, size: number()?, delay_ms: number()?, id: number()? };
        parts.next().is_none().then_some(resource)
    }

    pub(crate) fn path(&self) -> String {
        format!("/{}/{}/{}/{}", self.storing.segment(), self.size, self.delay_ms, self.id)
    }

    pub(crate) fn cache_control(&self) -> &'static str {
        if self.storing == Storing::Store { "public, max-age=86400" } else { "no-store" }
    }

    /// The first bytes of the body, by which a wrong answer is told from the right one.
    pub(crate) fn label(&self) -> [u8; LABEL_LENGTH] {
        let mut text = String::with_capacity(LABEL_LENGTH);
        write!(text, "{:0width$}", self.id, width = LABEL_LENGTH).expect("a string takes anything");
        text.as_bytes().try_into().expect("ids have at most sixteen digits")
    }

    /// The whole body: the label and then filler.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = filler(usize::try_from(self.size).expect("bodies held in memory are small"));
        let length = body.len().min(LABEL_LENGTH);
        body[..length].copy_from_slice(&self.label()[..length]);
        body
    }
}

/// Text of `length` bytes, which does not compress to nothing.
pub(crate) fn filler(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    (0..length)
        .map(|_| {
            b"abcdefghijklmnopqrstuvwxyz012345"[usize::from(next_random(&mut state).to_le_bytes()[3] & 31)]
        })
        .collect()
}

/// A xorshift generator: enough to spread requests over URLs.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_the_whole_resource() {
        let resource = Resource { storing: Storing::Store, size: 1024, delay_ms: 500, id: 42 };
        assert_eq!(Resource::parse(&resource.path()), Some(resource));
        for wrong in
            ["/", "/store/1024/0", "/store/1024/0/1/2", "/other/1/0/0", "/store/x/0/0", "store/1/0/0"]
        {
            assert_eq!(Resource::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_body_begins_with_its_label_and_has_its_size() {
        let resource = Resource { storing: Storing::Store, size: 1024, delay_ms: 0, id: 42 };
        assert_eq!(resource.body().len(), 1024);
        assert!(resource.body().starts_with(b"0000000000000042"));
    }
}
