//! End to end: the real binary, real sockets, a file per feature. Each test is a story: arrange, act, expect.

mod first_steps;
mod the_harness;
