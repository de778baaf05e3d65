//! The `Cookie` field of a request (RFC 6265bis §4.2.1).

/// One cookie of a request. One without `=` has a value and no name (§5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'c> {
    /// Its name.
    pub name: &'c [u8],
    /// Its value.
    pub value: &'c [u8],
    /// Both, as they stand.
    pub whole: &'c [u8],
}

/// The cookies of a `Cookie` field's line, in their order.
pub fn pairs(line: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let pieces = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|piece| !piece.is_empty());
    pieces.map(|whole| match whole.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            Pair { name: whole[..at].trim_ascii_end(), value: whole[at + 1..].trim_ascii_start(), whole }
        }
        None => Pair { name: b"", value: whole, whole },
    })
}

/// Puts a cookie behind those that a field holds already.
pub fn push(field: &mut Vec<u8>, pair: &[u8]) {
    if !field.is_empty() {
        field.extend_from_slice(b"; ");
    }
    field.extend_from_slice(pair);
}
