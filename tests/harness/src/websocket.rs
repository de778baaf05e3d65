//! Just enough of RFC 6455 to open a WebSocket and exchange small frames.

use std::io::{self, Read, Write};

/// Fields that open a WebSocket, with the key of RFC 6455 section 1.3.
pub const OPENING: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// What a server answers to [`OPENING`].
pub const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A frame's kind.
pub const TEXT: u8 = 1;
/// A frame's kind.
pub const CLOSE: u8 = 8;

/// Sends one frame; a client masks, a server does not. The payload has at most 125 bytes.
pub fn send(to: &mut impl Write, kind: u8, payload: &[u8], masked: bool) -> io::Result<()> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length <= 125);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let mut frame = vec![0x80 | kind, length | if masked { 0x80 } else { 0 }];
    if masked {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        frame.extend_from_slice(payload);
    }
    to.write_all(&frame)?;
    to.flush()
}

/// Receives one small frame: its kind and its payload.
pub fn receive(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    from.read_exact(&mut head)?;
    let mut mask = [0; 4];
    let length = usize::from(head[1] & 0x7f);
    if length > 125 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if head[1] & 0x80 != 0 {
        from.read_exact(&mut mask)?;
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((head[0] & 0x0f, payload))
}

/// Echoes text frames until the other side closes.
pub fn echo(conn: &mut (impl Read + Write)) {
    while let Ok((kind, payload)) = receive(conn) {
        if send(conn, kind, &payload, false).is_err() || kind == CLOSE {
            return;
        }
    }
}
