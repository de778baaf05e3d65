//! What Redis has taken and the durable store has not: kept in memory until it is back, within bounds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use session_state::Session;

use super::cookie::Handle;

/// Sessions that are remembered. What comes beyond them is counted, and lies in Redis alone.
const SESSIONS_MAX: usize = 16_384;
/// Users of whom all sessions are over.
const USERS_MAX: usize = 16_384;

/// Changes of a session, and whom it belongs to, as a digest.
type Change = (Session, Option<[u8; 32]>);
/// Until which version all sessions of somebody are over, and for how long that is remembered.
type Ended = ([u8; 32], (u64, u64));

/// What the durable store is owed.
#[derive(Debug, Default)]
pub(super) struct Owed {
    sessions: Mutex<HashMap<Handle, Change>>,
    users: Mutex<HashMap<[u8; 32], (u64, u64)>>,
    forgotten: AtomicU64,
}

impl Owed {
    /// It has not taken this change.
    pub(super) fn note(&self, handle: Handle, change: Session, user: Option<[u8; 32]>) {
        let mut sessions = self.sessions.lock();
        if let Some((known, owner)) = sessions.get_mut(&handle) {
            known.merge(&change);
            *owner = user.or(*owner);
        } else if sessions.len() < SESSIONS_MAX {
            sessions.insert(handle, (change, user));
        } else {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nor that all sessions of somebody are over.
    pub(super) fn note_user(&self, user: [u8; 32], version: u64, ends_ms: u64) {
        let mut users = self.users.lock();
        if users.len() >= USERS_MAX && !users.contains_key(&user) {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let known = users.entry(user).or_default();
        *known = (known.0.max(version), known.1.max(ends_ms));
    }

    /// What it would know of a session, were it not for the outage.
    pub(super) fn of(&self, handle: &Handle) -> Option<Session> {
        self.sessions.lock().get(handle).map(|(session, _)| session.clone())
    }

    /// Until which version all sessions of somebody are over, as far as that is owed.
    pub(super) fn of_user(&self, user: &[u8; 32]) -> u64 {
        self.users.lock().get(user).map_or(0, |(version, _)| *version)
    }

    /// Takes some of it, to be handed over; what is refused again is noted again.
    pub(super) fn take(&self, at_most: usize) -> (Vec<(Handle, Change)>, Vec<Ended>) {
        let mut sessions = self.sessions.lock();
        let some: Vec<Handle> = sessions.keys().take(at_most).copied().collect();
        let some = some.into_iter().filter_map(|handle| sessions.remove_entry(&handle)).collect();
        (some, self.users.lock().drain().collect())
    }

    /// How much is owed.
    pub(super) fn len(&self) -> usize {
        self.sessions.lock().len() + self.users.lock().len()
    }

    /// Changes for which there was no room.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_merged_and_bounded() {
        let owed = Owed::default();
        let change = |name: &str| {
            let wish = session_state::protocol::Wish::parse(Some(name.as_bytes()), None, None).unwrap();
            wish.change(&Session { ends_ms: 9, ..Session::default() }, 1, 1)
        };
        owed.note(Handle([1; 32]), change("a=1"), None);
        owed.note(Handle([1; 32]), change("b=2"), Some([7; 32]));
        assert_eq!(owed.of(&Handle([1; 32])).unwrap().attributes.len(), 2);
        owed.note_user([7; 32], 5, 9);
        owed.note_user([7; 32], 4, 10);
        assert_eq!((owed.of_user(&[7; 32]), owed.len()), (5, 2));
        let (sessions, users) = owed.take(100);
        assert_eq!((sessions[0].1.1, users[0].1), (Some([7; 32]), (5, 10)));
        assert_eq!(owed.len(), 0);
        for number in 0..=SESSIONS_MAX as u64 {
            let mut handle = [0; 32];
            handle[..8].copy_from_slice(&number.to_be_bytes());
            owed.note(Handle(handle), Session::default(), None);
        }
        assert_eq!((owed.len(), owed.forgotten()), (SESSIONS_MAX, 1));
    }
}
