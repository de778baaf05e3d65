//! Old records about many names in little memory: which generation has last named something, by four cells of a fixed number.
//!
//! A name counts as purged when all four of its cells say so. Names that were never purged share all four with others at a rate of 0.4 %
//! after 600,000 records; those that were purged are always found.

use crate::position::Position;

/// Two bytes each: 16 MiB, taken when the first records are folded.
const CELLS: usize = 1 << 23;
/// Cells of one name.
const PROBES: u32 = 4;

/// Records folded together.
#[derive(Debug)]
pub(crate) struct Sketch {
    /// The newest generation that named something of this cell; 0: none.
    cells: Box<[u16]>,
    /// What the newest record of each generation was, the first generation first.
    generations: Vec<(u64, Position)>,
    names: usize,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { cells: vec![0; CELLS].into(), generations: Vec::new(), names: 0 }
    }
}

impl Sketch {
    /// Takes records in, none newer than `number` and `position`.
    pub(crate) fn fold(&mut self, subjects: &[u64], number: u64, position: Position) {
        if self.generations.len() < usize::from(u16::MAX) {
            self.generations.push((number, position));
        } else if let Some(last) = self.generations.last_mut() {
            *last = (number, position);
        }
        let generation = u16::try_from(self.generations.len()).unwrap_or(u16::MAX);
        for subject in subjects {
            for cell in cells_of(*subject) {
                self.cells[cell] = generation;
            }
        }
        self.names += subjects.len();
    }

    /// The newest record that may have named it.
    pub(crate) fn newest_of(&self, subject: u64) -> Option<(u64, Position)> {
        let oldest = cells_of(subject).map(|cell| self.cells[cell]).min()?;
        self.generations.get(usize::from(oldest.checked_sub(1)?)).copied()
    }

    pub(crate) fn newest(&self) -> u64 {
        self.generations.last().map_or(0, |(number, _)| *number)
    }

    pub(crate) fn position(&self) -> Position {
        self.generations.last().map_or(Position::START, |(_, position)| *position)
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.cells) + self.generations.capacity() * size_of::<(u64, Position)>()
    }

    pub(crate) fn len(&self) -> usize {
        self.names
    }
}

fn cells_of(subject: u64) -> impl Iterator<Item = usize> {
    // Two halves of one good hash make as many as are wanted.
    let (first, step) = (subject >> 32, (subject & 0xffff_ffff) | 1);
    (0..u64::from(PROBES)).map(move |probe| {
        let mixed = first.wrapping_add(probe.wrapping_mul(step)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 41).unwrap_or(0)
    })
}
