//! Maps of fields that have served: a worker gives them to the next messages.
//!
//! A map takes two blocks, one of them larger than the allocator keeps at hand; parsing a head of ten fields into a map that was used before
//! takes none.

use std::cell::RefCell;

use http::HeaderMap;

/// Maps that a thread keeps.
const MAPS_MAX: usize = 64;
/// A map with room for more fields is not kept.
const FIELDS_MAX: usize = 64;

thread_local! {
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map, if possible one with room.
pub(crate) fn take() -> HeaderMap {
    MAPS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes back a map that is not needed any more.
pub(crate) fn put(mut map: HeaderMap) {
    if !(1..=FIELDS_MAX).contains(&map.capacity()) {
        return;
    }
    map.clear();
    // At the end of a thread there is nobody left to keep it for.
    let _ = MAPS.try_with(|maps| {
        let mut maps = maps.borrow_mut();
        if maps.len() < MAPS_MAX {
            maps.push(map);
        }
    });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderName;

    use super::*;

    #[test]
    fn a_map_comes_back_empty_and_with_its_room_unless_it_has_grown_large() {
        let mut map = HeaderMap::with_capacity(16);
        map.append("cookie", HeaderValue::from_static("secret"));
        map.append("cookie", HeaderValue::from_static("another"));
        let room = map.capacity();
        put(map);
        let map = take();
        assert!(map.is_empty() && map.capacity() == room);
        assert_eq!(map.get_all("cookie").iter().count(), 0);

        let mut large = HeaderMap::new();
        for number in 0..=FIELDS_MAX {
            large.append(HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from_static("x"));
        }
        put(large);
        assert_eq!(take().capacity(), 0);
    }
}
