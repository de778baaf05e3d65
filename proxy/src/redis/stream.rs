//! Redis Streams, as the log of invalidations needs them: positions, records, and what can be asked.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use super::breaker::Ask;
use super::client::{Command, Reply};
use super::error::RedisError;
use super::link::{Link, Operation};

/// A position in a stream: total order, given by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Milliseconds of the server's clock, as a rule.
    pub millis: u64,
    /// The number within that millisecond.
    pub sequence: u64,
}

impl StreamId {
    /// Before everything.
    pub const ZERO: Self = Self { millis: 0, sequence: 0 };
    /// Behind everything.
    pub const MAX: Self = Self { millis: u64::MAX, sequence: u64::MAX };

    /// The smallest one that is greater; `None` behind the last.
    pub fn next(self) -> Option<Self> {
        match self.sequence.checked_add(1) {
            Some(sequence) => Some(Self { sequence, ..self }),
            None => Some(Self { millis: self.millis.checked_add(1)?, sequence: 0 }),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.millis, self.sequence)
    }
}

/// Not a position: two numbers with a `-` between them are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position in a stream is written `millis-sequence`")]
pub struct NotAStreamId;

impl FromStr for StreamId {
    type Err = NotAStreamId;

    fn from_str(text: &str) -> Result<Self, NotAStreamId> {
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten().ok_or(NotAStreamId)
        };
        let (millis, sequence) = text.split_once('-').ok_or(NotAStreamId)?;
        Ok(Self { millis: number(millis)?, sequence: number(sequence)? })
    }
}

/// A record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    /// Where it stands.
    pub id: StreamId,
    /// Its fields, in order.
    pub fields: Vec<(Bytes, Bytes)>,
}

impl StreamRecord {
    /// The first field of that name.
    pub fn field(&self, name: &[u8]) -> Option<&Bytes> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// What a server tells about a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamInfo {
    /// Records held.
    pub len: u64,
    /// The position that was given last, be its record there or trimmed.
    pub last: StreamId,
    /// The last position whose record was deleted or trimmed, where the server knows (Redis 7).
    pub deleted_max: Option<StreamId>,
}

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddAt {
    /// Behind the last, at a position that the server gives.
    Next,
    /// At this one, which must be behind the last.
    Exactly(StreamId),
}

/// How far a stream is cut while a record is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// Not at all.
    No,
    /// To about so many records: whole nodes only, which costs next to nothing.
    About(u64),
}

impl Link {
    /// XADD: adds a record and gives its position.
    pub async fn add_record(
        &self,
        stream: &[u8],
        at: AddAt,
        trim: Trim,
        fields: &[(&[u8], &[u8])],
    ) -> Result<StreamId, RedisError> {
        let mut command = Command::new("XADD").arg(stream);
        if let Trim::About(len) = trim {
            command = command.arg(b"MAXLEN").arg(b"~").number(len);
        }
        command = match at {
            AddAt::Next => command.arg(b"*"),
            AddAt::Exactly(id) => command.arg(id.to_string().as_bytes()),
        };
        for (name, value) in fields {
            command = command.arg(name).arg(value);
        }
        let reply = self.ask(Operation::Log, Ask::Write, stream, self.log_budget(), &command).await?;
        id_of(&reply)
    }

    /// XREVRANGE + - COUNT 1: the position of the last record, [`StreamId::ZERO`] if there is none.
    pub async fn head(&self, stream: &[u8]) -> Result<StreamId, RedisError> {
        self.head_within(stream, self.log_budget()).await
    }

    /// Likewise, within a budget.
    pub async fn head_within(&self, stream: &[u8], budget: Duration) -> Result<StreamId, RedisError> {
        head_of(self.ask(Operation::Log, Ask::Read, stream, budget, &head_command(stream)).await?)
    }

    /// XRANGE: up to `count` records from `first` to `last`, both included.
    pub async fn records(
        &self,
        stream: &[u8],
        first: StreamId,
        last: StreamId,
        count: u64,
    ) -> Result<Vec<StreamRecord>, RedisError> {
        let command = Command::new("XRANGE")
            .arg(stream)
            .arg(first.to_string().as_bytes())
            .arg(last.to_string().as_bytes())
            .arg(b"COUNT")
            .number(count);
        let reply = self.ask(Operation::Log, Ask::Read, stream, self.log_budget(), &command).await?;
        records_of(reply)
    }

    /// XREVRANGE: likewise, the last one first.
    pub async fn records_backwards(
        &self,
        stream: &[u8],
        last: StreamId,
        first: StreamId,
        count: u64,
    ) -> Result<Vec<StreamRecord>, RedisError> {
        let command = Command::new("XREVRANGE")
            .arg(stream)
            .arg(last.to_string().as_bytes())
            .arg(first.to_string().as_bytes())
            .arg(b"COUNT")
            .number(count);
        let reply = self.ask(Operation::Log, Ask::Read, stream, self.log_budget(), &command).await?;
        records_of(reply)
    }

    /// XREAD BLOCK: up to `count` records behind `after`; none if nothing came within `wait`. It has a connection of its own,
    /// dialled at the first call, so that nothing else waits behind it. One call at a time.
    pub async fn wait_for_records(
        &self,
        stream: &[u8],
        after: StreamId,
        count: u64,
        wait: Duration,
    ) -> Result<Vec<StreamRecord>, RedisError> {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        let command = Command::new("XREAD")
            .arg(b"COUNT")
            .number(count)
            .arg(b"BLOCK")
            .number(millis)
            .arg(b"STREAMS")
            .arg(stream)
            .arg(after.to_string().as_bytes());
        let reply = self.ask_blocking(&command, wait).await?;
        // One stream, its name and its records; nil when the time was over.
        let mut streams = reply.list()?;
        match streams.len() {
            0 => Ok(Vec::new()),
            // RESP3 answers with a map, RESP2 with a list of pairs.
            2 => records_of(streams.remove(1)),
            1 => {
                let mut pair = streams.remove(0).list()?;
                if pair.len() == 2 { records_of(pair.remove(1)) } else { Err(RedisError::Unexpected) }
            }
            _ => Err(RedisError::Unexpected),
        }
    }

    /// XTRIM MINID ~: forgets records before `first`, whole nodes of them. Returns how many.
    pub async fn trim_before(&self, stream: &[u8], first: StreamId) -> Result<u64, RedisError> {
        let command =
            Command::new("XTRIM").arg(stream).arg(b"MINID").arg(b"~").arg(first.to_string().as_bytes());
        let reply = self.ask(Operation::Log, Ask::Write, stream, self.log_budget(), &command).await?;
        u64::try_from(reply.int()?).map_err(|_| RedisError::Unexpected)
    }

    /// XINFO STREAM; `None` if there is no such stream.
    pub async fn stream_info(&self, stream: &[u8]) -> Result<Option<StreamInfo>, RedisError> {
        let command = Command::new("XINFO").arg(b"STREAM").arg(stream);
        let reply = match self.ask(Operation::Log, Ask::Read, stream, self.log_budget(), &command).await {
            Err(RedisError::Refused { detail, .. }) if detail.contains("no such key") => return Ok(None),
            reply => reply?.list()?,
        };
        let value = |name: &str| {
            let mut pairs = reply.chunks_exact(2);
            pairs.find(|pair| pair[0].text() == Ok(name)).map(|pair| &pair[1])
        };
        let id = |name: &str| value(name).map(id_of).transpose();
        let len = value("length").ok_or(RedisError::Unexpected)?.int()?;
        Ok(Some(StreamInfo {
            len: u64::try_from(len).map_err(|_| RedisError::Unexpected)?,
            last: id("last-generated-id")?.ok_or(RedisError::Unexpected)?,
            deleted_max: id("max-deleted-entry-id")?,
        }))
    }
}

/// The command behind [`Link::head`], for whoever asks for it together with something else.
pub(super) fn head_command(stream: &[u8]) -> Command {
    Command::new("XREVRANGE").arg(stream).arg(b"+").arg(b"-").arg(b"COUNT").number(1)
}

/// And its answer.
pub(super) fn head_of(reply: Reply) -> Result<StreamId, RedisError> {
    let records = reply.list()?;
    match records.as_slice() {
        [] => Ok(StreamId::ZERO),
        [Reply::List(record), ..] => record.first().ok_or(RedisError::Unexpected).and_then(id_of),
        _ => Err(RedisError::Unexpected),
    }
}

fn id_of(reply: &Reply) -> Result<StreamId, RedisError> {
    reply.text()?.parse().map_err(|_| RedisError::Unexpected)
}

fn records_of(reply: Reply) -> Result<Vec<StreamRecord>, RedisError> {
    reply.list()?.into_iter().map(record_of).collect()
}

fn record_of(reply: Reply) -> Result<StreamRecord, RedisError> {
    let mut parts = reply.list()?.into_iter();
    let (Some(id), Some(fields), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(RedisError::Unexpected);
    };
    let id = id_of(&id)?;
    let mut values = fields.list()?.into_iter();
    let mut fields = Vec::with_capacity(values.len() / 2);
    while let Some(name) = values.next() {
        let value = values.next().ok_or(RedisError::Unexpected)?;
        let (Some(name), Some(value)) = (name.bytes()?, value.bytes()?) else {
            return Err(RedisError::Unexpected);
        };
        fields.push((name, value));
    }
    Ok(StreamRecord { id, fields })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_are_read_back_and_ordered(millis: u64, sequence: u64) {
            let id = StreamId { millis, sequence };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            if let Some(next) = id.next() {
                prop_assert!(id < next);
            }
        }

        #[test]
        fn no_text_panics(text in "[0-9+-]{0,45}") {
            let _ = text.parse::<StreamId>();
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in ["", "1", "-", "1-", "-1", "+1-1", "1-1-1", "18446744073709551616-0", "1-x"] {
            assert_eq!(text.parse::<StreamId>(), Err(NotAStreamId), "{text}");
        }
        assert_eq!(StreamId::MAX.next(), None);
    }

    #[test]
    fn a_record_of_the_wrong_shape_is_refused() {
        let bytes = |text: &'static str| Reply::Bytes(Bytes::from_static(text.as_bytes()));
        let good = Reply::List(vec![bytes("1-2"), Reply::List(vec![bytes("k"), bytes("tag")])]);
        let record = record_of(good).unwrap();
        assert_eq!(record.id, StreamId { millis: 1, sequence: 2 });
        assert_eq!(record.field(b"k").unwrap(), "tag");
        for wrong in [
            Reply::Int(1),
            Reply::List(vec![]),
            Reply::List(vec![bytes("x"), Reply::List(vec![])]),
            Reply::List(vec![bytes("1-1"), Reply::List(vec![bytes("k")])]),
            Reply::List(vec![bytes("1-1"), Reply::List(vec![bytes("k"), Reply::Nil])]),
        ] {
            assert_eq!(record_of(wrong), Err(RedisError::Unexpected));
        }
    }
}
