//! Iterative scanning of a pickle's opcodes.
//!
//! The scan determines where each value begins and ends, but not what it would become. It limits
//! the stack and never follows a length beyond the end of the pickle, so memory and time are
//! bounded by the pickle's own size, and it does not recurse.

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::PickleError;
use super::opcode::{self, Argument, Effect};
use super::stack::{Item, Kind, Named, Stack};

/// The maximum number of opcodes in a header without its extension: that of a transaction has
/// about forty, twice as many with memo. This limits the cost of repeating a value.
const MAX_HEADER_STEPS: usize = 128;
/// The maximum depth of tuples in a header: the pair, and the fields in it.
const MAX_HEADER_DEPTH: usize = 2;

/// The allowed contents of a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Anything: the pickle will be kept as bytes.
    Opaque,
    /// The parts of headers: scalars, a pair that contains a tuple, and bytes in Python 3's form.
    /// An accepted pickle is small and can safely be decoded by recursion.
    Header,
}

/// One opcode with its position and effect.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) opcode: u8,
    pub(super) effect: Effect,
    /// The opcode and its argument.
    pub(super) span: Range<usize>,
    /// The argument without its length.
    pub(super) argument: Range<usize>,
}

/// The opcode at `position`.
pub(super) fn step(pickle: &[u8], position: usize) -> Result<Step, PickleError> {
    let cut = PickleError::Truncated { position };
    let opcode = *pickle.get(position).ok_or(cut.clone())?;
    let (layout, effect) =
        opcode::describe(opcode).ok_or(PickleError::UnknownOpcode { opcode, position })?;
    let start = position + 1;
    let (argument, end) = match layout {
        Argument::Fixed(length) => (start..start + length, start + length),
        Argument::Counted(width) => {
            let length = little_endian(pickle, start, width).ok_or(cut.clone())?;
            let begin = start + width;
            let end = begin.checked_add(length).ok_or(cut.clone())?;
            (begin..end, end)
        }
        Argument::Lines(count) => {
            let mut end = start;
            for _ in 0..count {
                let rest = pickle.get(end..).ok_or(cut.clone())?;
                end += rest
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .ok_or(cut.clone())?
                    + 1;
            }
            (start..end - 1, end)
        }
    };
    if end > pickle.len() {
        return Err(cut);
    }
    Ok(Step {
        opcode,
        effect,
        span: position..end,
        argument,
    })
}

/// The little-endian number in `width` (1 to 8) bytes at `start`, if they exist and it fits.
fn little_endian(pickle: &[u8], start: usize, width: usize) -> Option<usize> {
    let bytes = pickle.get(start..start.checked_add(width)?)?;
    let number = bytes
        .iter()
        .rev()
        .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    usize::try_from(number).ok()
}

/// The memo index of a `PUT` or `GET`.
pub(super) fn memo_index(pickle: &[u8], step: &Step) -> Result<usize, PickleError> {
    let bad = PickleError::BadMemo {
        position: step.span.start,
    };
    let argument = pickle.get(step.argument.clone()).ok_or(bad.clone())?;
    if matches!(step.opcode, b'p' | b'g') {
        return std::str::from_utf8(argument)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(bad);
    }
    little_endian(pickle, step.argument.start, argument.len()).ok_or(bad)
}

/// The result of a scan.
#[derive(Debug)]
pub struct Scan {
    pub(super) root: Item,
    /// The memo at the end.
    pub(super) memo: BTreeMap<usize, Named>,
    /// The index that each `MEMOIZE` assigned, by its position.
    pub(super) memoized: BTreeMap<usize, usize>,
}

/// Scans the whole pickle.
///
/// # Errors
/// [`PickleError`] with the reason and position.
pub fn scan(pickle: &[u8], policy: Policy) -> Result<Scan, PickleError> {
    let mut walk = Walk {
        pickle,
        policy,
        stack: Stack::default(),
        prefix: None,
        steps: 0,
        memoized: BTreeMap::new(),
    };
    let mut position = 0;
    loop {
        let step = step(pickle, position)?;
        position = step.span.end;
        if step.effect == Effect::Stop {
            if position != pickle.len() {
                return Err(PickleError::TrailingBytes {
                    count: pickle.len() - position,
                });
            }
            let (root, memo) = walk.stack.finish(step.span.start)?;
            return Ok(Scan {
                root,
                memo,
                memoized: walk.memoized,
            });
        }
        walk.apply(&step)?;
    }
}

struct Walk<'a> {
    pickle: &'a [u8],
    policy: Policy,
    stack: Stack,
    /// The start of opcodes without effect that belong to the value after them.
    prefix: Option<usize>,
    steps: usize,
    memoized: BTreeMap<usize, usize>,
}

impl Walk<'_> {
    fn apply(&mut self, step: &Step) -> Result<(), PickleError> {
        if step.effect == Effect::Prefix {
            self.prefix.get_or_insert(step.span.start);
            return Ok(());
        }
        self.check(step)?;
        self.steps += 1;
        let at = step.span.start;
        let span = self.prefix.take().unwrap_or(at)..step.span.end;
        match step.effect {
            Effect::Prefix | Effect::Stop => {}
            Effect::Scalar => self.stack.push(Kind::Scalar, span)?,
            Effect::Global => self.stack.push(Kind::Global, span)?,
            Effect::Opaque => self.stack.push(Kind::Opaque, span)?,
            Effect::EmptyTuple => self.stack.push(Kind::Tuple, span)?,
            Effect::Mark => self.stack.mark(span.start)?,
            Effect::Tuple(count) => {
                let values = self.stack.take(count, at)?;
                let start = values.first().map_or(at, |value| value.span.start);
                self.tuple(values, start..step.span.end)?;
            }
            Effect::TupleFromMark => {
                let (start, values) = self.stack.take_to_mark(at)?;
                self.tuple(values, start..step.span.end)?;
            }
            Effect::OpaqueFromMark => {
                let (start, _) = self.stack.take_to_mark(at)?;
                self.stack.push(Kind::Opaque, start..step.span.end)?;
            }
            Effect::Reduce => {
                let kind = if self.policy == Policy::Header {
                    Kind::Scalar
                } else {
                    Kind::Opaque
                };
                self.combine(2, kind, step)?;
            }
            Effect::Combine(count) => self.combine(count, Kind::Opaque, step)?,
            Effect::Change(count) => {
                self.stack.take(count, at)?;
                self.stack.top(at)?.extend(step.span.end);
            }
            Effect::ChangeFromMark => {
                self.stack.take_to_mark(at)?;
                self.stack.top(at)?.extend(step.span.end);
            }
            Effect::Pop => self.stack.pop(at)?,
            Effect::PopMark => drop(self.stack.take_to_mark(at)?),
            Effect::Duplicate => {
                let kind = self.stack.top(at)?.kind;
                self.stack.push(kind, span)?;
            }
            Effect::Put => {
                let index = memo_index(self.pickle, step)?;
                self.name(index, step)?;
            }
            Effect::Memoize => {
                let index = self.stack.memo.len();
                self.memoized.insert(at, index);
                self.name(index, step)?;
            }
            Effect::Get => {
                let bad = PickleError::BadMemo { position: at };
                let named = self
                    .stack
                    .memo
                    .get(&memo_index(self.pickle, step)?)
                    .ok_or(bad)?;
                if self.policy == Policy::Header && named.kind == Kind::Tuple {
                    return Err(forbidden(step, "a repeated tuple"));
                }
                let kind = named.kind;
                self.stack.push(kind, span)?;
            }
        }
        Ok(())
    }

    fn combine(&mut self, count: usize, kind: Kind, step: &Step) -> Result<(), PickleError> {
        let values = self.stack.take(count, step.span.start)?;
        let start = values
            .first()
            .map_or(step.span.start, |value| value.span.start);
        self.stack.push(kind, start..step.span.end)
    }

    fn tuple(&mut self, values: Vec<Item>, span: Range<usize>) -> Result<(), PickleError> {
        let depth = self.stack.push_tuple(values, span)?;
        if self.policy == Policy::Header && depth > MAX_HEADER_DEPTH {
            return Err(PickleError::TooDeep {
                limit: MAX_HEADER_DEPTH,
            });
        }
        Ok(())
    }

    fn name(&mut self, index: usize, step: &Step) -> Result<(), PickleError> {
        let top = self.stack.top(step.span.start)?;
        let named = Named {
            kind: top.kind,
            span: top.span.start..top.made,
        };
        top.span.end = step.span.end;
        self.stack.memo.insert(index, named);
        Ok(())
    }

    /// Refuses opcodes that headers do not use.
    fn check(&mut self, step: &Step) -> Result<(), PickleError> {
        if self.policy == Policy::Opaque {
            return Ok(());
        }
        if self.steps >= MAX_HEADER_STEPS {
            return Err(PickleError::TooDeep {
                limit: MAX_HEADER_STEPS,
            });
        }
        match step.effect {
            Effect::Global => {
                let name = self.pickle.get(step.argument.clone()).unwrap_or_default();
                match name {
                    b"_codecs\nencode" | b"__builtin__\nbytes" | b"builtins\nbytes" => Ok(()),
                    other => Err(forbidden(
                        step,
                        &String::from_utf8_lossy(other).replace('\n', "."),
                    )),
                }
            }
            Effect::Reduce => match self.stack.callable() {
                Some(Kind::Global) => Ok(()),
                _ => Err(forbidden(step, "a call of another value than a global")),
            },
            Effect::Opaque
            | Effect::OpaqueFromMark
            | Effect::Combine(_)
            | Effect::Change(_)
            | Effect::ChangeFromMark
            | Effect::Pop
            | Effect::PopMark
            | Effect::Duplicate => Err(forbidden(step, "not used in headers")),
            _ => Ok(()),
        }
    }
}

fn forbidden(step: &Step, detail: &str) -> PickleError {
    PickleError::Forbidden {
        opcode: step.opcode,
        detail: detail.to_owned(),
        position: step.span.start,
    }
}
