//! Trees to instructions of classic BPF, the kernel's language for filters.
//!
//! A choice is a binary search. It is laid out from its end, so that the target of each jump, which
//! can only lead forwards, is known when the jump is made. Equal parts of the tree become one piece of
//! code. When a filter is installed the kernel walks it once for each number that it knows: the length
//! of a path counts there, not only at each call.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{
    Instruction,
    tree::{Field, Tree},
};
use crate::sandbox::syscalls::Verdict;

const LOAD: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
const AND: u16 = code(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K);
const JUMP: u16 = code(libc::BPF_JMP | libc::BPF_JA);
const JUMP_EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
const JUMP_AT_LEAST: u16 = code(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K);
const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);

/// How far a condition is let jump: what its field can hold, less the two jumps that may come
/// between.
const REACH: usize = 253;

/// How far from the middle a search may be parted, ranges.
const OFF_MIDDLE_MAX: usize = 3;

/// Offsets in `struct seccomp_data` (seccomp(2)). Both architectures are little-endian: the lower
/// half of an argument comes first.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;
const ARGUMENT_BYTES: u32 = 8;

#[expect(
    clippy::cast_possible_truncation,
    reason = "codes of classic BPF are 16 bits wide; `TryFrom` is not const"
)]
const fn code(code: u32) -> u16 {
    code as u16
}

/// The instructions that answer as the tree does.
pub(super) fn assemble(tree: &Tree) -> Vec<Instruction> {
    let mut backwards = Backwards::default();
    let entry = backwards.tree(tree);
    backwards.lead_to(entry);
    backwards.code.reverse();
    backwards.code
}

/// Code from its end. A place is an index of `code`, which the final order turns around.
#[derive(Default)]
struct Backwards {
    code: Vec<Instruction>,
    made: BTreeMap<Tree, usize>,
    /// The last made end of each kind, by its value.
    ends: BTreeMap<u32, usize>,
}

/// A choice among ranges of one word: the instructions it takes, the longest path, and where it is
/// parted.
#[derive(Clone, Copy)]
struct Cost {
    instructions: usize,
    depth: usize,
    part: Part,
}

#[derive(Clone, Copy)]
enum Part {
    /// One range: nothing to ask.
    Whole,
    /// One value between two ranges that lead to the same.
    Value,
    /// Below and from the start of this range on.
    At(usize),
}

/// Costs by the first range and the one after the last.
type Costs = BTreeMap<(usize, usize), Cost>;

impl Backwards {
    /// Makes the code of a tree, or finds it, and gives its entry.
    fn tree(&mut self, tree: &Tree) -> usize {
        if let Some(place) = self.made.get(tree) {
            return *place;
        }
        match tree {
            Tree::Answer(verdict) => {
                self.answer(*verdict);
            }
            Tree::By {
                field,
                mask,
                ranges,
            } => {
                let mut costs = Costs::new();
                search_costs(ranges, 0, ranges.len(), &mut costs);
                let entry = self.search(ranges, 0, ranges.len(), &costs);
                self.lead_to(entry);
                if *mask != u32::MAX {
                    self.code.push((AND, 0, 0, *mask));
                }
                let at = match field {
                    Field::Number => NUMBER_AT,
                    Field::Architecture => ARCHITECTURE_AT,
                    Field::Argument(argument) => ARGUMENTS_AT
                        .saturating_add(ARGUMENT_BYTES.saturating_mul((*argument).into())),
                };
                self.code.push((LOAD, 0, 0, at));
            }
        }
        let entry = self.last();
        self.made.insert(tree.clone(), entry);
        entry
    }

    /// The search among `ranges[from..to]`.
    fn search(&mut self, ranges: &[(u32, Tree)], from: usize, to: usize, costs: &Costs) -> usize {
        let part = costs.get(&(from, to)).map_or(Part::Whole, |cost| cost.part);
        match part {
            Part::Whole => self.range(ranges, from),
            Part::Value => {
                let (around, value) = (self.range(ranges, from), self.range(ranges, from + 1));
                self.branch(JUMP_EQUAL, start(ranges, from + 1), value, around)
            }
            Part::At(middle) => {
                let below = self.search(ranges, from, middle, costs);
                let from_here = self.search(ranges, middle, to, costs);
                self.branch(JUMP_AT_LEAST, start(ranges, middle), from_here, below)
            }
        }
    }

    fn range(&mut self, ranges: &[(u32, Tree)], index: usize) -> usize {
        match ranges.get(index) {
            Some((_, tree)) => self.tree(tree),
            // No range: a fault, which must not open anything.
            None => self.answer(Verdict::Kill),
        }
    }

    fn branch(&mut self, code: u16, value: u32, yes: usize, no: usize) -> usize {
        let (yes, no) = (self.near(yes), self.near(no));
        let here = self.code.len();
        let jump = |to: usize| u8::try_from(here.saturating_sub(to + 1));
        match (jump(yes), jump(no)) {
            (Ok(yes), Ok(no)) => {
                self.code.push((code, yes, no, value));
                self.last()
            }
            // Out of reach in spite of `near`: a fault, which must not open anything.
            _ => self.answer(Verdict::Kill),
        }
    }

    /// A place that a condition reaches and that leads to `place`.
    fn near(&mut self, place: usize) -> usize {
        if self.code.len().saturating_sub(place + 1) <= REACH {
            return place;
        }
        if let Some(&(RETURN, _, _, value)) = self.code.get(place) {
            match self.ends.get(&value) {
                Some(end) if self.code.len().saturating_sub(end + 1) <= REACH => *end,
                _ => self.end(value),
            }
        } else {
            self.jump(place);
            self.last()
        }
    }

    /// Makes `place` what runs after the next instruction.
    fn lead_to(&mut self, place: usize) {
        if place != self.last() {
            self.jump(place);
        }
    }

    fn jump(&mut self, place: usize) {
        let distance = self.code.len().saturating_sub(place + 1);
        // Programs have at most 4096 instructions; a longer one is refused later.
        let distance = u32::try_from(distance).unwrap_or(u32::MAX);
        self.code.push((JUMP, 0, 0, distance));
    }

    fn answer(&mut self, verdict: Verdict) -> usize {
        self.end(verdict.action().into())
    }

    fn end(&mut self, value: u32) -> usize {
        self.code.push((RETURN, 0, 0, value));
        let place = self.last();
        self.ends.insert(value, place);
        place
    }

    fn last(&self) -> usize {
        self.code.len().saturating_sub(1)
    }
}

/// The cheapest search among `ranges[from..to]`, and among each stretch of which it consists: fewest
/// instructions, then shortest paths. Only parts near the middle are looked at; the others would make
/// long paths.
fn search_costs(ranges: &[(u32, Tree)], from: usize, to: usize, known: &mut Costs) -> Cost {
    if let Some(cost) = known.get(&(from, to)) {
        return *cost;
    }
    let length = to.saturating_sub(from);
    let middle = from + length / 2;
    let cost = if length <= 1 {
        Cost {
            instructions: 0,
            depth: 0,
            part: Part::Whole,
        }
    } else if length == 3 && is_value(ranges, from) {
        Cost {
            instructions: 1,
            depth: 1,
            part: Part::Value,
        }
    } else {
        let near = (from + 1).max(middle.saturating_sub(OFF_MIDDLE_MAX));
        let mut cheapest = part_at(ranges, from, near, to, known);
        for at in near + 1..to.min(middle + OFF_MIDDLE_MAX + 1) {
            let cost = part_at(ranges, from, at, to, known);
            if cheaper(&cost, &cheapest, middle) == Ordering::Less {
                cheapest = cost;
            }
        }
        cheapest
    };
    known.insert((from, to), cost);
    cost
}

fn part_at(ranges: &[(u32, Tree)], from: usize, at: usize, to: usize, known: &mut Costs) -> Cost {
    let below = search_costs(ranges, from, at, known);
    let above = search_costs(ranges, at, to, known);
    Cost {
        instructions: below.instructions + above.instructions + 1,
        depth: below.depth.max(above.depth) + 1,
        part: Part::At(at),
    }
}

/// Of equals, what is parted nearer to the middle.
fn cheaper(one: &Cost, other: &Cost, middle: usize) -> Ordering {
    let weight = |cost: &Cost| {
        let off = match cost.part {
            Part::At(at) => at.abs_diff(middle),
            Part::Whole | Part::Value => 0,
        };
        (cost.instructions, cost.depth, off)
    };
    weight(one).cmp(&weight(other))
}

/// Whether the second of three ranges is one value between equals.
fn is_value(ranges: &[(u32, Tree)], from: usize) -> bool {
    match ranges.get(from..from + 3) {
        Some([(_, before), (value, _), (next, after)]) => {
            before == after && value.checked_add(1) == Some(*next)
        }
        _ => false,
    }
}

fn start(ranges: &[(u32, Tree)], index: usize) -> u32 {
    ranges.get(index).map_or(0, |(start, _)| *start)
}
