//! The unpickler's stack as simulated by [`super::scan()`], with the ranges of values instead of
//! the values.

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::PickleError;

/// The maximum number of values and marks on a pickle's stack. A transaction's extension has at
/// most 65,535 bytes in the file, and an opcode pushes at most one value.
const MAX_STACK: usize = 1 << 16;

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string, number, boolean or `None`, or bytes made by `_codecs.encode`.
    Scalar,
    /// A global.
    Global,
    /// A tuple.
    Tuple,
    /// Any other value.
    Opaque,
}

/// A value on the simulated stack.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) kind: Kind,
    /// The bytes that make the value, and the opcodes after it that memoize it.
    pub(super) span: Range<usize>,
    /// Where the bytes that make it end.
    pub(super) made: usize,
    /// The elements of a tuple, only two levels deep, so that dropping an item never recurses
    /// deeper.
    pub(super) values: Vec<Item>,
    /// The depth of nested tuples in the value.
    pub(super) depth: usize,
}

impl Item {
    /// Record that an opcode up to `end` has changed the value.
    pub(super) fn extend(&mut self, end: usize) {
        self.made = end;
        self.span.end = end;
    }

    fn shallow(&self) -> Self {
        Self {
            kind: self.kind,
            span: self.span.clone(),
            made: self.made,
            values: Vec::new(),
            depth: self.depth,
        }
    }
}

/// A memoized value: its kind, and the bytes that made it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

/// The stack, its marks, and the memo.
#[derive(Debug, Default)]
pub(super) struct Stack {
    items: Vec<Item>,
    /// The height of `items` at each mark, with the mark's position.
    marks: Vec<(usize, usize)>,
    pub(super) memo: BTreeMap<usize, Named>,
}

impl Stack {
    pub(super) fn push(&mut self, kind: Kind, span: Range<usize>) -> Result<(), PickleError> {
        if self.items.len() + self.marks.len() >= MAX_STACK {
            return Err(PickleError::TooDeep { limit: MAX_STACK });
        }
        self.items.push(Item {
            kind,
            made: span.end,
            span,
            values: Vec::new(),
            depth: 0,
        });
        Ok(())
    }

    pub(super) fn mark(&mut self, position: usize) -> Result<(), PickleError> {
        if self.items.len() + self.marks.len() >= MAX_STACK {
            return Err(PickleError::TooDeep { limit: MAX_STACK });
        }
        self.marks.push((self.items.len(), position));
        Ok(())
    }

    /// The lowest height down to which values can be taken, given the innermost mark.
    fn floor(&self) -> usize {
        self.marks.last().map_or(0, |(height, _)| *height)
    }

    fn split(&mut self, count: usize, at: usize) -> Result<Vec<Item>, PickleError> {
        let rest = self
            .items
            .len()
            .checked_sub(count)
            .filter(|rest| *rest >= self.floor());
        let rest = rest.ok_or(PickleError::StackUnderflow { position: at })?;
        Ok(self.items.split_off(rest))
    }

    /// Takes the topmost `count` values.
    pub(super) fn take(&mut self, count: usize, at: usize) -> Result<Vec<Item>, PickleError> {
        self.split(count, at)
    }

    /// Takes all values above the innermost mark, and the mark; returns its position too.
    pub(super) fn take_to_mark(&mut self, at: usize) -> Result<(usize, Vec<Item>), PickleError> {
        let (height, position) = self
            .marks
            .pop()
            .ok_or(PickleError::StackUnderflow { position: at })?;
        Ok((position, self.items.split_off(height)))
    }

    /// Drops the topmost value, or the mark if it is on top.
    pub(super) fn pop(&mut self, at: usize) -> Result<(), PickleError> {
        if self
            .marks
            .last()
            .is_some_and(|(height, _)| *height == self.items.len())
        {
            self.marks.pop();
            return Ok(());
        }
        self.split(1, at).map(drop)
    }

    /// The topmost value, for an opcode that changes or memoizes it.
    pub(super) fn top(&mut self, at: usize) -> Result<&mut Item, PickleError> {
        let floor = self.floor();
        if self.items.len() <= floor {
            return Err(PickleError::StackUnderflow { position: at });
        }
        self.items
            .last_mut()
            .ok_or(PickleError::StackUnderflow { position: at })
    }

    /// The kind of the value that a `REDUCE` would call: the one below the topmost.
    pub(super) fn callable(&self) -> Option<Kind> {
        self.items.iter().rev().nth(1).map(|item| item.kind)
    }

    /// Pushes the tuple of `values`; returns the depth of nested tuples in it.
    pub(super) fn push_tuple(
        &mut self,
        mut values: Vec<Item>,
        span: Range<usize>,
    ) -> Result<usize, PickleError> {
        let depth = values
            .iter()
            .map(|value| value.depth)
            .max()
            .unwrap_or(0)
            .saturating_add(1);
        for value in &mut values {
            value.values = value.values.iter().map(Item::shallow).collect();
        }
        self.push(Kind::Tuple, span)?;
        if let Some(tuple) = self.items.last_mut() {
            tuple.values = values;
            tuple.depth = depth;
        }
        Ok(depth)
    }

    /// The only value left at the end.
    pub(super) fn finish(
        mut self,
        at: usize,
    ) -> Result<(Item, BTreeMap<usize, Named>), PickleError> {
        match (
            self.items.pop(),
            self.items.is_empty() && self.marks.is_empty(),
        ) {
            (Some(item), true) => Ok((item, self.memo)),
            _ => Err(PickleError::StackUnderflow { position: at }),
        }
    }
}
