//! Where a WebSocket frame ends (RFC 6455 §5.2), so that a server that stops can say so between two of them.

/// A close frame with status 1001, "going away" (RFC 6455 §7.4.1).
pub(super) const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];

/// Follows what is sent to the client.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    header: [u8; 14],
    header_bytes: usize,
    payload: u64,
}

impl Scanner {
    pub(super) const fn at_boundary(&self) -> bool {
        self.header_bytes == 0 && self.payload == 0
    }

    pub(super) fn sent(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.header_bytes] = *first;
            self.header_bytes += 1;
            bytes = rest;
            if self.header_bytes == self.header_length() {
                self.payload = self.payload_length();
                self.header_bytes = 0;
            }
        }
    }

    /// Two bytes, the longer length, and the mask where there is one.
    fn header_length(&self) -> usize {
        if self.header_bytes < 2 {
            return 2;
        }
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    fn payload_length(&self) -> u64 {
        let extended = |bytes: usize| {
            self.header[2..2 + bytes].iter().fold(0, |length, byte| length << 8 | u64::from(*byte))
        };
        match self.header[1] & 0x7f {
            126 => extended(2),
            127 => extended(8),
            length => u64::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_their_lengths_say_however_the_bytes_are_cut() {
        let mut wire = vec![0x81, 3, b'a', b'b', b'c'];
        wire.extend([0x82, 126, 1, 0]);
        wire.extend([0; 256]);
        wire.extend([0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 1, 1, 9, 9, 9, 9]);
        wire.extend([0; 257]);
        wire.extend([0x89, 0]);
        let ends = [5, 5 + 4 + 256, 5 + 4 + 256 + 14 + 257, wire.len()];
        for cut in 1..=wire.len() {
            let mut scanner = Scanner::default();
            let mut sent = 0;
            for piece in wire.chunks(cut) {
                scanner.sent(piece);
                sent += piece.len();
                assert_eq!(scanner.at_boundary(), ends.contains(&sent), "after {sent} in pieces of {cut}");
            }
        }
    }
}
