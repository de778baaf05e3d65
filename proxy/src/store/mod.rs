//! What is stored, and where.

pub mod head;
