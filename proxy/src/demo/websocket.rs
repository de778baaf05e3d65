//! A WebSocket that says back what it hears: just enough of RFC 6455 for the demo.

use base64::Engine as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longer messages end the connection.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What a server answers to a client's `Sec-WebSocket-Key`.
pub(super) fn accept(key: &str) -> String {
    let digest =
        ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// Says everything back until the other side closes, or does what it should not.
pub(super) async fn echo(upgraded: Upgraded) -> std::io::Result<()> {
    const CLOSE: u8 = 8;
    const PING: u8 = 9;
    const PONG: u8 = 10;
    let mut io = TokioIo::new(upgraded);
    loop {
        let [first, second] = [io.read_u8().await?, io.read_u8().await?];
        let length = match second & 0x7f {
            126 => usize::from(io.read_u16().await?),
            127 => usize::try_from(io.read_u64().await?).unwrap_or(usize::MAX),
            short => usize::from(short),
        };
        // RFC 6455 §5.1: a client masks every frame.
        if second & 0x80 == 0 || length > MESSAGE_BYTES_MAX {
            return Ok(());
        }
        let mut mask = [0; 4];
        io.read_exact(&mut mask).await?;
        let mut payload = vec![0; length];
        io.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let answer = match first & 0x0f {
            PING => (first & 0xf0) | PONG,
            PONG => continue,
            _ => first,
        };
        let mut frame = vec![answer];
        match u16::try_from(length) {
            Ok(short) if short < 126 => frame.push(u8::try_from(short).unwrap_or_default()),
            Ok(medium) => {
                frame.push(126);
                frame.extend_from_slice(&medium.to_be_bytes());
            }
            Err(_) => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&payload);
        io.write_all(&frame).await?;
        io.flush().await?;
        if first & 0x0f == CLOSE {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn section_1_3_the_key_of_the_standard() {
        assert_eq!(super::accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
