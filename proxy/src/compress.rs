//! Stored content, compressed once for each encoding that clients ask for.
//!
//! The first client of an encoding gets the content as it is; the work is done by one thread of its own, behind a bounded
//! queue, and a full queue only means that the next client asks again. Whether a response may be encoded at all is decided by
//! `cache_semantics`; this module only compresses.

use std::io::Write;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use bytes::Bytes;
use cache_semantics::negotiate::Coding;

/// Jobs that wait for the thread.
const QUEUE_MAX: usize = 256;

/// The codings that Weir makes, the one it likes best first.
pub const CODINGS: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

/// Compresses the pieces one after the other as one content. `None` if that does not make it smaller.
pub fn compress(coding: Coding, pieces: &[Bytes]) -> Option<Bytes> {
    let len: usize = pieces.iter().map(Bytes::len).sum();
    let out = Vec::with_capacity(len / 3 + 64);
    let compressed = match coding {
        Coding::Zstd => zstd_all(pieces, out),
        Coding::Brotli => brotli_all(pieces, out, len),
        Coding::Gzip => gzip_all(pieces, out),
        Coding::Identity | Coding::Deflate => return None,
    };
    let mut compressed = compressed.expect("writing to memory does not fail");
    compressed.shrink_to_fit();
    (compressed.len() < len).then(|| compressed.into())
}

fn zstd_all(pieces: &[Bytes], out: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(out, 9)?;
    pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
    encoder.finish()
}

fn gzip_all(pieces: &[Bytes], out: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(6));
    pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
    encoder.finish()
}

fn brotli_all(pieces: &[Bytes], out: Vec<u8>, len: usize) -> std::io::Result<Vec<u8>> {
    // Quality 9 takes about ten times as long as 5; worth it where the content is small enough to be done in milliseconds.
    let quality = if len <= 64 << 10 { 9 } else { 5 };
    let mut encoder = brotli::CompressorWriter::new(out, 4096, quality, 22);
    pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
    encoder.flush()?;
    Ok(encoder.into_inner())
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that compresses.
#[derive(Debug, Clone)]
pub struct Compressor(SyncSender<Job>);

impl Compressor {
    /// Starts the thread; it ends with the last handle.
    pub fn start() -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(QUEUE_MAX);
        thread::Builder::new().name("weir-compress".into()).spawn(move || {
            for job in waiting {
                // A job that panics costs its own result; content is then served as it is.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            }
        })?;
        Ok(Self(jobs))
    }

    /// Does the job soon; false if the queue is full.
    pub fn offer(&self, job: impl FnOnce() + Send + 'static) -> bool {
        match self.0.try_send(Box::new(job)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Zstd => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap(),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap(),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
            Coding::Identity | Coding::Deflate => unreachable!("never made"),
        };
        out
    }

    #[test]
    fn each_coding_gives_back_what_went_in() {
        let pieces: Vec<Bytes> =
            (0..50).map(|line| format!("line {line} of a text that repeats\n").into()).collect();
        for coding in CODINGS {
            let compressed = compress(coding, &pieces).expect("text gets smaller");
            assert_eq!(decode(coding, &compressed), pieces.concat(), "{}", coding.name());
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_left_as_it_is() {
        assert_eq!(compress(Coding::Gzip, &[Bytes::from_static(b"x")]), None);
    }

    #[test]
    fn a_job_that_panics_does_not_end_the_thread() {
        let compressor = Compressor::start().unwrap();
        assert!(compressor.offer(|| panic!("on purpose")));
        let (done, finished) = std::sync::mpsc::channel();
        assert!(compressor.offer(move || done.send(()).unwrap()));
        finished.recv().unwrap();
    }
}
