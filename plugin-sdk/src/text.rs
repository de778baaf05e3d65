//! Text from the wire. What a plugin reads of a request stands for bytes: U+0000 to U+00FF, one character for each byte.

/// The bytes that a text from the wire stands for; `None` for one that stands for none, since a character is above U+00FF.
///
/// ```
/// assert_eq!(weir_plugin::text::bytes("caf\u{c3}\u{a9}").as_deref(), Some("café".as_bytes()));
/// ```
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|char| u8::try_from(char).ok()).collect()
}

/// The text that UTF-8 on the wire stands for; `None` where it is none.
///
/// ```
/// assert_eq!(weir_plugin::text::utf8("caf\u{c3}\u{a9}").as_deref(), Some("café"));
/// assert_eq!(weir_plugin::text::utf8("\u{ff}"), None);
/// ```
pub fn utf8(text: &str) -> Option<String> {
    if text.is_ascii() {
        return Some(text.to_owned());
    }
    String::from_utf8(bytes(text)?).ok()
}

/// A part of a path or query with its percent-encoding undone, where that gives UTF-8; `None` where it does not.
///
/// ```
/// use weir_plugin::text::percent_decoded;
///
/// assert_eq!(percent_decoded("caf%C3%A9%20noir").as_deref(), Some("café noir"));
/// assert_eq!(percent_decoded("100%"), None);
/// assert_eq!(percent_decoded("%FF"), None);
/// ```
pub fn percent_decoded(text: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let given = bytes(text)?;
    let mut decoded = Vec::with_capacity(given.len());
    let mut rest = given.as_slice();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = after else { return None };
            decoded.push(digit(*high)? << 4 | digit(*low)?);
            rest = after;
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    String::from_utf8(decoded).ok()
}
