//! The rules of the protocol, each of which the model test takes out once to show what breaks without it.

/// All of them hold, but in a test that takes one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// A response fetched by somebody who had read further than we have is not judged.
    pub(crate) future_check: bool,
    /// A purge of our own that the log has not taken yet is newer than all that others stored.
    pub(crate) pending_is_newest: bool,
    /// What was trimmed or lost before it was read purges all that is older.
    pub(crate) floor: bool,
    /// Memory is called verified only within the lease.
    pub(crate) lease: bool,
    /// A lease begins only when all that the log held at that moment has been read.
    pub(crate) lease_needs_head: bool,
    /// After a change of the log's history, what was published of late is published again.
    pub(crate) replay: bool,
    /// Positions never go back: where the log has lost its end, a mark is put behind what was read of it.
    pub(crate) no_regress: bool,
    /// After a change of history nobody goes on before all who are registered have published again what they had.
    pub(crate) gate: bool,
    /// A lookup in the shared tier first reads the log to its end.
    pub(crate) head_check: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            future_check: true,
            pending_is_newest: true,
            floor: true,
            lease: true,
            lease_needs_head: true,
            replay: true,
            no_regress: true,
            gate: true,
            head_check: true,
        }
    }
}
