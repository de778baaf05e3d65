//! The allocator of plugins. A call makes a dozen small texts and frees them all before it ends, so they lie one behind the other in a block of their own, and
//! when the last of them is freed the next call begins at its start again.
//!
//! It is an allocator like any other: what a plugin keeps after a call stays where it is. It only takes its place from the block, and in the end all of it;
//! then everything is allocated behind it, as without a block.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;

pub(crate) struct Arena<B> {
    behind: B,
    /// The block, null while there is none.
    block: Cell<*mut u8>,
    /// Its size.
    size: Cell<usize>,
    /// How much of it is taken: all that lies in it lies before.
    taken: Cell<usize>,
    /// How many allocations lie in it.
    live: Cell<usize>,
}

// SAFETY: a component has one thread.
#[cfg(target_arch = "wasm32")]
unsafe impl<B> Sync for Arena<B> {}

impl<B: GlobalAlloc> Arena<B> {
    pub(crate) const fn new(behind: B) -> Self {
        Self {
            behind,
            block: Cell::new(ptr::null_mut()),
            size: Cell::new(0),
            taken: Cell::new(0),
            live: Cell::new(0),
        }
    }

    /// Takes the block, if there is none yet. Where there is no memory for it, it goes on without.
    pub(crate) fn begin(&self, size: usize) {
        if !self.block.get().is_null() {
            return;
        }
        let Ok(layout) = Layout::from_size_align(size, 16) else { return };
        // SAFETY: the size is not zero, and the block is kept for ever.
        let block = unsafe { self.behind.alloc(layout) };
        if !block.is_null() {
            self.block.set(block);
            self.size.set(size);
        }
    }

    /// Where in the block it lies.
    fn offset(&self, at: *mut u8) -> Option<usize> {
        let offset = at.addr().wrapping_sub(self.block.get().addr());
        (offset < self.size.get()).then_some(offset)
    }
}

// SAFETY: each part of the block is given once until it is given back: `taken` lies behind all that is live, and moves back only over the last of it, or
// when nothing is live. What does not lie in the block is the allocator's behind it.
unsafe impl<B: GlobalAlloc> GlobalAlloc for Arena<B> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.block.get();
        let begin = (block.addr() + self.taken.get()).next_multiple_of(layout.align()) - block.addr();
        // No allocation is longer than half of the address space, nor is the block: this cannot overflow.
        if begin + layout.size() > self.size.get() {
            // SAFETY: the caller keeps to what `alloc` asks for.
            return unsafe { self.behind.alloc(layout) };
        }
        self.taken.set(begin + layout.size());
        self.live.set(self.live.get() + 1);
        // SAFETY: it lies in the block.
        unsafe { block.add(begin) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let Some(begin) = self.offset(at) else {
            // SAFETY: what is not ours was allocated behind us, with this layout.
            return unsafe { self.behind.dealloc(at, layout) };
        };
        let live = self.live.get() - 1;
        self.live.set(live);
        if live == 0 {
            self.taken.set(0);
        } else if begin + layout.size() == self.taken.get() {
            self.taken.set(begin);
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(begin) = self.offset(at) else {
            // SAFETY: what is not ours was allocated behind us, with this layout.
            return unsafe { self.behind.realloc(at, layout, size) };
        };
        let is_last = begin + layout.size() == self.taken.get();
        if is_last && begin + size <= self.size.get() {
            self.taken.set(begin + size);
            return at;
        }
        if size <= layout.size() {
            return at;
        }
        // SAFETY: the caller vouches for the new size, the old alignment is one.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both are as long as that at least, and the new one lies elsewhere, for the old one is still live.
            unsafe {
                ptr::copy_nonoverlapping(at, new, layout.size());
                self.dealloc(at, layout);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    /// Memory under test: where, what was asked for, and the byte it is filled with.
    struct Taken {
        at: *mut u8,
        layout: Layout,
        fill: u8,
    }

    impl Taken {
        fn fill(&mut self, fill: u8) {
            self.fill = fill;
            // SAFETY: it was given with this layout.
            unsafe { ptr::write_bytes(self.at, fill, self.layout.size()) };
        }

        fn is_whole(&self, length: usize) -> bool {
            // SAFETY: it was given with this layout, and filled.
            unsafe { std::slice::from_raw_parts(self.at, length) }.iter().all(|byte| *byte == self.fill)
        }
    }

    /// Numbers that look like chance, and are the same each time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap_or_default() % bound
        }
    }

    #[test]
    fn nothing_that_is_live_is_given_again() {
        for seed in 1..=200 {
            let mut chance = Chance(seed * 0x9e37_79b9_7f4a_7c15);
            let arena = Arena::new(System);
            let mut live: Vec<Taken> = Vec::new();
            for step in 0..400 {
                if step == 20 {
                    arena.begin(1024);
                }
                let longest = if chance.below(20) == 0 { 2_000 } else { 60 };
                let size = 1 + chance.below(longest);
                let fill = u8::try_from(step % 251).unwrap_or_default();
                match chance.below(5) {
                    0 | 1 => {
                        let layout = Layout::from_size_align(size, 1 << chance.below(5)).unwrap();
                        // SAFETY: the size is not zero.
                        let at = unsafe { arena.alloc(layout) };
                        assert_eq!(at.addr() % layout.align(), 0);
                        let mut taken = Taken { at, layout, fill };
                        taken.fill(fill);
                        live.push(taken);
                    }
                    2 if !live.is_empty() => {
                        let one = chance.below(live.len());
                        let taken = &mut live[one];
                        // SAFETY: it is live, with this layout.
                        taken.at = unsafe { arena.realloc(taken.at, taken.layout, size) };
                        assert!(taken.is_whole(size.min(taken.layout.size())), "seed {seed}, step {step}");
                        taken.layout = Layout::from_size_align(size, taken.layout.align()).unwrap();
                        taken.fill(fill);
                    }
                    _ if !live.is_empty() => {
                        let one = chance.below(live.len());
                        let taken = live.swap_remove(one);
                        assert!(taken.is_whole(taken.layout.size()), "seed {seed}, step {step}");
                        // SAFETY: it is live, with this layout.
                        unsafe { arena.dealloc(taken.at, taken.layout) };
                    }
                    _ => {}
                }
            }
            for taken in live {
                assert!(taken.is_whole(taken.layout.size()), "seed {seed}");
                // SAFETY: it is live, with this layout.
                unsafe { arena.dealloc(taken.at, taken.layout) };
            }
            assert_eq!((arena.live.get(), arena.taken.get()), (0, 0), "all of it can be given again");
        }
    }

    #[test]
    fn what_is_kept_takes_its_place_and_no_more() {
        let arena = Arena::new(System);
        arena.begin(256);
        let layout = Layout::from_size_align(64, 1).unwrap();
        // SAFETY: the size is not zero, and what is given back was given with this layout.
        unsafe {
            let kept = arena.alloc(layout);
            for _ in 0..100 {
                let (one, other) = (arena.alloc(layout), arena.alloc(layout));
                assert!(arena.offset(one).is_some() && arena.offset(other).is_some() && one != other);
                arena.dealloc(other, layout);
                arena.dealloc(one, layout);
            }
            let rest: Vec<*mut u8> = (0..4).map(|_| arena.alloc(layout)).collect();
            assert!(arena.offset(rest[3]).is_none(), "it does not fit any more");
            rest.into_iter().for_each(|at| arena.dealloc(at, layout));
            arena.dealloc(kept, layout);
        }
        assert_eq!(arena.taken.get(), 0);
    }
}
